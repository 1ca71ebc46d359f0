"""What folders, git repositories and archives share: their entries become units that another process can read.

Planning lists a tree and reads its licence files once, so that each unit knows the licence of every folder in which it
has a file, and can be read alone, in any order, on any machine that sees the same storage.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from starsmith.corpus.files import Drop, RawFile, Unreadable
from starsmith.corpus.license_manifests import LARGEST_MANIFEST_BYTES, looks_like_manifest, manifest_findings
from starsmith.corpus.licenses import LARGEST_LICENSE_BYTES, NOTHING, Finding, folder_findings, looks_like_license_file

UNIT_BYTES = 32 * 2**20  # of content a unit has, about, and at least one file
UNIT_FILES = 20_000  # a unit has at most, however small they are
MOST_ENTRIES = 2_000_000  # of one tree: a few hundred bytes of git can stand for billions of files


class Unit(Protocol):
    """A part of a source that is read in one go; it is pickled to travel to another process or machine."""

    @property
    def label(self) -> str:
        """What a person would call it: `project.git files 1-4,000 of 9,120`."""

    @property
    def size_bytes(self) -> int:
        """What there is to read by the listing, for balancing."""

    @property
    def fingerprint(self) -> str:
        """Hex sha256 that changes when what it would give may have changed."""

    @property
    def largest_bytes(self) -> int:
        """Of a file; a larger one is given as unreadable, without being read."""

    def files(self) -> Iterator[RawFile | Unreadable]:
        """Every file, one at a time, in path order."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that a tree lists."""

    path: str  # relative to the repository's root, `/` separated, valid Unicode
    size_bytes: int
    key: str  # what the reader finds it by
    version: str = ""  # changes with the content, where the key does not
    commit: str = ""  # of a file that is not in the tree's own commit
    date: str = ""  # of that commit, ISO 8601


class Reader(Protocol):
    """Reads entries of one tree; picklable."""

    def contents(self, entries: Sequence[Entry], largest_bytes: int) -> Generator[bytes | Drop]:
        """The content of each entry in their order, or why there is none; never more than `largest_bytes` of one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Where the files of a unit come from, and what reads them."""

    repository: str
    reader: Reader
    commit: str = ""
    date: str = ""  # of the commit, ISO 8601
    declared: Finding = NOTHING  # licence of files for which no licence file is found


@dataclass(frozen=True, kw_only=True)
class TreeUnit:
    """Consecutive entries of a tree."""

    label: str
    size_bytes: int
    fingerprint: str
    largest_bytes: int
    tree: Tree
    items: tuple[Entry | Unreadable, ...] = field(repr=False)
    licenses: Mapping[str, Finding] = field(repr=False)  # folder -> licence, of each folder with an entry and a licence

    def files(self) -> Iterator[RawFile | Unreadable]:
        """Every file, one at a time, in the order of the items."""
        asked = [item for item in self.items if isinstance(item, Entry) and item.size_bytes <= self.largest_bytes]
        with closing(self.tree.reader.contents(asked, self.largest_bytes)) as contents:
            for item in self.items:
                if isinstance(item, Unreadable):
                    yield item
                elif item.size_bytes > self.largest_bytes:
                    yield Unreadable(item.path, self.tree.repository, too_large(item.size_bytes, self.largest_bytes))
                else:
                    yield self._file(item, next(contents))

    def _file(self, entry: Entry, content: bytes | Drop) -> RawFile | Unreadable:
        tree = self.tree
        if isinstance(content, Drop):
            return Unreadable(entry.path, tree.repository, content)
        return RawFile(
            path=entry.path,
            content=content,
            repository=tree.repository,
            commit=entry.commit or tree.commit,
            license=self.licenses.get(folder_of(entry.path), tree.declared),
            date=entry.date or tree.date,
        )


