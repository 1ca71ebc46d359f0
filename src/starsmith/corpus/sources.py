"""Folders, git repositories, archives and tables become units of raw files, each file with where it lies.

A source lists what it has and cuts it into units; a unit reads one file at a time, so that nothing is held in memory
and another process can do it. Links and submodules are not followed, and nothing of a source is ever executed.
"""

import os
import platform
import re
import stat
import sysconfig
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from starsmith.core.errors import InputError
from starsmith.corpus import archives, git, tables, thread_dumps
from starsmith.corpus.files import Drop, Unreadable
from starsmith.corpus.licenses import NOTHING, Finding
from starsmith.corpus.threads import ThreadConfig
from starsmith.corpus.trees import UNIT_BYTES, Entry, Tree, Unit, in_path_order, plan_units, too_large

__all__ = [
    "UNIT_BYTES",
    "FolderReader",
    "FolderSource",
    "Source",
    "Unit",
    "open_source",
    "open_sources",
    "standard_library",
]

# Folders in which nobody's source lies: version control, caches, and what was installed from elsewhere.
_NOT_SOURCE = (
    r"\.(?:git|hg|svn|tox|nox|venv|mypy_cache|pytest_cache|ruff_cache)|__pycache__|node_modules|site-packages|"
    r"dist-packages"
)
# In the standard library besides: tests, and what is made when the interpreter is built.
_NOT_LIBRARY = rf"{_NOT_SOURCE}|tests?|idle_test|__phello__|lib-dynload|config-[^/]*"


class Source(Protocol):
    """A repository, or what stands for one."""

    @property
    def root(self) -> Path | str:
        """Where it lies; named in errors, and nowhere in a corpus."""

    @property
    def repository(self) -> str:
        """URL or name."""

    @property
    def commit(self) -> str:
        """Full commit id, "" outside git."""

    def units(self, *, largest_bytes: int) -> list[Unit]:
        """All of it in parts. Raises InputError for what the user can mend."""
        ...


@dataclass(frozen=True)
class FolderReader:
    """Reads from disk: regular files only, also when something took a file's place since it was listed."""

    def contents(self, entries: Sequence[Entry], largest_bytes: int) -> Generator[bytes | Drop]:
        """The content of each entry in their order, or why there is none."""
        for entry in entries:
            try:
                yield _read(entry.key, largest_bytes)
            except OSError as error:
                yield _unreadable(error)


@dataclass(frozen=True)
class FolderSource:
    """A directory tree as it lies on disk, without the repositories in it."""

    root: Path
    repository: str
    commit: str = ""
    declared_license: Finding = NOTHING
    skipped_folders: str = _NOT_SOURCE  # regular expression of their names

    def entries(self) -> Iterator[Entry | Unreadable]:
        """Every regular file below the root but those in skipped folders; a closed folder is one unreadable entry."""
        for found in _walk(self.root, self.skipped_folders):
            if isinstance(found, OSError):
                yield Unreadable(self._relative(os.fsdecode(found.filename)), self.repository, _unreadable(found))
            elif isinstance(found, os.DirEntry):
                yield self._entry(found)

    def repositories(self) -> list[Path]:
        """Git repositories inside it, the outermost of nested ones; none of their files is an entry."""
        return sorted(found for found in _walk(self.root, self.skipped_folders) if isinstance(found, Path))

    def units(self, *, largest_bytes: int) -> list[Unit]:
        """Units of its files in path order."""
        items = in_path_order(self.entries(), self.repository)
        if not items:
            raise InputError(f"{self.root} has no file", hint="give a folder with source code")
        tree = Tree(
            repository=self.repository, commit=self.commit, declared=self.declared_license, reader=FolderReader()
        )
        return plan_units(tree, items, largest_bytes=largest_bytes)

    def _entry(self, file: os.DirEntry[str]) -> Entry | Unreadable:
        path = self._relative(file.path)
        try:
            status = file.stat(follow_symlinks=False)
        except OSError as error:
            return Unreadable(path, self.repository, _unreadable(error))
        return Entry(path, status.st_size, file.path, version=str(status.st_mtime_ns))

    def _relative(self, path: str) -> str:
        relative = path[len(str(self.root)) :].lstrip("/")
        return relative if relative.isascii() else os.fsencode(relative).decode("utf-8", "replace")


def open_sources(
    places: Iterable[Path | str],
    *,
    revision: str | None = None,
    since: date | None = None,
    cache: Path | None = None,
    threads: ThreadConfig = ThreadConfig(),  # noqa: B008 frozen
) -> list[Source]:
    """Each place as a source, and each repository that lies in a folder of several as a source of its own."""
    found: list[Source] = []
    for place in places:
        source = open_source(place, revision=revision, since=since, cache=cache, threads=threads)
        inside = source.repositories() if isinstance(source, FolderSource) else []
        if not inside or not isinstance(source, FolderSource) or any(True for _ in source.entries()):
            found.append(source)
        found += [git.found_repository(repository) for repository in inside]
    return found


