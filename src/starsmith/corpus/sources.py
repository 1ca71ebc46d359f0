"""Folders and git repositories become streams of raw files, each with where it lies.

A source lists its entries first (path and size) and reads content one file at a time, so that nothing is held in
memory and a licence file can be read before the files it covers. Links and submodules are not followed.
"""

import os
import platform
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from starsmith.core.errors import InputError

_NOT_SOURCE = frozenset({".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_NOT_LIBRARY = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__phello__"})


@dataclass(frozen=True)
class Entry:
    """A file that a source has."""

    path: str  # relative to the source's root, `/` separated
    size_bytes: int
    key: str  # what the source reads it by


Read = Callable[[Entry], bytes]  # raises OSError for what cannot be read


class Source(Protocol):
    """A repository, or what stands for one."""

    @property
    def repository(self) -> str:
        """URL or name."""

    @property
    def commit(self) -> str:
        """Full commit id, "" outside git."""

    @property
    def declared_license(self) -> str:
        """SPDX id known from elsewhere, "" if none."""

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
    declared_license: str = ""
    skipped_folders: frozenset[str] = field(default=_NOT_SOURCE)

    def entries(self) -> list[Entry]:
        """Every regular file below the root but those in skipped folders."""
        found = []
        for folder, subfolders, names in os.walk(self.root):
            subfolders[:] = [name for name in subfolders if name not in self.skipped_folders]
            for name in names:
                path = Path(folder) / name
                if path.is_file() and not path.is_symlink():
                    relative = path.relative_to(self.root).as_posix()
                    found.append(Entry(relative, path.stat().st_size, str(path)))
        return sorted(found, key=lambda entry: entry.path)

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """Read from disk; an unreadable file raises OSError."""
        yield lambda entry: Path(entry.key).read_bytes()


@dataclass(frozen=True)
class GitSource:
    """A git repository, bare or not, at one commit. Uncommitted changes are not part of it."""

    root: Path
    repository: str
    commit: str
    declared_license: str = ""

    def entries(self) -> list[Entry]:
        """Every blob of the commit's tree that is a regular file."""
        listing = _git(self.root, "ls-tree", "-r", "-l", "-z", "--full-tree", self.commit)
        found = []
        for line in listing.split(b"\0"):
            if line:
                meta, path = line.split(b"\t", 1)
                mode, kind, blob, size = meta.split()
                if kind == b"blob" and mode in (b"100644", b"100755"):
                    found.append(Entry(path.decode("utf-8", "replace"), int(size), blob.decode()))
        return sorted(found, key=lambda entry: entry.path)

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """Read blobs through one `git cat-file --batch`."""
        command = ["git", "-C", str(self.root), "cat-file", "--batch"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603
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


def open_source(path: Path) -> Source:
    """A git repository when `path` is one, at HEAD, or else a folder."""
    if not path.exists():
        raise InputError(f"{path} does not exist", hint="give a folder or a git repository")
    if not path.is_dir():
        raise InputError(f"{path} is a file", hint="give the folder that it lies in")
    if (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir()):
        commit = _git(path, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
        return GitSource(path, _remote(path) or path.resolve().name, commit)
    return FolderSource(path, path.resolve().name)


def standard_library() -> Source:
    """The pure-Python standard library of the running interpreter, without tests: real source that is always there."""
    root = Path(sysconfig.get_path("stdlib"))
    name = f"{platform.python_implementation()} {platform.python_version()} standard library"
    return FolderSource(
        root,
        name,
        # Some distributions keep the licence text elsewhere; the library is under it all the same.
        declared_license="Python-2.0.1",
        skipped_folders=_NOT_SOURCE | _NOT_LIBRARY,
    )


def _remote(path: Path) -> str:
    """URL of the remote `origin`, without a user name or password in it; "" if there is none."""
    try:
        url = _git(path, "config", "--get", "remote.origin.url").decode().strip()
    except InputError:
        return ""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else url


def _git(path: Path, *arguments: str) -> bytes:
    command: Sequence[str] = ["git", "-C", str(path), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603
    except FileNotFoundError:
        raise InputError(f"{path} is a git repository, and git is not installed", hint="install git") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise InputError(
            f"git cannot read {path}: {lines[-1]}", hint="check it with git log; it needs at least one commit"
        ) from None
