"""An artefact is a directory that is whole or absent, with a manifest that says what it is and where it comes from.

`manifest.json` is an in-toto Statement v1 (https://github.com/in-toto/attestation) in RFC 8785 canonical form:
`subject` lists every file with its sha256; our predicate holds kind, id, parents, settings, code, counts, filters.

id    sha256 over kind, files and parents' ids: the same inputs, settings and code give the same id, on any day
seal  sha256 over the whole statement but the seal: a child names its parents by id and seal, so that a changed
      count or setting upstream shows. A seal finds damage; it is no signature and stops no forger.

Times, the host and logs go to `run/`, which no digest covers and in which nothing may be needed to trust the rest.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import starsmith
from starsmith.core.config import to_table
from starsmith.core.errors import ArtifactError, ConfigError, InputError, StarsmithError
from starsmith.core.statement import canonical, read_bytes, read_statement
from starsmith.core.version import commit, source_sha256

MANIFEST, RUN = "manifest.json", "run"
# Set beside the manifest when what an artefact was made from is withdrawn; no digest covers them.
MARKS = ("tainted.json", "tombstones.json")
# In run/: what the work began from, where the parents lay, how long it took (its last session, if it was resumed).
STARTED, PARENTS, TIMES = "started.json", "parents.json", "times.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "starsmith/manifest/v1"


@dataclass(frozen=True)
class Parent:
    """An artefact that another was made from."""

    role: str
    id: str
    seal: str


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says, after its own id and seal were found to hold."""

    kind: str
    id: str
    seal: str
    files: dict[str, str]  # relative path -> hex sha256
    parents: tuple[Parent, ...]
    config: dict[str, Any]
    code: dict[str, str]
    counts: dict[str, int]
    filters: tuple[str, ...]  # in the order in which they were applied


@dataclass
class Draft:
    """An artefact being written: put files below `path`, logs below `run`, and count what was kept or dropped."""

    path: Path
    counts: Counter[str] = field(default_factory=Counter)
    filters: list[str] = field(default_factory=list)
    resumed: bool = False
    settings: dict[str, Any] = field(default_factory=dict)  # resolved values that replace the configured ones

    @property
    def run(self) -> Path:
        """Directory for what no digest covers: times, host, logs."""
        return self.path / RUN

    def count(self, reason: str, number: int = 1) -> None:
        """Add to the account that ends up in the manifest."""
        self.counts[reason] += int(number)  # numpy's integers have no JSON form


@contextmanager
def create(
    out: Path,
    *,
    kind: str,
    config: Any,
    rooms: Sequence[str],
    parents: Mapping[str, Path] | None = None,
    resume: bool = False,
    dear: str = "",
) -> Iterator[Draft]:
    """Write an artefact through `OUT.partial`; it gets its name only when all of it is there.

    rooms    the packages whose code decides the outcome, for example ("core", "corpus")
    parents  role -> directory of an artefact this one is made from
    resume   keep the partial directory when the work is interrupted, and take it up again if nothing changed
    dear     a folder in run/: if something is in it and the work cannot be taken up, that is an error; without it, what
             an interrupted work of other settings left is thrown away
    """
    out = out.resolve() if out.is_symlink() else out
    _check_place(out, kind, parents or {})
    lineage = _lineage(kind, config, rooms, parents or {})
    partial = out.with_name(out.name + ".partial")
    draft = Draft(partial, resumed=resume and _can_resume(partial, lineage))
    if not draft.resumed:
        if dear and any((partial / RUN / dear).glob("*")):
            raise ArtifactError(
                f"{partial} holds an interrupted work that other settings, inputs or code began",
                hint="give the same settings to go on with it, another --out to keep it, or remove it",
            )
        _discard_partial(partial)
    parent_is_new = not out.parent.exists()
    _make_run_directory(draft)
    began = time.monotonic()
    try:
        if not draft.resumed:  # else it stands there: written anew, a kill or a full disk could lose it, and the run
            (draft.run / STARTED).write_text(json.dumps(lineage))
        yield draft
        links = {role: os.path.relpath(path.resolve(), out.resolve()) for role, path in (parents or {}).items()}
        (draft.run / PARENTS).write_text(json.dumps(links))
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        times = {"seconds": round(time.monotonic() - began, 3), "finished": finished}
        (draft.run / TIMES).write_text(json.dumps(times))
        _write_manifest(draft, lineage)
        _keep_seal(partial, out)
    except BaseException as error:
        if not resume or [file.name for file in partial.rglob("*") if file.is_file()] == [STARTED]:
            shutil.rmtree(partial, ignore_errors=True)
            if parent_is_new:
                with suppress(OSError):  # not empty: another artefact lies in it by now
                    out.parent.rmdir()
        if _disk_is_full(error):
            raise StarsmithError(
                f"no space left on the disk of {out}", hint="free some space, or give --out on another disk"
            ) from None
        raise
    _replace(partial, out)