def plan_units(
    tree: Tree, items: Sequence[Entry | Unreadable], *, largest_bytes: int, unit_bytes: int = UNIT_BYTES
) -> list[Unit]:
    """Cut `items`, in their order, into units of about `unit_bytes`."""
    by_folder = _findings(tree, items)
    nearest: dict[str, Finding] = {}  # remembered for each folder: trees have fewer folders than files
    units: list[Unit] = []
    start = 0
    for end in _cuts(items, largest_bytes, unit_bytes):
        part = tuple(items[start:end])
        folders = {folder_of(item.path) for item in part}
        found = {folder: _nearest(folder, by_folder, nearest) for folder in sorted(folders)}
        licenses = {folder: finding for folder, finding in found.items() if finding is not NOTHING}
        units.append(
            TreeUnit(
                label=f"{tree.repository} files {start + 1:,}-{end:,} of {len(items):,}",
                size_bytes=sum(_read_bytes(item, largest_bytes) for item in part),
                fingerprint=_fingerprint(tree, part, licenses, largest_bytes),
                largest_bytes=largest_bytes,
                tree=tree,
                items=part,
                licenses=licenses,
            )
        )
        start = end
    return units


def in_path_order(items: Iterable[Entry | Unreadable], repository: str) -> list[Entry | Unreadable]:
    """Sorted by path; of more than `MOST_ENTRIES`, those that are listed first and one unreadable for the rest."""
    walk = iter(items)
    listed = sorted(islice(walk, MOST_ENTRIES), key=lambda item: item.path)
    if next(walk, None) is not None:
        drop = Drop("too_many_files", f"it lists more than {MOST_ENTRIES:,} files; those after them are not read")
        listed.append(Unreadable("", repository, drop))
    return listed


def too_large(size_bytes: int, largest_bytes: int) -> Drop:
    """Why a file of this size is not read."""
    return Drop("too_large", f"{size_bytes:,} bytes, at most {largest_bytes:,}")


def folder_of(path: str) -> str:
    """`.` for a file at the root, as `folder_findings` names it."""
    return path.rpartition("/")[0] or "."


def _findings(tree: Tree, items: Sequence[Entry | Unreadable]) -> dict[str, Finding]:
    """Folder -> licence, by its licence files, else by what its manifests declare; all of the tree's own commit."""
    own = [item for item in items if isinstance(item, Entry) and not item.commit]
    texts = _read(tree, [one for one in own if looks_like_license_file(one.path)], LARGEST_LICENSE_BYTES)
    found = folder_findings((path, content.decode("utf-8", errors="replace")) for path, content in texts)
    manifests = [one for one in own if looks_like_manifest(one.path) and folder_of(one.path) not in found]
    return {**manifest_findings(_read(tree, manifests, LARGEST_MANIFEST_BYTES)), **found}


def _read(tree: Tree, entries: Sequence[Entry], largest_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Path and content; an entry that cannot be read is counted when its turn comes."""
    small = [entry for entry in entries if entry.size_bytes <= largest_bytes]
    if small:
        with closing(tree.reader.contents(small, largest_bytes)) as contents:
            for entry, content in zip(small, contents, strict=True):
                if not isinstance(content, Drop):
                    yield entry.path, content


def _cuts(items: Sequence[Entry | Unreadable], largest_bytes: int, unit_bytes: int) -> Iterator[int]:
    """The end of each unit."""
    start = size_bytes = 0
    for number, item in enumerate(items):
        more = _read_bytes(item, largest_bytes)
        if number > start and (size_bytes + more > unit_bytes or number - start == UNIT_FILES):
            yield number
            start, size_bytes = number, 0
        size_bytes += more
    if items:
        yield len(items)


def _read_bytes(item: Entry | Unreadable, largest_bytes: int) -> int:
    return item.size_bytes if isinstance(item, Entry) and item.size_bytes <= largest_bytes else 0


def _nearest(folder: str, by_folder: Mapping[str, Finding], nearest: dict[str, Finding]) -> Finding:
    """The finding of the folder or of the nearest one above it, `NOTHING` if there is none."""
    passed = []
    found = None
    while found is None:
        found = nearest.get(folder) or by_folder.get(folder)
        passed.append(folder)
        if found is None and folder == ".":
            found = NOTHING
        folder = folder_of(folder)
    nearest.update(dict.fromkeys(passed, found))
    return found


def _fingerprint(
    tree: Tree, items: Iterable[Entry | Unreadable], licenses: Mapping[str, Finding], largest_bytes: int
) -> str:
    digest = hashlib.sha256(repr((tree.repository, tree.commit, tree.date, tree.declared, largest_bytes)).encode())
    for item in items:
        digest.update(repr(item).encode())
    digest.update(
        repr(sorted((folder, found.expression, found.evidence) for folder, found in licenses.items())).encode()
    )
    return digest.hexdigest()
