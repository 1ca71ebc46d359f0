"""Git repositories, on this machine or at a URL, become units of the blobs of one commit, or of all since a date.

Only git's plumbing reads them, so that no hook, filter, textconv or alias of a repository runs; nothing is fetched but
the URL that a user named.
"""

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path, PurePosixPath
from typing import IO

from starsmith.core.errors import InputError
from starsmith.corpus.files import Drop, Unreadable
from starsmith.corpus.licenses import NOTHING, Finding, looks_like_license_file
from starsmith.corpus.trees import Entry, Tree, Unit, in_path_order, plan_units, too_large

# git finds its repository by these before it looks at the folder; a hook that runs us sets them.
_PLACE_VARIABLES = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "COMMON_DIR", "INDEX_FILE", "PREFIX", "NAMESPACE"),
        *("OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES"),
    )
)
# No object stands in for another, nobody is asked for a password.
_SETTINGS = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
# Nothing is fetched for a partial clone: the first says so to newer versions, the second leaves older ones no way.
_NO_NETWORK = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}
_NETWORK = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}

_URL = re.compile(r"(?:https?|ssh|git|file)://.+|[\w.-]+@[\w.-]+:.+")
_FILE_MODES = (b"100644", b"100755", b"100664")  # not links (120000) and submodules (160000)
_CHUNK_BYTES = 2**20
_MOST_RESTARTS = 1_000  # of a git that gave up on an object, in one unit


@dataclass(frozen=True)
class GitReader:
    """Reads blobs through `git cat-file --batch`; an object that git gives up on costs only itself."""

    root: Path

    def contents(self, entries: Sequence[Entry], largest_bytes: int) -> Generator[bytes | Drop]:
        """The content of each entry in their order, or why there is none."""
        done = 0
        for _ in range(_MOST_RESTARTS):
            with self._batch(entries[done:]) as answers:
                for entry in entries[done:]:
                    content = _answer(answers, entry, largest_bytes)
                    if content is None:  # git has ended
                        break
                    done += 1
                    yield content
            if done == len(entries):
                return
            done += 1
            yield Drop("unreadable", f"git cannot read object {entries[done - 1].key}")
        for entry in entries[done:]:
            yield Drop("unreadable", f"object {entry.key}: git gave up on {_MOST_RESTARTS:,} objects before it")

    @contextmanager
    def _batch(self, entries: Sequence[Entry]) -> Iterator[IO[bytes]]:
        # The ids lie in a file, so that git never waits for us nor we for git with full pipes; --buffer then saves it
        # a write for each object (2 to 3 times as fast).
        with tempfile.TemporaryFile() as asks:
            asks.writelines(f"{entry.key}\n".encode() for entry in entries)
            asks.seek(0)
            with _running(self.root, ["cat-file", "--batch", "--buffer"], stdin=asks) as process:
                assert process.stdout is not None
                yield process.stdout


@dataclass(frozen=True)
class GitSource:
    """A git repository, bare or not, or a folder of one, at one commit. Uncommitted changes are not part of it."""

    root: Path
    repository: str
    commit: str
    written: str = ""  # date of the commit, ISO 8601
    folder: str = ""  # "" or "src/package/": only this part, and the licence files that hold for it
    since: date | None = None  # also every version of a file that a commit since then wrote
    declared_license: Finding = NOTHING
    found: bool = False  # in a folder, not named by the user: that it cannot be read is counted, and stops nothing
    fault: str = ""  # why nothing of it can be read

    def units(self, *, largest_bytes: int) -> list[Unit]:
        """Units of its files in path order; of versions of one file, the newest comes first."""
        items: list[Entry | Unreadable] = []
        fault = self.fault
        if not fault:
            try:
                items = in_path_order(self._listed(), self.repository)
            except InputError as error:
                if not self.found:
                    raise
                fault = error.message
        if fault:
            items = [Unreadable("", self.repository, Drop("unreadable_repository", fault))]
        if not items and not self.found:
            raise InputError(f"{self.root} has no file at {self.commit}", hint="give a repository with source code")
        tree = Tree(
            repository=self.repository,
            reader=GitReader(self.root),
            commit=self.commit,
            date=self.written,
            declared=self.declared_license,
        )
        return plan_units(tree, items, largest_bytes=largest_bytes)

    def _listed(self) -> Iterator[Entry]:
        if self.since is None:
            yield from self._tree()
            return
        seen: set[str] = set()
        for entry in self._tree():
            if entry.key not in seen:
                seen.add(entry.key)
                yield entry
        yield from _sized(self.root, self._versions(self.since, seen))

    def _tree(self) -> Iterator[Entry]:
        """Every blob of the commit's tree that is a regular file."""
        # A partial clone lacks blobs: git would stop for want of their sizes; reading says which are missing.
        sizes = [] if _is_partial(self.root) else ["-l"]
        for line in _null_separated(self.root, ["ls-tree", "-r", *sizes, "-z", "--full-tree", self.commit]):
            meta, path = line.split(b"\t", 1)
            mode, _, blob, *size = meta.split()
            name = path.decode("utf-8", "replace")
            if mode in _FILE_MODES and self._is_part(name):
                yield Entry(name, int(size[0]) if size and size[0].isdigit() else 0, blob.decode())

    def _versions(self, since: date, seen: set[str]) -> Iterator[Entry]:
        """Each blob not in `seen` that a commit since then wrote, with the newest such commit; sizes not yet known.

        Of a merge, what is in none of its parents (-c).
        """
        after = int(datetime.combine(since, time.min, UTC).timestamp())
        commits = _git(self.root, "rev-list", f"--max-age={after}", self.commit)
        command = ["diff-tree", "--stdin", "-r", "-c", "--root", "-z", "--no-renames", "--raw", "--format=%H %cI"]
        commit = written = ""
        with tempfile.TemporaryFile() as asks, closing(_null_separated(self.root, command, asks)) as tokens:
            asks.write(commits)
            asks.seek(0)
            for token in tokens:
                change = token.lstrip(b"\n")
                if not change:  # before the changes of a merge
                    continue
                if not change.startswith(b":"):
                    commit, _, written = change.decode().partition(" ")
                    continue
                path = next(tokens).decode("utf-8", "replace")
                parents = len(change) - len(change.lstrip(b":"))
                fields = change[parents:].split()  # a mode and then an id of each parent, and of the commit
                mode, blob = fields[parents], fields[2 * parents + 1].decode()
                if mode in _FILE_MODES and blob not in seen and self._is_part(path):
                    seen.add(blob)
                    yield Entry(path, 0, blob, commit=commit, date=written)

    def _is_part(self, path: str) -> bool:
        if path.startswith(self.folder):
            return True
        above = PurePosixPath(self.folder).is_relative_to(PurePosixPath(path).parent)
        return above and looks_like_license_file(path)


