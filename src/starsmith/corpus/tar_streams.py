"""What bounds an archive, and the bytes of a tar file as tarfile wants them, however they are compressed."""

import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from starsmith.core.errors import ConfigError

_COMPRESSIONS = {"gz": "gzip", "tgz": "gzip", "bz2": "bz2", "tbz2": "bz2", "xz": "xz", "txz": "xz"}
_COMPRESSIONS |= {"zst": "zstd", "tzst": "zstd"}
CHUNK_BYTES = 2**18  # of one read, and so of one extended header of a tar file
_READ_AHEAD_BYTES = 2**16
_XZ_MEMORY_BYTES = 256 * 2**20  # xz -9 needs 65 MiB


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """How much of an archive is believed."""

    most_entries: int = 1_000_000  # members; those after them are not read
    most_bytes: int = 64 * 2**30  # of all members together, uncompressed
    most_ratio: int = 1_000  # uncompressed to compressed, of what has more than `ratio_from_bytes`
    ratio_from_bytes: int = 10_000_000  # below, a bomb does no harm

    def __post_init__(self) -> None:
        for name in ("most_entries", "most_bytes", "most_ratio", "ratio_from_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least 1", hint="leave it out")

    def is_bomb(self, size_bytes: int, compressed_bytes: int) -> bool:
        """Whether so much from so little is no honest compression."""
        return size_bytes > self.ratio_from_bytes and size_bytes > self.most_ratio * max(compressed_bytes, 1)


def compression_of(path: Path) -> str | None:
    """What the whole file is compressed with, by its name."""
    return _COMPRESSIONS.get(path.name.lower().rpartition(".")[2])


class BombError(OSError):
    """A stream that becomes too much from too little."""


class TarStream:
    """The bytes of a tar file, uncompressed: a file for tarfile, in which a compressed one only goes forwards.

    No read is larger than a chunk, so that a header which claims to be larger is refused.
    """

    def __init__(self, file: IO[bytes], compression: str | None, limits: ArchiveLimits) -> None:
        self.forward_only = compression is not None
        self._file = file
        self._bytes: Any = _decompressed(file, compression) if compression else file
        self._place = 0
        self._limits = limits

    def tell(self) -> int:
        """Bytes that were read or passed."""
        return self._place

    def read(self, size: int) -> bytes:
        """As many bytes as asked for, less at the end."""
        if size > CHUNK_BYTES:
            raise OSError(f"a header of {size:,} bytes, at most {CHUNK_BYTES:,}")
        content = bytes(self._bytes.read(size))
        self._place += len(content)
        return content

    def seek(self, place: int) -> None:
        """Reads on to the place, or to the end if that comes before."""
        if not self.forward_only:
            self._place = self._file.seek(place)
            return
        if place < self._place:
            raise OSError("its headers lead backwards")
        place_before, compressed_before = self._place, self._file.tell()
        while self._place < place and self.read(min(CHUNK_BYTES, place - self._place)):
            # What was read ahead before counts as well.
            compressed_bytes = self._file.tell() - compressed_before + _READ_AHEAD_BYTES
            if self._limits.is_bomb(self._place - place_before, compressed_bytes):
                raise BombError(f"{self._place - place_before:,} bytes from less than {compressed_bytes:,}")


@contextmanager
def open_tar(path: Path, limits: ArchiveLimits) -> Iterator[TarStream]:
    """Where each entry's bytes can be read at the place that tarfile told."""
    with path.open("rb", buffering=0) as file:
        yield TarStream(file, compression_of(path), limits)


def _decompressed(file: IO[bytes], compression: str) -> Any:
    return _XzStream(file) if compression == "xz" else pa.CompressedInputStream(pa.PythonFile(file), compression)


class _XzStream:
    """Reads .xz within bounded memory, which lzma.open does not promise."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)

    def read(self, size: int) -> bytes:
        parts = []
        try:
            while size and (part := self._some(size)):
                parts.append(part)
                size -= len(part)
        except lzma.LZMAError as error:
            raise OSError(str(error)) from None
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        while True:
            more = b""
            if self._decoder.eof:  # another stream may follow, after zeros
                more = (self._decoder.unused_data or self._file.read(_READ_AHEAD_BYTES)).lstrip(b"\0")
                if not more:
                    return b""
                self._decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
            elif self._decoder.needs_input and not (more := self._file.read(_READ_AHEAD_BYTES)):
                raise OSError("it ends too early")
            if part := self._decoder.decompress(more, max_length=size):
                return part
