"""SourceFile, the record of a corpus that every later stage reads, and its way in and out of Parquet.

The identity of a file is its SWHID (ISO/IEC 18670): `swh:1:cnt:` and the git blob id, so that it can be looked
up in Software Heritage and in any git repository. sha256 stands beside it for integrity.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from starsmith.core.errors import ArtifactError

TRAIN, HELD_OUT = "train", "held_out"

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("text", pa.large_string()),
        ("language", pa.string()),
        ("license", pa.string()),
        ("license_evidence", pa.string()),
        ("repository", pa.string()),
        ("commit", pa.string()),
        ("swhid", pa.string()),
        ("sha256", pa.string()),
        ("split", pa.string()),
        ("controls", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One text file of a corpus, with where it comes from and under which licence."""

    path: str  # relative to the repository root, `/` separated
    text: str
    language: str  # Linguist's name, for example "Python"
    license: str  # SPDX expression, or "" when none was found
    license_evidence: str  # what the licence was read from: "LICENSE.txt (text)", "SPDX tag", ...
    repository: str  # URL or name
    commit: str  # full commit id, or "" outside a git repository
    swhid: str  # of the content as its repository has it, as is sha256; `text` may have redactions
    sha256: str
    split: str = TRAIN  # TRAIN or HELD_OUT
    controls: tuple[int, ...] = ()  # character offsets at which a control token stands; others are data


def swhid_of(content: bytes) -> str:
    """SWHID of a content object: the sha1 that git gives to a blob."""
    blob = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    blob.update(content)
    return "swh:1:cnt:" + blob.hexdigest()


def sha256_of(content: bytes) -> str:
    """Hex sha256 of the content alone."""
    return hashlib.sha256(content).hexdigest()


def write_files(files: Iterable[SourceFile], directory: Path, *, rows_per_shard: int = 20_000) -> list[Path]:
    """Write Parquet shards `00000.parquet`, ... (zstd) into `directory`, and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    batch: list[SourceFile] = []
    for file in files:
        batch.append(file)
        if len(batch) == rows_per_shard:
            shards.append(_write_shard(batch, directory / f"{len(shards):05d}.parquet"))
            batch = []
    if batch or not shards:
        shards.append(_write_shard(batch, directory / f"{len(shards):05d}.parquet"))
    return shards


def read_files(corpus: Path, *, split: str | None = None) -> Iterator[SourceFile]:
    """The records of a corpus artefact in stored order, one row group in memory at a time."""
    for shard in shards_of(corpus):
        for batch in _batches(shard, SCHEMA.names, rows=256):
            for row in batch.to_pylist():
                if split is None or row["split"] == split:
                    yield SourceFile(**{**row, "controls": tuple(row["controls"])})


def read_columns(corpus: Path, columns: Sequence[str], *, split: str, rows: int = 1024) -> Iterator[pa.RecordBatch]:
    """Columns of the files of one split, in stored order: `read_files` for what looks at each file for microseconds."""
    for shard in shards_of(corpus):
        for batch in _batches(shard, [*columns, "split"], rows=rows):
            yield batch.filter(pc.equal(batch["split"], split)).select(list(columns))


def shards_of(corpus: Path) -> list[Path]:
    """The Parquet files of a corpus artefact, in order."""
    shards = sorted((corpus / "shards").glob("*.parquet"))
    if not shards:
        raise ArtifactError(f"{corpus} has no Parquet shards", hint="build it: starsmith corpus build SOURCE --out DIR")
    return shards


def _batches(shard: Path, columns: Sequence[str], *, rows: int) -> Iterator[pa.RecordBatch]:
    try:
        file = pq.ParquetFile(shard, page_checksum_verification=True)
        missing = set(columns) - set(file.schema_arrow.names)
        if missing:
            raise ArtifactError(
                f"{shard} has no column {', '.join(sorted(missing))}",
                hint="rebuild it: starsmith corpus build",
            )
        yield from file.iter_batches(batch_size=rows, columns=list(columns))
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{shard} is not readable Parquet: {error}", hint="restore it, or rebuild the corpus"
        ) from None


def _write_shard(files: Sequence[SourceFile], path: Path) -> Path:
    table = pa.Table.from_pylist([asdict(file) for file in files], schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", row_group_size=1024, write_page_checksum=True)
    return path
