"""Folders and git repositories become streams of raw files, each with where it lies.

A source lists its entries first (path and size) and reads content one file at a time, so that nothing is held in
memory and a licence file can be read before the files it covers. Links and submodules are not followed.
"""

import os
import platform
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from starsmith.core.errors import InputError
from starsmith.corpus.licenses import NOTHING, Finding, looks_like_license_file

# Folders in which nobody's source lies: version control, caches, and what was installed from elsewhere.
_NOT_SOURCE = (
    r"\.(?:git|hg|svn|tox|nox|venv|mypy_cache|pytest_cache|ruff_cache)|__pycache__|node_modules|site-packages|"
    r"dist-packages"
)
# In the standard library besides: tests, and what is made when the interpreter is built.
_NOT_LIBRARY = rf"{_NOT_SOURCE}|tests?|idle_test|__phello__|lib-dynload|config-[^/]*"

# git finds its repository by these before it looks at the folder; a hook that runs us sets them.
_PLACE_VARIABLES = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "COMMON_DIR", "INDEX_FILE", "PREFIX", "NAMESPACE"),
        *("OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES"),
    )
)
# Nothing is fetched for a partial clone, no object stands in for another, nobody is asked for a password.
_GIT_SETTINGS = {"GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


@dataclass(frozen=True)
class Entry:
    """A file that a source has."""

    path: str  # relative to the repository's root, `/` separated
    size_bytes: int
    key: str  # what the source reads it by


Read = Callable[[Entry], bytes]  # raises OSError for what cannot be read


class Source(Protocol):
    """A repository, or what stands for one."""

    @property
    def root(self) -> Path:
        """Where it lies on this machine; named in errors, and nowhere in a corpus."""

    @property
    def repository(self) -> str:
        """URL or name."""

    @property
    def commit(self) -> str:
        """Full commit id, "" outside git."""

    @property
    def declared_license(self) -> Finding:
        """Licence known from elsewhere of files for which none is found."""

    def entries(self) -> list[Entry]:
        """Every regular file, sorted by path."""
        ...

    def reader(self) -> AbstractContextManager[Read]:
        """`with source.reader() as read: content = read(entry)`."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """A directory tree as it lies on disk."""

    root: Path
    repository: str
    commit: str = ""
    declared_license: Finding = NOTHING
    skipped_folders: str = _NOT_SOURCE  # regular expression of their names

    def entries(self) -> list[Entry]:
        """Every regular file below the root but those in skipped folders; a closed folder is one unreadable entry."""
        closed: list[OSError] = []
        paths = [path for _, files in _walk(self.root, self.skipped_folders, closed) for path in files]
        sizes = [(path, path.stat().st_size) for path in paths if path.is_file() and not path.is_symlink()]
        sizes += [(Path(error.filename), 0) for error in closed]
        return sorted((self._entry(path, size) for path, size in sizes), key=lambda entry: entry.path)

    def repositories(self) -> list[Path]:
        """Git repositories inside it, the outermost of nested ones; none of their files is an entry."""
        return sorted(path for found, _ in _walk(self.root, self.skipped_folders, []) for path in found)

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """Read from disk; an unreadable file raises OSError."""
        yield lambda entry: Path(entry.key).read_bytes()

    def _entry(self, path: Path, size_bytes: int) -> Entry:
        relative = os.fsencode(path.relative_to(self.root).as_posix())  # names need not be UTF-8
        return Entry(relative.decode("utf-8", "replace"), size_bytes, str(path))


@dataclass(frozen=True)
class GitSource:
    """A git repository, bare or not, or a folder of one, at one commit. Uncommitted changes are not part of it."""

    root: Path
    repository: str
    commit: str
    folder: str = ""  # "" or "src/package/": only this part, and the licence files that hold for it
    declared_license: Finding = NOTHING

    def entries(self) -> list[Entry]:
        """Every blob of the commit's tree that is a regular file."""
        listing = _git(self.root, "ls-tree", "-r", "-l", "-z", "--full-tree", self.commit)
        found = []
        for line in listing.split(b"\0"):
            if line:
                meta, path = line.split(b"\t", 1)
                mode, _, blob, size = meta.split()
                name = path.decode("utf-8", "replace")
                if mode in (b"100644", b"100755") and self._is_part(name):
                    # A partial clone lacks blobs: no size, and reading it will say so.
                    found.append(Entry(name, int(size) if size.isdigit() else 0, blob.decode()))
        return sorted(found, key=lambda entry: entry.path)

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """Read blobs through one `git cat-file --batch`."""
        command = ["git", "-C", str(self.root), "cat-file", "--batch"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=_git_environment()) as process:  # noqa: S603
            asks, answers = process.stdin, process.stdout
            assert asks is not None
            assert answers is not None

            def read(entry: Entry) -> bytes:
                asks.write(entry.key.encode() + b"\n")
                asks.flush()
                header = answers.readline().split()
                if len(header) != 3:
                    raise OSError(f"git has no object {entry.key}")
                content = answers.read(int(header[2]))
                answers.read(1)  # the line end after the content
                return content

            try:
                yield read
            finally:
                asks.close()

    def _is_part(self, path: str) -> bool:
        if path.startswith(self.folder):
            return True
        above = PurePosixPath(self.folder).is_relative_to(PurePosixPath(path).parent)
        return above and looks_like_license_file(path)


def open_sources(paths: Iterable[Path]) -> list[Source]:
    """Each path as a source, and each repository that lies in a folder of several as a source of its own."""
    found: list[Source] = []
    for path in paths:
        source = open_source(path)
        inside = source.repositories() if isinstance(source, FolderSource) else []
        if not inside or source.entries():
            found.append(source)
        found += [open_source(repository) for repository in inside]
    return found


def open_source(path: Path) -> Source:
    """A git repository, or a folder that is part of one, at HEAD; else the folder as it lies there."""
    if not path.exists():
        raise InputError(f"{path} does not exist", hint="give a folder or a git repository")
    if not path.is_dir():
        raise InputError(f"{path} is a file", hint="give the folder that it lies in")
    path = path.resolve()
    if _is_repository(path):
        commit = _git(path, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
        return GitSource(path, _remote(path) or path.name, commit)
    return _part_of_repository(path) or FolderSource(path, path.name)


def standard_library() -> Source:
    """The pure-Python standard library of the running interpreter, without tests: real source that is always there."""
    name = f"{platform.python_implementation()} {platform.python_version()} standard library"
    # Some distributions keep the licence's text elsewhere; the library is under it all the same.
    declared = Finding("Python-2.0.1", "declared: the standard library, installed here without its LICENSE.txt")
    return FolderSource(
        Path(sysconfig.get_path("stdlib")), name, declared_license=declared, skipped_folders=_NOT_LIBRARY
    )


def _is_repository(path: Path) -> bool:
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def _walk(root: Path, skipped_folders: str, closed: list[OSError]) -> Iterator[tuple[list[Path], list[Path]]]:
    """The repositories and the files of each folder below `root`.

    Not entered: repositories, links, folders of the skipped names and environments of installed packages. Folders that
    cannot be read are added to `closed`.
    """
    for folder, subfolders, names in os.walk(root, onerror=closed.append):
        if "pyvenv.cfg" in names:  # an environment, whatever its name
            subfolders.clear()
            continue
        here = Path(folder)
        kept = [name for name in subfolders if not (re.fullmatch(skipped_folders, name) or (here / name).is_symlink())]
        repositories = [here / name for name in kept if _is_repository(here / name)]
        subfolders[:] = [name for name in kept if here / name not in repositories]
        yield repositories, [here / name for name in names]


def _part_of_repository(path: Path) -> GitSource | None:
    """The enclosing git repository, restricted to `path`, when its HEAD has files there."""
    try:
        top, folder = _git(path, "rev-parse", "--show-toplevel", "--show-prefix").decode().splitlines()
        root = Path(top)
        commit = _git(root, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
        tracked = _git(root, "ls-tree", "-z", "--full-tree", "--name-only", commit, folder)
    except (InputError, ValueError):  # no repository, none with a commit, or no git: a folder like any other
        return None
    return GitSource(root, _remote(root) or root.name, commit, folder) if tracked and folder else None


def _remote(path: Path) -> str:
    """URL of the remote `origin`, without a user name or password in it; "" if there is none."""
    try:
        url = _git(path, "config", "--get", "remote.origin.url").decode().strip()
    except InputError:
        return ""
    scheme, separator, rest = url.partition("://")
    host, slash, name = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{name}" if separator else url


def _git(path: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(path), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True, env=_git_environment()).stdout  # noqa: S603
    except FileNotFoundError:
        raise InputError(f"{path} is a git repository, and git is not installed", hint="install git") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        fatal = next((line for line in lines if line.startswith("fatal:")), lines[-1]).removeprefix("fatal: ")
        raise InputError(
            f"git cannot read {path}: {fatal}", hint="check it with git log; it needs at least one commit"
        ) from None


def _git_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _PLACE_VARIABLES}
    return {**kept, **_GIT_SETTINGS}