def is_url(place: str) -> bool:
    """True for https://, ssh://, git:// and file:// URLs, and for git@host:path."""
    return _URL.fullmatch(place) is not None


def is_repository(path: Path) -> bool:
    """True for the top of a repository, a worktree or a submodule, and for a bare one."""
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def open_repository(path: Path, *, revision: str | None = None, since: date | None = None) -> GitSource:
    """The repository at its HEAD or a revision; InputError if git cannot read it."""
    commit, written = _resolve(path, revision)
    return GitSource(path, _remote(path) or path.name, commit, written, since=since)


def found_repository(path: Path) -> GitSource:
    """A repository that lies in a folder of several; if git cannot read it, a source that says so and nothing else."""
    try:
        commit, written = _resolve(path, None)
        return GitSource(path, _remote(path) or path.name, commit, written, found=True)
    except InputError as error:
        return GitSource(path, path.name, "", found=True, fault=error.message)


def part_of_repository(path: Path, *, revision: str | None = None, since: date | None = None) -> GitSource | None:
    """The enclosing git repository, restricted to `path`, when its commit has files there."""
    try:
        top, folder = _git(path, "rev-parse", "--show-toplevel", "--show-prefix").decode().splitlines()
        root = Path(top)
        commit, written = _resolve(root, None)
    except (InputError, ValueError):  # no repository, none with a commit, or no git: a folder like any other
        return None
    if revision is not None:
        commit, written = _resolve(root, revision)
    if not folder or not _git(root, "ls-tree", "-z", "--full-tree", "--name-only", commit, folder):
        return None
    return GitSource(root, _remote(root) or root.name, commit, written, folder, since)


def fetch(url: str, cache: Path, *, revision: str | None = None, since: date | None = None) -> GitSource:
    """The repository at a URL, fetched bare into a folder of `cache`: one commit, or all its history for `since`."""
    repository = without_credentials(url)
    wanted = _checked(revision) or "HEAD"
    name = re.sub(r"[^\w.-]+", "-", repository.rstrip("/").removesuffix(".git"))[-60:].strip("-.")
    depth = [] if since else ["--depth=1"]
    key = hashlib.sha256(f"{repository} {bool(since)}".encode()).hexdigest()[:12]
    root = cache / f"{name}-{key}.git"
    root.mkdir(parents=True, exist_ok=True)
    _git(root, "init", "--bare", "--quiet", "--template=", ".")
    # A ref of its own for each revision, so that none is pruned and several can be read at once.
    kept = f"refs/starsmith/{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
    arguments = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", *depth]
    try:
        _git(root, *arguments, "--end-of-options", url, f"+{wanted}:{kept}", network=True)
    except InputError as error:
        message = error.message.replace(url, repository).replace(str(root), repository)
        hint = "check the URL with git ls-remote; a revision is a branch, a tag or a full commit id"
        raise InputError(message, hint=hint) from None
    commit, written = _resolve(root, kept)
    return GitSource(root, repository, commit, written, since=since)