def read(path: Path, *, kind: str | None = None) -> Manifest:
    """The manifest of an artefact, its id and seal checked (the files' digests are not: see `verify`)."""
    if not path.is_dir():
        fault = "is not a directory" if path.exists() else "does not exist"
        raise ArtifactError(f"{path} {fault}", hint="give the directory that a starsmith command wrote")
    try:
        statement = read_statement(path / MANIFEST)
        manifest = _parse(statement)
    except (FileNotFoundError, IsADirectoryError):
        raise ArtifactError(
            f"{path} has no {MANIFEST}, so it is no finished artefact",
            hint="run the command that makes it again",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path / MANIFEST} is damaged: {error!r}", hint="restore it, or rebuild") from None
    if (seen := _id(manifest.kind, manifest.files, manifest.parents)) != manifest.id:
        raise ArtifactError(f"{path / MANIFEST} gives id {manifest.id}, its content has id {seen}", hint="restore it")
    if (seen := _seal(statement)) != manifest.seal:
        raise ArtifactError(f"{path / MANIFEST} was changed after it was sealed", hint="restore it, or rebuild")
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{path} is of kind {manifest.kind}, wanted: {kind}", hint=f"give the {kind} directory")
    return manifest


def verify(path: Path) -> list[str]:
    """Every way in which the directory differs from its manifest, each naming the file; empty when it holds."""
    try:
        manifest = read(path)
    except ArtifactError as error:
        return [error.message]
    problems = [f"{path / MANIFEST} is a link"] if (path / MANIFEST).is_symlink() else []
    present = _list_files(path)
    for name in sorted(set(manifest.files) | set(present)):
        if name not in present:
            problems.append(f"{path / name} is missing")
        elif name not in manifest.files:
            problems.append(f"{path / name} is not in the manifest")
        elif (path / name).is_symlink() or not (path / name).is_file():
            problems.append(f"{path / name} is a link or device, not a file")
        elif _file_sha256(path / name) != manifest.files[name]:
            problems.append(f"{path / name} was changed: its sha256 is not {manifest.files[name][:16]}…")
    return problems


def is_up_to_date(out: Path, *, config: Any, parents: Mapping[str, Path]) -> bool:
    """True when `out` is whole and was made from equal settings, inputs and code: a re-run would give the same."""
    if verify(out):
        return False
    manifest = read(out)
    wanted = _lineage(manifest.kind, config, manifest.code.get("rooms", "").split(), parents)
    same_parents = [vars(parent) for parent in manifest.parents] == wanted["parents"]
    return same_parents and _began_from(out, wanted)


def _lineage(kind: str, config: Any, rooms: Sequence[str], parents: Mapping[str, Path]) -> dict[str, Any]:
    manifests = {role: read(path) for role, path in parents.items()}
    lineage = {
        "kind": kind,
        "parents": [{"role": role, "id": found.id, "seal": found.seal} for role, found in sorted(manifests.items())],
        "config": to_table(config),
        "code": {
            "package": f"starsmith {starsmith.__version__}",
            "rooms": " ".join(sorted(rooms)),
            "source_sha256": source_sha256(rooms),
            "commit": commit(),
        },
    }
    try:
        canonical(json.loads(canonical(lineage)))  # 1e20 is written as an integer that cannot be read back
    except ValueError as error:  # before the work, not after it
        raise ConfigError(f"a setting of the {kind} has no JSON form: {error}", hint="mend the value") from None
    return lineage


def _check_place(out: Path, kind: str, parents: Mapping[str, Path]) -> None:
    """Only an empty place or an earlier artefact of the same kind is written over."""
    if out.name in ("", ".."):
        raise InputError(f"{out} is no name for a new directory", hint="for example --out runs/new")
    for role, parent in parents.items():
        if out.resolve().is_relative_to(parent.resolve()):
            raise InputError(f"{out} lies in the {role} that it is to be made from", hint="give another --out")
    file = out / MANIFEST
    content = file.read_bytes() if file.is_file() else b""
    if PREDICATE_TYPE.encode() in content:
        if f'"kind":"{kind}"'.encode() not in content:
            raise InputError(f"{out} is an artefact, but not a {kind}", hint="give another --out, or move it away")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an artefact", hint="give another --out, or move it away")


