"""Archives (tar, zip, sdists, wheels) become units of their members, which are read in place and never extracted.

An archive is not trusted: its entries, bytes and compression ratios are bounded, no path leaves it, links and devices
are no files, and an archive inside an archive is a file like any other.
"""

import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.corpus.files import Drop, Unreadable
from starsmith.corpus.licenses import NOTHING, Finding, folder_findings, looks_like_license_file, unknown_ids
from starsmith.corpus.tar_streams import CHUNK_BYTES, ArchiveLimits, BombError, TarStream, compression_of, open_tar
from starsmith.corpus.trees import UNIT_BYTES, Entry, Tree, Unit, plan_units, too_large

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".zip", ".whl")

_DIRECTORY_BYTES_PER_ENTRY = 400  # of a zip file's directory, which is read at once: a header of 46, names, extras
_METADATA_BYTES = 2**20
# A tar that is compressed as a whole has no way in but from its start, so it makes few units: 4 cost 2.5 passes.
_STREAM_UNITS = 4


@dataclass(frozen=True)
class ZipReader:
    """Reads members of a zip file by their number."""

    root: Path

    def contents(self, entries: Sequence[Entry], largest_bytes: int) -> Generator[bytes | Drop]:
        """The content of each entry in their order, or why there is none."""
        try:
            archive = zipfile.ZipFile(self.root)
        except (OSError, zipfile.BadZipFile) as error:  # it was there when it was listed
            for _ in entries:
                yield _damaged(str(error))
            return
        with archive:
            members = archive.infolist()
            for entry in entries:
                number = int(entry.key)
                is_there = number < len(members)
                yield (
                    _member(archive, members[number], largest_bytes) if is_there else _damaged("it is no longer there")
                )


@dataclass(frozen=True)
class TarReader:
    """Reads members of a tar file by where they begin; of a compressed one, in one pass.

    What lies before an entry in the file and is asked for later waits in memory: the plan keeps that to a unit's size.
    """

    root: Path
    limits: ArchiveLimits

    def contents(self, entries: Sequence[Entry], largest_bytes: int) -> Generator[bytes | Drop]:
        """The content of each entry in their order, or why there is none."""
        in_file_order = sorted(entries, key=lambda entry: int(entry.key), reverse=True)
        waiting: dict[str, bytes | Drop] = {}
        fault = ""
        if not self.root.is_file():  # it was there when it was listed
            yield from (_damaged("it is no longer there") for _ in entries)
            return
        with open_tar(self.root, self.limits) as stream:
            for entry in entries:
                while entry.key not in waiting:
                    ahead = in_file_order.pop() if stream.forward_only else entry
                    try:
                        waiting[ahead.key] = _at(stream, ahead, largest_bytes) if not fault else _damaged(fault)
                    except (OSError, ValueError) as error:
                        fault = str(error)
                        waiting[ahead.key] = _damaged(fault)
                yield waiting.pop(entry.key)