def without_credentials(url: str) -> str:
    """The URL without a user name or password in it."""
    scheme, separator, rest = url.partition("://")
    host, slash, name = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{name}" if separator else url


def _resolve(path: Path, revision: str | None) -> tuple[str, str]:
    """The full id and the committer date (ISO 8601) of a commit."""
    wanted = _checked(revision) or "HEAD"
    try:
        commit = _git(path, "rev-parse", "--verify", f"{wanted}^{{commit}}").decode().strip()
    except InputError:
        if revision is None or not _git(path, "rev-parse", "--git-dir"):  # else it is the repository that is at fault
            raise
        raise InputError(
            f"{path} has no revision {revision!r}", hint="give a branch, a tag or a commit id; a shallow clone has few"
        ) from None
    lines = _git(path, "rev-list", "--max-count=1", "--format=%cI", commit).decode().splitlines()
    return commit, lines[-1]


def _checked(revision: str | None) -> str | None:
    if revision is not None and (not revision.strip() or revision.startswith("-") or ":" in revision):
        raise InputError(f"revision {revision!r} names no commit", hint="give a branch, a tag or a commit id")
    return revision


def _remote(path: Path) -> str:
    """URL of the remote `origin`, without a user name or password in it; "" if there is none."""
    try:
        return without_credentials(_git(path, "config", "--get", "remote.origin.url").decode().strip())
    except InputError:
        return ""


def _is_partial(path: Path) -> bool:
    try:
        return bool(_git(path, "config", "--get-regexp", r"^remote\..*\.(promisor|partialclonefilter)$"))
    except InputError:  # no such setting
        return False


def _answer(answers: IO[bytes], entry: Entry, largest_bytes: int) -> bytes | Drop | None:
    """What `cat-file --batch` says of an entry; None if it has ended."""
    header = answers.readline()
    fields = header.split()
    if not header.endswith(b"\n"):
        return None
    if len(fields) != 3:  # "<id> missing"
        return Drop("unreadable", f"git has no object {entry.key}")
    size_bytes = int(fields[2])
    if size_bytes > largest_bytes:  # of a partial clone, of which the listing gives no sizes
        left = size_bytes + 1
        while left and (chunk := answers.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
        return None if left else too_large(size_bytes, largest_bytes)
    content = answers.read(size_bytes + 1)  # and the line end after it
    return content[:-1] if len(content) == size_bytes + 1 else None


def _sized(root: Path, entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries with their sizes, 0 for an object that is not there."""
    listed = list(entries)
    with tempfile.TemporaryFile() as asks:
        asks.writelines(f"{entry.key}\n".encode() for entry in listed)
        asks.seek(0)
        command = ["cat-file", "--batch-check=%(objectsize)", "--buffer"]
        with _running(root, command, stdin=asks) as process:
            assert process.stdout is not None
            for entry, answer in zip(listed, process.stdout, strict=False):
                size_bytes = int(answer) if answer.strip().isdigit() else 0
                yield Entry(entry.path, size_bytes, entry.key, commit=entry.commit, date=entry.date)


def _null_separated(root: Path, arguments: Sequence[str], stdin: IO[bytes] | None = None) -> Generator[bytes]:
    """What git prints, cut at NUL, as it comes; InputError if git fails."""
    with tempfile.TemporaryFile() as errors:
        with _running(root, arguments, stdin=stdin, stderr=errors) as process:
            assert process.stdout is not None
            rest = b""
            while chunk := process.stdout.read(_CHUNK_BYTES):
                *whole, rest = (rest + chunk).split(b"\0")
                yield from whole
            failed = process.wait() != 0
        if failed:
            errors.seek(0)
            raise _fault(root, errors.read())


@contextmanager
def _running(
    root: Path, arguments: Sequence[str], *, stdin: IO[bytes] | None, stderr: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """git, killed if it still runs at the end."""
    command = ["git", "-C", str(root), *arguments]
    with subprocess.Popen(  # noqa: S603
        command,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr or subprocess.DEVNULL,
        bufsize=_CHUNK_BYTES,
        env=_environment(_NO_NETWORK),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _git(path: Path, *arguments: str, network: bool = False) -> bytes:
    command = ["git", "-C", str(path), *arguments]
    environment = _environment(_NETWORK if network else _NO_NETWORK)
    try:
        result = subprocess.run(  # noqa: S603
            command, capture_output=True, check=True, env=environment, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise InputError(f"{path} is a git repository, and git is not installed", hint="install git") from None
    except subprocess.CalledProcessError as error:
        raise _fault(path, error.stderr) from None
    return result.stdout


def _fault(path: Path, stderr: bytes) -> InputError:
    lines = stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
    fatal = next((line for line in lines if line.startswith("fatal:")), lines[-1]).removeprefix("fatal: ")
    hint = "check it with git log; it needs at least one commit"
    return InputError(f"git cannot read {path}: {fatal}", hint=hint)


def _environment(settings: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _PLACE_VARIABLES}
    return {**kept, **_SETTINGS, **settings}
