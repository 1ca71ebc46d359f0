"""What an index is asked about: pieces of files that it has not, copies from files that it has, and spans planted."""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core.hashing import TOKEN
from starsmith.core.winnowing import scan
from starsmith.provenance.fingerprints import ORIGIN

# Packages whose every version stays out of the index. Some files of theirs are copied by others, which is then found.
HELD_OUT = frozenset("networkx mpmath jinja2 typer fsspec nltk twisted faker".split())  # noqa: SIM905
_LINES = 50  # of a completion
_VERSION = re.compile(r"-\d.*")


@dataclass(frozen=True)
class Planted:
    """A text with a copy in it: bytes [start, end)."""

    text: str
    start: int
    end: int


def is_held_out(repository: str) -> bool:
    """Whether a repository, as `real_files` names them, is one of the packages that are held out."""
    name = _VERSION.sub("", repository.rsplit("/", 1)[-1]).lower().removesuffix(".dist")
    return name in HELD_OUT


def batches(folder: Path, *, most_bytes: int | None = None) -> Iterator[pa.RecordBatch]:
    """The files that are indexed, as the index stage reads them from a corpus."""
    size = 0
    for batch in _stored(folder):
        rows = batch.filter(pa.array([not is_held_out(name) for name in batch["repo"].to_pylist()]))
        nothing = pa.array([""] * len(rows), pa.string())
        origins = {"repository": rows["repo"], "path": rows["path"]}
        columns = [rows["content"].cast(pa.large_string()), *(origins.get(name, nothing) for name in ORIGIN)]
        yield pa.record_batch(columns, names=["text", *ORIGIN])
        size += rows["content"].nbytes
        if most_bytes is not None and size >= most_bytes:
            return


def held_out(folder: Path) -> list[str]:
    """Texts of the packages that are not indexed."""
    found = []
    for batch in _stored(folder):
        names = batch["repo"].to_pylist()
        found += [text for text, name in zip(batch["content"].to_pylist(), names, strict=True) if is_held_out(name)]
    return found


def blocks(texts: Sequence[str], lines: int) -> list[str]:
    """Every text cut into pieces of so many lines, the rest left out."""
    found = []
    for text in texts:
        rows = text.split("\n")
        found += ["\n".join(rows[start : start + lines]) for start in range(0, len(rows) - lines + 1, lines)]
    return found


def copies(text: NDArray[np.uint8], offsets: NDArray[np.int64], number: int, draw: random.Random) -> list[str]:
    """Pieces of indexed files, indented by a tab more."""
    found: list[str] = []
    while len(found) < number:
        document = draw.randrange(len(offsets) - 1)
        rows = text[offsets[document] : offsets[document + 1]].tobytes().decode().split("\n")
        if len(rows) > _LINES:
            start = draw.randrange(len(rows) - _LINES)
            found.append("\n".join("\t" + row for row in rows[start : start + _LINES]))
    return found


def plant(
    text: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    around: Sequence[str],
    tokens: int,
    *,
    respaced: bool,
    draw: random.Random,
) -> Planted:
    """So many tokens of an indexed file between two held-out pieces; `respaced` changes every gap between them."""
    while True:
        document = draw.randrange(len(offsets) - 1)
        content = text[offsets[document] : offsets[document + 1]].tobytes()
        found = scan(content, 24, 17)
        if len(found.starts) >= tokens:
            break
    first = draw.randrange(len(found.starts) - tokens + 1)
    copy = content[found.starts[first] : found.ends[first + tokens - 1]]
    if respaced:
        gaps = [b" ", b"\n", b"\t", b"\r\n", b"\n\n    "]
        copy = b"".join(part + draw.choice(gaps) for part in TOKEN.findall(copy)).rstrip()
    before, after = draw.choice(around).encode() + b"\n", b"\n" + draw.choice(around).encode()
    whole = before + copy + after
    return Planted(whole.decode(), len(before), len(before) + len(copy))


def digest(texts: Sequence[str]) -> str:
    """Of queries, to see that two runs asked the same."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def _stored(folder: Path) -> Iterator[pa.RecordBatch]:
    for part in sorted(folder.glob("*.parquet")):
        yield from pq.ParquetFile(part).iter_batches(1024, columns=["repo", "path", "content"])