@dataclass(frozen=True)
class ArchiveSource:
    """The regular files of an archive."""

    root: Path
    repository: str  # its file name, or name==version of a Python distribution
    reader: ZipReader | TarReader = field(repr=False)
    listed: tuple[Entry | Unreadable, ...] = field(repr=False)
    declared_license: Finding = NOTHING
    commit: str = ""

    def units(self, *, largest_bytes: int) -> list[Unit]:
        """Units of its files in path order; of a large compressed tar, about, for it can only be read forwards."""
        if not self.listed:
            raise InputError(f"{self.root} has no file", hint="give an archive with source code")
        status = self.root.stat()
        version = f"{status.st_size} {status.st_mtime_ns}"
        items = [replace(item, version=version) if isinstance(item, Entry) else item for item in self.listed]
        tree = Tree(repository=self.repository, declared=self.declared_license, reader=self.reader)
        if not isinstance(self.reader, TarReader) or not compression_of(self.root):
            return plan_units(tree, sorted(items, key=_path_of), largest_bytes=largest_bytes)
        total_bytes = sum(item.size_bytes for item in items if isinstance(item, Entry))
        unit_bytes = max(UNIT_BYTES, total_bytes // _STREAM_UNITS + 1)
        return plan_units(tree, _in_windows(items, largest_bytes), largest_bytes=largest_bytes, unit_bytes=unit_bytes)


def is_archive(name: str) -> bool:
    """Whether a file's name ends like an archive's."""
    return name.lower().endswith(SUFFIXES)


def open_archive(path: Path, limits: ArchiveLimits | None = None) -> ArchiveSource:
    """List the archive; InputError if it is none."""
    limits = limits or ArchiveLimits()
    is_zip = path.name.lower().endswith((".zip", ".whl"))
    reader = ZipReader(path) if is_zip else TarReader(path, limits)
    try:
        listed = _listed(_zip_items(path, limits) if is_zip else _tar_items(path, limits), path.name)
    except (OSError, ValueError, struct.error, zipfile.BadZipFile, tarfile.TarError, NotImplementedError) as error:
        hint = "check that it was copied whole; an archive's name must tell its kind"
        raise InputError(f"{path} is not a readable archive: {error}", hint=hint) from None
    source = ArchiveSource(path, path.name, reader, tuple(listed))
    return _described(source)


def _listed(found: Iterator[Entry | Unreadable], repository: str) -> list[Entry | Unreadable]:
    """The last of each path, where it stands in the archive: that is what unpacking would leave."""
    last: dict[str, Entry | Unreadable] = {}
    others: list[Entry | Unreadable] = []
    for item in found:
        if isinstance(item, Entry):
            last.pop(item.path, None)
            last[item.path] = item
        else:
            others.append(replace(item, repository=repository))
    return [*last.values(), *others]


def _zip_items(path: Path, limits: ArchiveLimits) -> Iterator[Entry | Unreadable]:
    size_bytes = path.stat().st_size
    _check_directory(path, limits)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    starts = sorted(member.header_offset for member in members)
    following = dict(zip(starts, [*starts[1:], size_bytes], strict=True))
    total_bytes = 0
    for number, member in enumerate(members):
        if member.is_dir() or (member.external_attr >> 28) not in (0, 8):  # 8: a regular file, 0: not from Unix
            continue
        name = _name(member.filename)
        total_bytes += member.file_size
        if number >= limits.most_entries or total_bytes > limits.most_bytes:
            yield _too_much(limits, f"{len(members) - number:,} members")
            return
        overlaps = member.header_offset + member.compress_size > following[member.header_offset]
        if _safe(name) is None:
            yield _unsafe(name)
        elif overlaps or limits.is_bomb(member.file_size, member.compress_size):
            yield Unreadable(name, "", _bomb(member.file_size, member.compress_size, limits))
        elif member.flag_bits & 1:
            yield Unreadable(name, "", Drop("unreadable", "it is encrypted"))
        else:
            yield Entry(_safe(name) or "", member.file_size, str(number))


def _tar_items(path: Path, limits: ArchiveLimits) -> Iterator[Entry | Unreadable]:
    """What is listed before an archive breaks off is kept, and the rest is one unreadable."""
    number = total_bytes = 0
    with open_tar(path, limits) as stream:
        # tarfile knows the dialects of the headers; what is in a header is bounded by the stream.
        archive = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        member = archive.next()
        while member is not None:
            number += 1
            total_bytes += member.size
            if number > limits.most_entries or total_bytes > limits.most_bytes:
                yield _too_much(limits, "all members after it")
                return
            if member.isreg():
                yield _tar_item(member)
            archive.members.clear()  # type: ignore[attr-defined]  # else it remembers them all
            try:
                member = archive.next()
            except (OSError, ValueError, tarfile.TarError, RecursionError) as error:
                reason = "archive_bomb" if isinstance(error, BombError) else "unreadable_archive"
                yield Unreadable("", "", Drop(reason, f"after member {number:,}: {error}"))
                return


def _tar_item(member: tarfile.TarInfo) -> Entry | Unreadable:
    name = _name(member.name)
    path = _safe(name)
    if path is None:
        return _unsafe(name)
    if member.issparse():
        return Unreadable(path, "", Drop("unreadable", f"it is stored with holes, {member.size:,} bytes"))
    return Entry(path, member.size, str(member.offset_data))


def _described(source: ArchiveSource) -> ArchiveSource:
    """With the name, version and licence of a Python distribution; an sdist's only folder is no part of its paths."""
    entries = {item.path: item for item in source.listed if isinstance(item, Entry)}
    tops = {path.partition("/")[0] for path in entries}
    if source.root.name.lower().endswith(".whl"):
        place = next((path for path in entries if re.fullmatch(r"[^/]+\.dist-info/METADATA", path)), "")
    else:
        place = f"{min(tops)}/PKG-INFO" if len(tops) == 1 else ""
    content = _content(source, entries[place]) if place in entries else None
    if content is None:
        return source
    headers = BytesHeaderParser().parsebytes(content)
    name, version = str(headers.get("Name", "")).strip(), str(headers.get("Version", "")).strip()
    repository = f"{name}=={version}" if name and version else source.repository
    listed = source.listed
    license_folder = place.rpartition("/")[0] + "/"
    if place.endswith("/PKG-INFO"):
        listed = tuple(_below(item, license_folder) for item in listed)
        license_folder = ""
    declared = _declared(headers, place) or (_license_of(source, license_folder) if license_folder else NOTHING)
    listed = tuple(replace(item, repository=repository) if isinstance(item, Unreadable) else item for item in listed)
    return replace(source, repository=repository, listed=listed, declared_license=declared)


def _declared(headers: Any, place: str) -> Finding | None:
    """The licence that a distribution's metadata names by SPDX id."""
    if expression := " ".join(str(headers.get("License-Expression", "")).split()):
        return Finding(expression, f"declared: License-Expression in {place}")
    name = str(headers.get("License", "")).strip()
    if name and len(name) < 80 and re.fullmatch(r"[\w.+-]+", name) and not unknown_ids([name]):
        return Finding(name, f"declared: License in {place}")
    return None


def _license_of(source: ArchiveSource, folder: str) -> Finding:
    """The licence texts of a wheel lie in its .dist-info folder and hold for all of it."""
    texts = []
    for item in source.listed:
        if isinstance(item, Entry) and item.path.startswith(folder) and looks_like_license_file(item.path):
            content = _content(source, item)
            texts.append((item.path.rpartition("/")[2], (content or b"").decode("utf-8", "replace")))
    found = folder_findings(texts).get(".", NOTHING)
    return replace(found, evidence=f"{found.evidence} in {folder}") if found.expression else NOTHING


def _content(source: ArchiveSource, entry: Entry) -> bytes | None:
    with closing(source.reader.contents([entry], _METADATA_BYTES)) as contents:
        content = next(contents)
    return None if isinstance(content, Drop) else content


def _below(item: Entry | Unreadable, folder: str) -> Entry | Unreadable:
    return replace(item, path=item.path.removeprefix(folder))


def _in_windows(items: Sequence[Entry | Unreadable], largest_bytes: int) -> list[Entry | Unreadable]:
    """In the order of the archive, but sorted by path within every `UNIT_BYTES`."""
    ordered: list[Entry | Unreadable] = []
    window: list[Entry | Unreadable] = []
    size_bytes = 0
    for item in items:
        if isinstance(item, Entry) and item.size_bytes <= largest_bytes:
            size_bytes += item.size_bytes
        if size_bytes > UNIT_BYTES:
            ordered += sorted(window, key=_path_of)
            window, size_bytes = [], 0
        window.append(item)
    return ordered + sorted(window, key=_path_of)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, largest_bytes: int) -> bytes | Drop:
    if member.file_size > largest_bytes:
        return too_large(member.file_size, largest_bytes)
    try:
        with archive.open(member) as file:
            content = file.read(member.file_size)
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error) as error:
        return _damaged(str(error) or "it ends too early")  # RuntimeError: encrypted, or a compression not known here
    return content if len(content) == member.file_size else _damaged("it ends too early")


