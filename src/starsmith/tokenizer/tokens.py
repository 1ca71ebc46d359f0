"""Stage: a corpus becomes flat token shards, with an index from token ranges back to files.

`shards/00000.bin`, ...: little-endian uint16 (uint32 above 65,536 entries), documents one after the other with
nothing in between: control tokens are put in at training time. `documents.parquet`: one row per document with its
shard, token range and origin, so that every token of every batch names its file, commit and licence.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.console import progress
from starsmith.core.errors import ArtifactError, ConfigError, InputError
from starsmith.core.records import TRAIN, SourceFile, read_files
from starsmith.tokenizer import repositories
from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

DOCUMENTS = "documents.parquet"
_FILES_AT_ONCE = 64  # files encoded in one call, on all cores
_CHECKED = 1 << 24  # tokens looked at in one go when a shard is checked
_AGAIN = "restore it, or make the tokens again: starsmith tokens CORPUS --tokenizer T --out DIR"
_ORIGIN = ("split", "swhid", "repository", "commit", "path", "license", "language")

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
        ("language", pa.string()),
        ("structured", pa.bool_()),  # made of parts: an issue, a pull request, a notebook; it is no file to cut
        ("path_tokens", pa.int32()),  # of the path and a line end, for a document of the whole repository
        ("import_rank", pa.int32()),  # place among the repository's files, each after those that it imports
    ]
)
_REDACTION = SPECIAL_TOKENS[-4:]  # <NAME> and the like in a file do not make it a structured document


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
        listed: dict[str, list[tuple[int, repositories.Listed]]] = defaultdict(list)  # files of each repository
        with writer, progress("tokens: encoding files", total=kept, unit="files") as advance:
            for file, ids, path_tokens in _encode(read_files(corpus), vocabulary):
                shard, start = writer.append(ids)
                imports = repositories.imports_of(file.text, file.language)
                listed[file.repository].append((len(rows), repositories.Listed(file.path, file.language, imports)))
                rows.append(_row(file, shard, start, start + len(ids), path_tokens))
                draft.count(f"{file.split}_documents")
                draft.count(f"{file.split}_tokens", len(ids))
                draft.count(f"{file.split}_bytes", rows[-1]["bytes"])
                advance()
        if not any(row["end"] > row["start"] for row in rows):
            raise InputError(f"{corpus} has no text to encode", hint="build it from more: starsmith corpus build")
        for entries in listed.values():
            for (number, _), rank in zip(
                entries, repositories.import_ranks([file for _, file in entries]), strict=True
            ):
                rows[number]["import_rank"] = rank
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft.path / DOCUMENTS, compression="zstd")


def token_dtype(vocab_size: int) -> "np.dtype[Any]":
    """The narrowest little-endian type that holds every id."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