def _discard_partial(partial: Path) -> None:
    """Remove what an interrupted run left; anything else of that name is not ours to remove."""
    if partial.is_symlink() or (partial.exists() and not (partial / RUN).is_dir()):
        raise InputError(f"{partial} is in the way", hint="move it away")
    shutil.rmtree(partial, ignore_errors=True)


def _make_run_directory(draft: Draft) -> None:
    try:
        draft.run.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{draft.path.parent} is not a directory to write in", hint="give another --out") from None
    except FileNotFoundError:  # such as /proc, whose folders are not made by users
        raise InputError(f"nothing can be written in {draft.path.parent}", hint="give another --out") from None


def _can_resume(partial: Path, lineage: dict[str, Any]) -> bool:
    """True when an interrupted run with the same settings, inputs and code can be taken up."""
    return not partial.is_symlink() and _began_from(partial, lineage)


def _began_from(path: Path, lineage: dict[str, Any]) -> bool:
    """True when the work at `path` was started from `lineage`; a commit that touched other code makes no difference."""
    try:
        started = json.loads(read_bytes(path / RUN / STARTED))
        return bool(_without_commit(started) == _without_commit(lineage))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _without_commit(lineage: Mapping[str, Any]) -> dict[str, Any]:
    return {**lineage, "code": {**lineage["code"], "commit": ""}}


def _write_manifest(draft: Draft, lineage: dict[str, Any]) -> None:
    files = {name: _file_sha256(draft.path / name) for name in _list_files(draft.path)}
    parents = tuple(Parent(**parent) for parent in lineage["parents"])
    statement: dict[str, Any] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            **lineage,
            "config": {**lineage["config"], **draft.settings},
            "id": _id(lineage["kind"], files, parents),
            "counts": dict(draft.counts),
            "filters": draft.filters,
        },
    }
    statement["predicate"]["seal"] = _seal(statement)
    (draft.path / MANIFEST).write_bytes(canonical(statement))


def _parse(statement: dict[str, Any]) -> Manifest:
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError(f"not a {PREDICATE_TYPE} statement")
    predicate = statement["predicate"]
    return Manifest(
        kind=predicate["kind"],
        id=predicate["id"],
        seal=predicate["seal"],
        files={subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]},
        parents=tuple(Parent(**parent) for parent in predicate["parents"]),
        config=predicate["config"],
        code=predicate["code"],
        counts=predicate["counts"],
        filters=tuple(predicate["filters"]),
    )


def _id(kind: str, files: Mapping[str, str], parents: Sequence[Parent]) -> str:
    identity = {"kind": kind, "files": dict(files), "parents": {parent.role: parent.id for parent in parents}}
    return hashlib.sha256(canonical(identity)).hexdigest()


def _seal(statement: dict[str, Any]) -> str:
    predicate = {key: value for key, value in statement["predicate"].items() if key != "seal"}
    return hashlib.sha256(canonical({**statement, "predicate": predicate})).hexdigest()


def _list_files(path: Path) -> list[str]:
    """Everything in the artefact but folders, the manifest, marks and `run/`, relative and `/` separated."""
    names = (file.relative_to(path) for file in path.rglob("*") if file.is_symlink() or not file.is_dir())
    return sorted(
        name.as_posix() for name in names if name.parts[0] != RUN and name.as_posix() not in (MANIFEST, *MARKS)
    )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep_seal(partial: Path, out: Path) -> None:
    """Made again at another commit and equal in all else, an artefact keeps its manifest.

    Otherwise its seal would change, and everything that was made from it would have to be made again.
    """
    new = read(partial)
    try:
        old = read(out)
    except ArtifactError:
        return
    if replace(old, seal="", code={**old.code, "commit": ""}) == replace(new, seal="", code={**new.code, "commit": ""}):
        shutil.copyfile(out / MANIFEST, partial / MANIFEST)


def _disk_is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # pyarrow, safetensors and torch wrap the system's error in types of their own.
    return isinstance(error, Exception) and "No space left on device" in str(error)


def _replace(partial: Path, out: Path) -> None:
    """Give the finished directory its name; a former artefact of that name goes only after that, but for its marks."""
    old = out.with_name(f".{out.name}.replaced")  # hidden: NAME.old may well be a copy that the user keeps
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
        for name in MARKS:  # made again, it is made of what was withdrawn, until somebody takes the mark away
            with suppress(FileNotFoundError):
                (old / name).rename(partial / name)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)
