"""What was made from something that is withdrawn is found by the ids of its parents, and marked with the request's id.

`tainted.json` stands in every artefact downstream; in an index `tombstones.json` also names the documents, which are no
longer reported from that moment on. A mark has ids of requests and numbers of rows, and no names, so that it identifies
nobody. Marks only grow: to set one again changes nothing, and an interrupted command is run once more.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.core import ancestry, artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.statement import parse_json

TAINTED, TOMBSTONES = artifact.MARKS
DOCUMENTS = "documents.parquet"
LARGEST_MARK_BYTES = 256 << 20
MOST_FOLDERS = 100_000  # that are looked through
DEEPEST = 8  # folders below a place

Document = tuple[str, str, str]  # repository, path, SWHID


@dataclass(frozen=True)
class Downstream:
    """An artefact that was made from the withdrawn one, or that is it."""

    path: Path
    kind: str
    id: str


@dataclass(frozen=True)
class Search:
    """What was found, the withdrawn artefact itself first."""

    found: tuple[Downstream, ...]
    unknown: tuple[Path, ...]  # artefacts whose chain leads to one that is not there, so that nobody can tell


@dataclass(frozen=True)
class Mark:
    """A mark as it is to stand in an artefact."""

    artefact: Downstream
    name: str
    requests: tuple[str, ...]
    documents: tuple[int, ...] = ()  # rows of an index


def search(
    origin: Path,
    places: Sequence[Path] = (),
    *,
    before: Sequence[str] = (),
    among: Mapping[Path, artifact.Manifest] | None = None,
) -> Search:
    """What was made from the artefact at `origin`: beside it, and anywhere below `places`; or else among these.

    before  ids of artefacts that had it too: those that the one at `origin` took the place of
    """
    withdrawn = artifact.read(origin)
    candidates = {origin.resolve(): withdrawn, **(artefacts(origin, places) if among is None else among)}
    chain = _Chain((withdrawn.id, *before), {manifest.id: path for path, manifest in reversed(candidates.items())})
    judged = [(path, manifest, chain.leads(path, manifest)) for path, manifest in candidates.items()]
    found = [Downstream(path, manifest.kind, manifest.id) for path, manifest, leads in judged if leads]
    return Search(tuple(found), tuple(path for path, _, leads in judged if leads is None))


def artefacts(origin: Path, places: Sequence[Path] = ()) -> dict[Path, artifact.Manifest]:
    """The artefact at `origin`, and those beside it and below `places`."""
    found = {origin.resolve(): artifact.read(origin)}
    for place in places:
        if not place.is_dir():
            raise InputError(f"{place} is no directory", hint="give a folder that has artefacts in it")
    for directory in (*_beside(origin), *(one for place in places for one in _below(place))):
        if directory.resolve() not in found:
            try:
                found[directory.resolve()] = artifact.read(directory)
            except ArtifactError:  # no artefact, or one that `verify` does not let pass
                continue
    return found


def marks_of(found: Search, ids: Sequence[str], documents: Collection[Document]) -> list[Mark]:
    """The marks to set; `documents` are those of the corpus that go."""
    requests = tuple(dict.fromkeys(ids))
    return [
        Mark(one, TOMBSTONES, requests, tuple(_rows_of(one.path, documents)))
        if one.kind == "index"
        else Mark(one, TAINTED, requests)
        for one in found.found
    ]


def set_marks(marks: Iterable[Mark]) -> int:
    """Set marks, each joined with the one that stands there; returns how many changed."""
    return sum(_set(mark) for mark in marks)


def _set(mark: Mark) -> bool:
    place = mark.artefact.path / mark.name
    before = _read(place)
    ids = dict.fromkeys([*(request["id"] for request in before.get("requests", ())), *mark.requests])
    after: dict[str, Any] = {"requests": [{"id": one} for one in ids]}
    if mark.name == TOMBSTONES:
        after["corpus"] = _corpus_of(mark.artefact.path)
        if before.get("corpus", after["corpus"]) != after["corpus"]:
            raise ArtifactError(
                f"{place} has rows of another corpus than the index there was made from",
                hint=f"take it away, and run this again with all requests: {', '.join(ids)}",
            )
        after["documents"] = sorted({*before.get("documents", ()), *mark.documents})
    if after == before:
        return False
    _write(place, after)
    return True


def _corpus_of(index: Path) -> str:
    """The id of the corpus of an index, of whose training files its rows are."""
    return next((parent.id for parent in artifact.read(index).parents if parent.role == "corpus"), "")


def lift(path: Path, ids: Collection[str]) -> None:
    """Take requests out of the mark of an artefact that was made anew without what they hold for."""
    place = path / TAINTED
    before = _read(place)
    if not before:
        return
    left = [request for request in before["requests"] if request["id"] not in ids]
    if not left:
        place.unlink()
    elif left != before["requests"]:
        _write(place, {**before, "requests": left})


def _write(place: Path, mark: dict[str, Any]) -> None:
    # In run/, which no digest covers and which lies on the artefact's own disk.
    partial = place.parent / artifact.RUN / f"{place.name}.{os.getpid()}"
    partial.parent.mkdir(exist_ok=True)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(mark) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def _read(place: Path) -> dict[str, Any]:
    """The mark that stands there; one that says something else is not written over."""
    if not os.path.lexists(place):
        return {}
    try:
        if place.is_symlink() or not place.is_file() or place.stat().st_size > LARGEST_MARK_BYTES:
            raise ValueError("it is a link, no file, or too large")
        found = parse_json(place.read_bytes())
        if not isinstance(found, dict) or found.keys() - {"requests", "corpus", "documents"}:
            raise ValueError("it has other fields than requests, corpus and documents")
        for request in found["requests"]:
            if not isinstance(request["id"], str):
                raise ValueError("an id is no text")
        if any(type(row) is not int for row in found.get("documents", ())):
            raise ValueError("a document is no number")
        return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{place} is no mark that another id can be added to: {error}", hint="move it away, and run this again"
        ) from None


def _rows_of(index: Path, documents: Collection[Document]) -> Iterator[int]:
    """Rows of an index' documents, ascending, that are among these."""
    try:
        with pq.ParquetFile(index / DOCUMENTS) as file:
            table = file.read(["repository", "path", "swhid"])
        columns = [table[name].to_pylist() for name in ("repository", "path", "swhid")]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ArtifactError(f"{index / DOCUMENTS} cannot be read: {error}", hint="make the index again") from None
    yield from (row for row, values in enumerate(zip(*columns, strict=True)) if values in documents)