def open_source(
    place: Path | str,
    *,
    revision: str | None = None,
    since: date | None = None,
    cache: Path | None = None,
    threads: ThreadConfig = ThreadConfig(),  # noqa: B008 frozen
) -> Source:
    """What lies at a path or URL.

    place     a git repository or a folder of one, another folder, an archive, a table or a folder or glob of them; the
              URL of a git repository or of tables in object storage (a URL is a str: a Path would lose a slash)
    revision  branch, tag or commit of a git repository instead of HEAD
    since     of a git repository also every version of a file that a commit since then wrote
    threads   how issues and pull requests of a dump are rendered
    cache     where the repositories of URLs are kept; a folder in the user's home by default
    """
    if git.is_url(str(place)) and not tables.is_table(str(place)):
        return git.fetch(str(place), cache or Path.home() / ".cache/starsmith/git", revision=revision, since=since)
    source = _repository(place, revision, since) or _other(place, threads)
    if not isinstance(source, git.GitSource) and (revision is not None or since is not None):
        wanted = f"revision {revision!r}" if revision is not None else f"since {since}"
        raise InputError(
            f"{place} is no git repository: it has no {wanted}", hint="give this for git repositories only"
        )
    return source


def standard_library() -> Source:
    """The pure-Python standard library of the running interpreter, without tests: real source that is always there."""
    name = f"{platform.python_implementation()} {platform.python_version()} standard library"
    # Some distributions keep the licence's text elsewhere; the library is under it all the same.
    declared = Finding("Python-2.0.1", "declared: the standard library, installed here without its LICENSE.txt")
    return FolderSource(
        Path(sysconfig.get_path("stdlib")), name, declared_license=declared, skipped_folders=_NOT_LIBRARY
    )


def _repository(place: Path | str, revision: str | None, since: date | None) -> git.GitSource | None:
    path = Path(place)
    if not path.is_dir():
        return None
    path = path.resolve()
    if git.is_repository(path):
        return git.open_repository(path, revision=revision, since=since)
    return git.part_of_repository(path, revision=revision, since=since)


def _other(place: Path | str, threads: ThreadConfig) -> Source:
    """A folder, an archive, a dump of threads or tables."""
    path = Path(place)
    if path.is_dir():
        path = path.resolve()
        return tables.open_folder(path) or FolderSource(path, path.name)
    if path.is_file() and archives.is_archive(path.name):
        return archives.open_archive(path)
    if thread_dumps.is_dump(path):
        return thread_dumps.ThreadSource(path, settings=threads)
    if tables.is_table(str(place)):
        return tables.open_tables(place)
    if not path.exists():
        raise InputError(f"{place} does not exist", hint="give a folder, a git repository, an archive or a table")
    endings = f"an archive ({' '.join(archives.SUFFIXES)}) nor a table ({' '.join(tables.SUFFIXES)})"
    raise InputError(
        f"{place} is a file, by its name neither {endings}",
        hint="give the folder that it lies in",
    )


def _walk(root: Path, skipped_folders: str) -> Iterator["os.DirEntry[str] | Path | OSError"]:
    """The regular files below `root`; a Path for each repository and an error for each folder that cannot be read.

    Not entered: repositories, links, folders of the skipped names and environments of installed packages.
    """
    skipped = re.compile(skipped_folders)
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                children = sorted(listing, key=lambda child: child.name)
        except OSError as error:
            yield error
            continue
        names = {child.name for child in children}
        if "pyvenv.cfg" in names:  # an environment, whatever its name
            continue
        if folder != str(root) and (".git" in names or {"HEAD", "objects", "refs"} <= names):
            yield Path(folder)
            continue
        yield from (child for child in children if child.is_file(follow_symlinks=False))
        folders = [child for child in children if child.is_dir(follow_symlinks=False)]
        waiting += [child.path for child in reversed(folders) if not skipped.fullmatch(child.name)]


def _read(path: str, largest_bytes: int) -> bytes | Drop:
    # A pipe must not be waited for, nor a link followed, that was put here after the listing.
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            return Drop("unreadable", "it is no longer a regular file")
        if status.st_size > largest_bytes:
            return too_large(status.st_size, largest_bytes)
        with os.fdopen(number, "rb", buffering=0, closefd=False) as file:
            content = file.read(status.st_size + 1) or b""
    finally:
        os.close(number)
    if len(content) != status.st_size:
        return Drop(
            "unreadable", f"{len(content):,} bytes were read of {status.st_size:,}: it changed while being read"
        )
    return content


def _unreadable(error: OSError) -> Drop:
    return Drop("unreadable", error.strerror or str(error))
