"""Stage: a corpus becomes flat token shards, with an index from token ranges back to files.

`shards/00000.bin`, ...: little-endian uint16 (uint32 above 65,536 entries), documents one after the other with
nothing in between: control tokens are put in at training time. `documents.parquet`: one row per document with its
shard, token range and origin, so that every token of every batch names its file, commit and licence.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.console import progress
from starsmith.core.errors import ArtifactError, ConfigError
from starsmith.core.records import TRAIN, SourceFile, read_files
from starsmith.tokenizer.bpe import Tokenizer

DOCUMENTS = "documents.parquet"
_FILES_AT_ONCE = 64  # files encoded in one call, on all cores

_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("start", pa.int64()),  # first token, within the shard
        ("end", pa.int64()),  # after the last token
        ("bytes", pa.int64()),  # of the text
        ("split", pa.string()),
        ("swhid", pa.string()),
        ("repository", pa.string()),
        ("commit", pa.string()),
        ("path", pa.string()),
        ("license", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """Tokenization of a corpus."""

    shard_tokens: int = 2**28  # a new shard is begun when the next document would pass this

    def __post_init__(self) -> None:
        if self.shard_tokens < 1:
            raise ConfigError(f"shard_tokens={self.shard_tokens}: must be at least 1", hint="the default is 2**28")


def run(config: TokensConfig, *, corpus: Path, tokenizer: Path, out: Path) -> None:
    """Encode every file of `corpus`, training and held-out; control tokens are only those that the corpus put in."""
    kept = artifact.read(corpus, kind="corpus").counts.get("kept", 0)
    artifact.read(tokenizer, kind="tokenizer")
    vocabulary = Tokenizer.load(tokenizer)
    parents = {"corpus": corpus, "tokenizer": tokenizer}
    with artifact.create(out, kind="tokens", config=config, rooms=("core", "tokenizer"), parents=parents) as draft:
        writer = _ShardWriter(draft.path / "shards", token_dtype(vocabulary.vocab_size), config.shard_tokens)
        rows: list[dict[str, Any]] = []
        with writer, progress("tokens: encoding files", total=kept, unit="files") as advance:
            for file, ids in _encode(read_files(corpus), vocabulary):
                shard, start = writer.append(ids)
                rows.append(_row(file, shard, start, start + len(ids)))
                draft.count(f"{file.split}_documents")
                draft.count(f"{file.split}_tokens", len(ids))
                draft.count(f"{file.split}_bytes", rows[-1]["bytes"])
                advance()
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft.path / DOCUMENTS, compression="zstd")


def token_dtype(vocab_size: int) -> "np.dtype[Any]":
    """The narrowest little-endian type that holds every id."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


class TokenStore:
    """The documents of a tokens artefact, memory-mapped: only what is read is loaded."""

    def __init__(self, path: Path, *, vocab_size: int, split: str = TRAIN) -> None:
        artifact.read(path, kind="tokens")
        table = pq.read_table(path / DOCUMENTS)
        chosen = table.filter(pc.equal(table["split"], split))
        self.documents = chosen
        self.starts: NDArray[np.int64] = chosen["start"].to_numpy()
        self.ends: NDArray[np.int64] = chosen["end"].to_numpy()
        self.sizes_bytes: NDArray[np.int64] = chosen["bytes"].to_numpy()
        self._shard_of: NDArray[np.int32] = chosen["shard"].to_numpy()
        self._shards = [_map_shard(file, vocab_size) for file in sorted((path / "shards").glob("*.bin"))]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(documents,) tokens in each document."""
        return self.ends - self.starts

    def ids(self, document: int, start: int = 0, end: int | None = None) -> list[int]:
        """Token ids [start, end) of one document."""
        base = int(self.starts[document])
        last = int(self.ends[document]) if end is None else min(base + end, int(self.ends[document]))
        found: list[int] = self._shards[self._shard_of[document]][base + start : last].tolist()
        return found


class _ShardWriter:
    """Appends documents to flat files; a document never spans two."""

    def __init__(self, directory: Path, dtype: "np.dtype[Any]", shard_tokens: int) -> None:
        directory.mkdir(parents=True)
        self._directory, self._dtype, self._shard_tokens = directory, dtype, shard_tokens
        self._shard, self._tokens = 0, 0
        self._file = (directory / "00000.bin").open("wb")

    def __enter__(self) -> "_ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, ids: Sequence[int]) -> tuple[int, int]:
        """Write one document; returns its shard and first token there."""
        if self._tokens and self._tokens + len(ids) > self._shard_tokens:
            self._file.close()
            self._shard, self._tokens = self._shard + 1, 0
            self._file = (self._directory / f"{self._shard:05d}.bin").open("wb")
        start = self._tokens
        self._file.write(np.asarray(ids, self._dtype).tobytes())
        self._tokens += len(ids)
        return self._shard, start


def _encode(files: Iterator[SourceFile], vocabulary: Tokenizer) -> Iterator[tuple[SourceFile, list[int]]]:
    while batch := list(itertools.islice(files, _FILES_AT_ONCE)):
        plain = [file for file in batch if not file.controls]
        encoded = iter(vocabulary.encode_batch([file.text for file in plain]))
        for file in batch:
            yield file, vocabulary.encode_marked(file.text, file.controls) if file.controls else next(encoded)


def _row(file: SourceFile, shard: int, start: int, end: int) -> dict[str, Any]:
    origin = {name: getattr(file, name) for name in ("split", "swhid", "repository", "commit", "path", "license")}
    return {"shard": shard, "start": start, "end": end, "bytes": len(file.text.encode()), **origin}


def _map_shard(file: Path, vocab_size: int) -> NDArray[Any]:
    dtype = token_dtype(vocab_size)
    size = file.stat().st_size
    if size % dtype.itemsize:
        raise ArtifactError(f"{file} has {size} bytes, no whole number of {dtype} tokens", hint="rebuild the tokens")
    return np.memmap(file, dtype, mode="r") if size else np.zeros(0, dtype)