@dataclass
class _Chain:
    """Walks up from artefacts to their parents, wherever these are."""

    wanted: tuple[str, ...]
    places: Mapping[str, Path]  # of artefacts by id

    def __post_init__(self) -> None:
        self.known: dict[str, bool | None] = dict.fromkeys(self.wanted, True)

    def leads(self, path: Path, manifest: artifact.Manifest) -> bool | None:
        """Whether an artefact was made from a wanted one, or is one; None where a parent is missing."""
        if manifest.id not in self.known:
            self.known[manifest.id] = None  # for a chain that leads back to itself
            judged = [self._parent(path, parent) for parent in manifest.parents]
            self.known[manifest.id] = True if True in judged else None if None in judged else False
        return self.known[manifest.id]

    def _parent(self, path: Path, parent: artifact.Parent) -> bool | None:
        if parent.id in self.known:
            return self.known[parent.id]
        try:
            place = self.places.get(parent.id) or ancestry.parent_directory(path, parent.role)
            return self.leads(place, artifact.read(place))
        except (ArtifactError, OSError):
            return None


def _beside(origin: Path) -> Iterator[Path]:
    yield from (path for path in sorted(origin.resolve().parent.iterdir()) if _is_artefact(path))


def _is_artefact(folder: Path) -> bool:
    return os.path.isfile(folder / artifact.MANIFEST)  # noqa: PTH113 Path.is_file raises where one may not look


def _below(place: Path) -> Iterator[Path]:
    """Every artefact below a place, no link followed; nothing inside one is looked at."""
    waiting, looked = [(place.resolve(), 0)], 0
    for folder, depth in waiting:
        looked += 1
        if looked > MOST_FOLDERS:
            raise InputError(
                f"{place} has more than {MOST_FOLDERS:,} folders", hint="give the run directories themselves"
            )
        if _is_artefact(folder):
            yield folder
            continue
        if depth < DEEPEST:
            try:
                children = sorted(
                    Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)
                )
            except OSError:  # a folder that is not ours to read
                continue
            waiting += [(child, depth + 1) for child in children if child.name != ".git"]