class TokenStore:
    """The documents of a tokens artefact, memory-mapped: only what is read is loaded.

    Opening compares the shards' sizes with the index; `check` reads all of them.
    """

    def __init__(self, path: Path, *, vocab_size: int, split: str = TRAIN) -> None:
        self._path, self._vocab_size = path, vocab_size
        manifest = artifact.read(path, kind="tokens")
        table = _read_index(path / DOCUMENTS)
        self.rows: NDArray[np.int64] = np.flatnonzero(pc.equal(table["split"], split).to_numpy())
        chosen = table.take(self.rows)
        self.documents = chosen  # of the split; `all_documents` is the table that `rows` counts in
        self.all_documents = table
        self.starts: NDArray[np.int64] = chosen["start"].to_numpy()
        self.ends: NDArray[np.int64] = chosen["end"].to_numpy()
        self.sizes_bytes: NDArray[np.int64] = chosen["bytes"].to_numpy()
        self._shard_of: NDArray[np.int32] = chosen["shard"].to_numpy()
        listed = sorted(path / name for name in manifest.files if name.startswith("shards/"))
        sizes, dtype = _sizes(table, len(listed)), token_dtype(vocab_size)
        self._shards = [_map_shard(file, dtype, size) for file, size in zip(listed, sizes, strict=True)]

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(documents,) tokens in each document."""
        return self.ends - self.starts

    def array(self, document: int, start: int = 0, end: int | None = None) -> NDArray[Any]:
        """Token ids [start, end) of one document, as they lie in the shard."""
        base, stop = self.starts[document], self.ends[document]
        last = stop if end is None else min(base + end, stop)
        found: NDArray[Any] = self._shards[self._shard_of[document]][base + start : last]
        return found

    def ids(self, document: int, start: int = 0, end: int | None = None) -> list[int]:
        """Token ids [start, end) of one document."""
        found: list[int] = self.array(document, start, end).tolist()
        return found

    def check(self) -> None:
        """Read every shard: its digest is the manifest's and its ids are of the vocabulary, or an ArtifactError."""
        problems = artifact.verify(self._path)
        if problems:
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            raise ArtifactError(problems[0] + more, hint=_AGAIN)
        for number, shard in enumerate(self._shards):
            largest = max(int(shard[at : at + _CHECKED].max()) for at in range(0, len(shard), _CHECKED))
            if largest >= self._vocab_size:
                raise ArtifactError(
                    f"{self._path}/shards/{number:05d}.bin has token {largest}, the vocabulary ends at "
                    f"{self._vocab_size - 1}",
                    hint="give the tokenizer that the tokens were made with, or make them again: starsmith tokens",
                )


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


def _encode(files: Iterator[SourceFile], vocabulary: Tokenizer) -> Iterator[tuple[SourceFile, list[int], int]]:
    """Each file with its ids and the number of tokens of its path."""
    while batch := list(itertools.islice(files, _FILES_AT_ONCE)):
        plain = [file.text for file in batch if not file.controls]
        encoded = iter(vocabulary.encode_batch(plain))
        paths = vocabulary.encode_batch([file.path + "\n" for file in batch])
        for file, path in zip(batch, paths, strict=True):
            ids = vocabulary.encode_marked(file.text, file.controls) if file.controls else next(encoded)
            yield file, ids, len(path)


def _row(file: SourceFile, shard: int, start: int, end: int, path_tokens: int) -> dict[str, Any]:
    origin = {name: getattr(file, name) for name in _ORIGIN}
    structured = any(not file.text.startswith(_REDACTION, offset) for offset in file.controls)
    place = {"shard": shard, "start": start, "end": end, "bytes": len(file.text.encode())}
    return {**place, **origin, "structured": structured, "path_tokens": path_tokens}


def _read_index(file: Path) -> pa.Table:
    """`documents.parquet`, with all the columns that this version writes."""
    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{file} is not readable Parquet: {error}", hint=_AGAIN) from None
    missing = [name for name in _SCHEMA.names if name not in table.column_names]
    if missing:
        raise ArtifactError(f"{file} has no column {', '.join(missing)}: an earlier version made it", hint=_AGAIN)
    return table


def _sizes(table: pa.Table, shards: int) -> list[int]:
    """Tokens in each shard by the index."""
    sizes = np.zeros(max(shards, int(table["shard"].to_numpy().max(initial=-1)) + 1), np.int64)
    np.maximum.at(sizes, table["shard"].to_numpy(), table["end"].to_numpy())
    found: list[int] = sizes.tolist()
    return found


def _map_shard(file: Path, dtype: "np.dtype[Any]", tokens: int) -> NDArray[Any]:
    if not file.is_file():
        raise ArtifactError(f"{file}, which the manifest lists, does not exist", hint=_AGAIN)
    size = file.stat().st_size
    if size != tokens * dtype.itemsize:
        raise ArtifactError(
            f"{file} has {size:,} bytes, the index says {tokens:,} tokens of {dtype.itemsize} bytes", hint=_AGAIN
        )
    if not size:
        raise ArtifactError(f"{file} is empty", hint=_AGAIN)
    return np.memmap(file, dtype, mode="r")
