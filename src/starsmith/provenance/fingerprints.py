"""The files of an index: sorted fingerprints, their places, and the text they point into, memory-mapped.

Each `.bin` file is a header of 64 bytes and then one flat little-endian array:

fingerprints  uint64, ascending, one entry for each place
positions     uint32 (uint64 when the text is longer than that reaches): where each begins in the text, in bytes
text          uint8: the UTF-8 texts of the documents, one after the other with nothing between

`documents.parquet` says which document begins at which byte of the text, and where it comes from. The header names
the version, the array and its length, so that a truncated or foreign file fails when it is opened.
"""

import mmap
import struct
from collections.abc import Iterator, Sequence
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
from starsmith.core.hashing import code_tokens, shingles, winnow

VERSION = 1
DOCUMENTS = "documents.parquet"
DOCUMENTS_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),  # of the document's first byte in the text
        ("swhid", pa.string()),
        ("repository", pa.string()),
        ("commit", pa.string()),
        ("path", pa.string()),
        ("license", pa.string()),
    ]
)

_MAGIC = b"STARSMTH"
_HEADER = struct.Struct("<8s16sIIIIQ16x")  # magic, array, version, k, window, bytes of an item, items
_WIDTHS = {"fingerprints": (8,), "positions": (4, 8), "text": (1,)}
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

    def select(self, content: bytes) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Fingerprints of one document, and the byte offset at which each begins."""
        tokens = code_tokens(content)
        hashes = shingles(tokens.hashes, self.k)
        chosen = winnow(hashes, self.window)
        return hashes[chosen], tokens.starts[chosen]


class ArrayWriter:
    """Appends to the array of one index file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.items = 0

    def append(self, values: NDArray[Any]) -> None:
        """Write values of the file's type."""
        self._file.write(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
        self.items += len(values)


@contextmanager
def write_array(directory: Path, array: str, item_bytes: int, grams: Grams) -> Iterator[ArrayWriter]:
    """Write one index file; the header comes last, when the length is known."""
    with (directory / f"{array}.bin").open("wb") as file:
        file.write(bytes(_HEADER.size))
        writer = ArrayWriter(file)
        yield writer
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, array.encode(), VERSION, grams.k, grams.window, item_bytes, writer.items))


class FingerprintTable:
    """An opened index: fingerprint -> places, place -> document, and the text itself."""

    def __init__(self, directory: Path) -> None:
        fingerprints, self.grams = _map_array(directory, "fingerprints")
        positions, grams_of_positions = _map_array(directory, "positions")
        text, grams_of_text = _map_array(directory, "text")
        if not self.grams == grams_of_positions == grams_of_text or len(fingerprints) != len(positions):
            raise ArtifactError(f"{directory / 'positions.bin'} belongs to another index", hint=_REBUILD)
        self.fingerprints: NDArray[np.uint64] = fingerprints
        self.positions = positions
        self.text: memoryview = text.data
        self.documents = _read_documents(directory / DOCUMENTS)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        return np.append(self.documents["offset"].to_numpy(), len(self.text))

    def lookup(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each hash the range [first, last) of its places in `positions`."""
        first = np.searchsorted(self.fingerprints, hashes, side="left")
        return first, np.searchsorted(self.fingerprints, hashes, side="right")

    def document_at(self, place: int) -> int:
        """Number of the document that byte `place` of the text belongs to."""
        return int(np.searchsorted(self._offsets, place, side="right")) - 1

    def bounds(self, document: int) -> tuple[int, int]:
        """Where a document begins and ends in the text."""
        return int(self._offsets[document]), int(self._offsets[document + 1])

    def origin(self, document: int) -> dict[str, Any]:
        """The document's row of `documents.parquet`."""
        row: dict[str, Any] = self.documents.slice(document, 1).to_pylist()[0]
        return row


def write_documents(rows: Sequence[dict[str, Any]], directory: Path) -> None:
    """Write `documents.parquet`, one row for each document of the text, in order."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=DOCUMENTS_SCHEMA), directory / DOCUMENTS, compression="zstd")


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
    return np.frombuffer(content, np.uint8)[_HEADER.size :].view(f"<u{item_bytes}"), Grams(k, window)


def _read_documents(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, schema=DOCUMENTS_SCHEMA)
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path} is not readable Parquet: {error}", hint=_REBUILD) from None