def _at(stream: TarStream, entry: Entry, largest_bytes: int) -> bytes | Drop:
    if entry.size_bytes > largest_bytes:
        return too_large(entry.size_bytes, largest_bytes)
    stream.seek(int(entry.key))
    content = b"".join(
        iter(lambda: stream.read(min(CHUNK_BYTES, entry.size_bytes + int(entry.key) - stream.tell())), b"")
    )
    return content if len(content) == entry.size_bytes else _damaged("it ends too early")


def _path_of(item: Entry | Unreadable) -> str:
    return item.path


def _damaged(message: str) -> Drop:
    return Drop("unreadable", f"damaged in the archive: {message}")


def _name(name: str) -> str:
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _safe(name: str) -> str | None:
    """The path in its plain form, None if it leads out of the archive."""
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts) if parts and not any(part == ".." or part.startswith("..\\") for part in parts) else None


def _unsafe(name: str) -> Unreadable:
    return Unreadable(name, "", Drop("unsafe_path", "the path leads out of the archive"))


def _bomb(size_bytes: int, compressed_bytes: int, limits: ArchiveLimits) -> Drop:
    detail = (
        f"{size_bytes:,} bytes from {compressed_bytes:,}, at most {limits.most_ratio:,} to 1 and no part used twice"
    )
    return Drop("archive_bomb", detail)


def _too_much(limits: ArchiveLimits, rest: str) -> Unreadable:
    most = f"at most {limits.most_entries:,} members and {limits.most_bytes:,} bytes"
    return Unreadable("", "", Drop("archive_too_large", f"{rest} are not read: {most}"))


def _check_directory(path: Path, limits: ArchiveLimits) -> None:
    """A zip file's directory is read into memory as a whole: its size is checked before."""
    with path.open("rb") as file:
        size_bytes = file.seek(0, io.SEEK_END)
        file.seek(max(0, size_bytes - 2**16 - 22 - 76))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("it has no zip directory")
    (directory_bytes,) = struct.unpack_from("<L", tail, end + 12)
    large = tail.rfind(b"PK\6\6", 0, end)
    if directory_bytes == 2**32 - 1 and large >= 0 and len(tail) >= large + 48:
        (directory_bytes,) = struct.unpack_from("<Q", tail, large + 40)
    if directory_bytes > _DIRECTORY_BYTES_PER_ENTRY * limits.most_entries:
        raise zipfile.BadZipFile(
            f"its directory has {directory_bytes:,} bytes, too many for {limits.most_entries:,} members"
        )
