"""The files of an index, memory-mapped: from a fingerprint to its places, from a place to a document and its text.

Each `.bin` file is a header of 64 bytes and then one flat little-endian array. A fingerprint of 64 bits is a prefix of
b bits, the number of its bucket, and a remainder, the 32 bits after it; the bits behind these are not kept.

directory   uint32 (uint64 from 2**32 entries on), 2**b + 1: where each bucket begins in the two arrays that follow
remainders  uint32, ascending in each bucket, one for each place
positions   uint32 (five bytes when the text is longer than that reaches): where each begins in the text, in bytes
common      uint64, ascending: prefix and remainder of each fingerprint that has more than `max_places` places; only
            the first few of these are among the positions
counts      uint64: how many places each of those has
text        uint8: the UTF-8 texts of the documents, one after the other with nothing between

`documents.parquet` says which document begins at which byte of the text, and where it comes from. The header names
the version, the array and its length, so that a truncated or foreign file fails when it is opened. The text of a
document stands as it is: verification reads a hundred bytes here and there, for which a compressed block is too slow.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core.errors import ArtifactError

VERSION = 2
DOCUMENTS = "documents.parquet"
ORIGIN = ("swhid", "repository", "commit", "path", "license")
DOCUMENTS_SCHEMA = pa.schema(
    [("offset", pa.int64()), *((name, pa.string()) for name in ORIGIN)]  # offset: of its first byte in the text
)
LONGEST_TEXT = 1 << 40  # bytes, as far as five bytes reach
FEWEST_BUCKETS = 1 << 8
COMMON_SAMPLES = 8  # places that are kept of a fingerprint with more than `max_places`

_MAGIC = b"STARSMTH"
_HEADER = struct.Struct("<8s16sIIIIQ16x")  # magic, array, version, k, window, bytes of an item, items
_WIDTHS = {
    "directory": (4, 8),
    "remainders": (4,),
    "positions": (4, 5),
    "common": (8,),
    "counts": (8,),
    "text": (1,),
}
ARRAYS = tuple(_WIDTHS)
_REBUILD = "rebuild it: starsmith index CORPUS --out DIR"


@dataclass(frozen=True)
class Grams:
    """How fingerprints are chosen: one shingle of `k` tokens, at least, from every `window` consecutive ones."""

    k: int
    window: int

    @property
    def guarantee(self) -> int:
        """Two texts that share this many consecutive tokens share a fingerprint (see `core.hashing.winnow`)."""
        return self.k + self.window - 1


class ArrayWriter:
    """Appends to the array of one index file."""

    def __init__(self, file: BinaryIO, item_bytes: int) -> None:
        self._file = file
        self._item_bytes = item_bytes
        self.items = 0

    def append(self, values: NDArray[Any]) -> None:
        """Write non-negative integers in as many bytes as an item of the file has."""
        wide = values.astype("<u8") if self._item_bytes == 5 else values.astype(f"<u{self._item_bytes}", copy=False)
        if self._item_bytes == 5:
            wide = np.ascontiguousarray(wide.view(np.uint8).reshape(-1, 8)[:, :5])
        self._file.write(wide.data)
        self.items += len(values)


@contextmanager
def write_array(directory: Path, array: str, item_bytes: int, grams: Grams) -> Iterator[ArrayWriter]:
    """Write one index file; the header comes last, when the length is known."""
    with (directory / f"{array}.bin").open("wb") as file:
        file.write(bytes(_HEADER.size))
        writer = ArrayWriter(file, item_bytes)
        yield writer
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, array.encode(), VERSION, grams.k, grams.window, item_bytes, writer.items))


class FingerprintTable:
    """An opened index. The arrays are mapped; what a query does not touch is not read."""

    def __init__(self, directory: Path) -> None:
        arrays, grams = {}, set()
        for name in ARRAYS:
            arrays[name], found = _map_array(directory, name)
            grams.add(found)
            if len(grams) > 1:
                raise ArtifactError(f"{directory / name}.bin belongs to another index", hint=_REBUILD)
        self.grams = grams.pop()
        self.directory, self.remainders, self.positions = (
            arrays[name] for name in ("directory", "remainders", "positions")
        )
        self.common, self.counts, self.text = (arrays[name] for name in ("common", "counts", "text"))
        self._check(directory)
        self.documents = _read_documents(directory / DOCUMENTS)
        self.offsets: NDArray[np.int64] = np.append(self.documents["offset"].to_numpy(), len(self.text))
        if self.documents["offset"].null_count or self.offsets[0] or (self.offsets[1:] < self.offsets[:-1]).any():
            raise ArtifactError(
                f"{directory / DOCUMENTS}: offset must ascend from 0 to the {len(self.text):,} bytes of the text",
                hint=_REBUILD,
            )

    def _check(self, directory: Path) -> None:
        buckets = len(self.directory) - 1
        if buckets < FEWEST_BUCKETS or buckets & (buckets - 1) or (self.directory[1:] < self.directory[:-1]).any():
            raise ArtifactError(
                f"{directory}/directory.bin: wanted a power of two from {FEWEST_BUCKETS} on, and one, ascending items",
                hint=_REBUILD,
            )
        entries = int(self.directory[-1])
        for name, seen, wanted in (
            ("remainders", len(self.remainders), entries),
            ("positions", len(self.positions), entries),
            ("counts", len(self.counts), len(self.common)),
        ):
            if seen != wanted:
                raise ArtifactError(
                    f"{directory}/{name}.bin belongs to another index: it has {seen} items, the others say {wanted}",
                    hint=_REBUILD,
                )

    def document_at(self, place: int) -> int:
        """Number of the document that byte `place` of the text belongs to."""
        return int(np.searchsorted(self.offsets, place, side="right")) - 1

    def bounds(self, document: int) -> tuple[int, int]:
        """Where a document begins and ends in the text."""
        return int(self.offsets[document]), int(self.offsets[document + 1])

    def places(self) -> NDArray[np.int64]:
        """(N,) every position; for checks, it reads them all."""
        return sum(self.positions[:, byte].astype(np.int64) << (8 * byte) for byte in range(self.positions.shape[1]))  # type: ignore[return-value]

    def origin(self, document: int) -> dict[str, str]:
        """Where a document comes from, by the names of `ORIGIN`."""
        return {name: column[document].as_py() for name, column in self._origins.items()}

    def find_documents(self, swhid: str) -> list[int]:
        """Numbers of the documents with this content, ascending."""
        return self._by_swhid.get(swhid, [])

    @cached_property
    def _origins(self) -> dict[str, pa.Array]:
        return {name: self.documents[name].combine_chunks() for name in ORIGIN}

    @cached_property
    def _by_swhid(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, swhid in enumerate(self.documents["swhid"].to_pylist()):
            found.setdefault(swhid, []).append(number)
        return found


def _map_array(directory: Path, array: str) -> tuple[NDArray[Any], Grams]:
    path = directory / f"{array}.bin"
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):  # ValueError: an empty file cannot be mapped
        raise ArtifactError(f"{path} is missing or empty", hint=_REBUILD) from None
    if len(content) < _HEADER.size or content[: len(_MAGIC)] != _MAGIC:
        raise ArtifactError(f"{path} does not begin with the header of an index file", hint=_REBUILD)
    _, name, version, k, window, item_bytes, items = _HEADER.unpack(content[: _HEADER.size])
    if version != VERSION:
        raise ArtifactError(f"{path} has format version {version}, this program reads {VERSION}", hint=_REBUILD)
    if name.rstrip(b"\0") != array.encode() or item_bytes not in _WIDTHS[array] or not (k and window):
        raise ArtifactError(f"{path} has a header that is not one of {array}", hint=_REBUILD)
    if len(content) != _HEADER.size + items * item_bytes:
        raise ArtifactError(
            f"{path} has {len(content)} bytes, its header says {_HEADER.size + items * item_bytes}", hint=_REBUILD
        )
    if array != "directory":  # a query touches pages here and there: reading ahead makes a cold one ten times as slow
        content.madvise(mmap.MADV_RANDOM)
    data = np.frombuffer(content, np.uint8)[_HEADER.size :]
    if array == "positions":
        return data.reshape(-1, item_bytes), Grams(k, window)
    return data.view(f"<u{item_bytes}"), Grams(k, window)


def _read_documents(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, schema=DOCUMENTS_SCHEMA)
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path} is not readable Parquet: {error}", hint=_REBUILD) from None
