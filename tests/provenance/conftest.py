"""Small corpora and indexes made from texts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from starsmith.core import artifact, merkle
from starsmith.core.records import HELD_OUT, SourceFile, write_files
from starsmith.provenance import index
from worlds import source_file

MakeIndex = Callable[..., Path]
MakeFile = Callable[..., SourceFile]
Fill = Callable[[artifact.Draft, Sequence[SourceFile]], None]


@pytest.fixture(scope="session")
def make_file() -> MakeFile:
    """`worlds.source_file`, for tests that take it as a fixture."""
    return source_file


@pytest.fixture(scope="session")
def make_index(
    tmp_path_factory: pytest.TempPathFactory, make_corpus: Callable[..., Path], make_file: MakeFile
) -> MakeIndex:
    """A function that turns texts, files 0.py, 1.py, ..., into an index; keywords are settings."""

    def make(texts: Sequence[str], **settings: int) -> Path:
        directory = tmp_path_factory.mktemp("world")
        files = [make_file(f"{number}.py", text) for number, text in enumerate(texts)]
        make_corpus(directory / "corpus", files)
        index.run(index.IndexConfig(**settings), corpus=directory / "corpus", out=directory / "index")
        return directory / "index"

    return make


@pytest.fixture(scope="session")
def fill() -> Fill:
    """A function that writes what `verify` wants of a corpus: a shard for each file, the tree and the counts."""

    def write(draft: artifact.Draft, files: Sequence[SourceFile]) -> None:
        for shard in write_files(files, draft.path / "shards", rows_per_shard=1):
            table = pq.ParquetFile(shard).read()
            size_bytes = pc.cast(pc.binary_length(table["text"]), pa.int64())
            table = table.append_column("size_bytes", size_bytes)
            table = table.append_column("kind", pa.array(["code"] * len(table)))
            pq.write_table(table.append_column("redactions", pa.array([0] * len(table), pa.int32())), shard)
        merkle.write_tree(draft.path)
        draft.count("kept", len(files))
        draft.count("kept_bytes", sum(len(file.text.encode()) for file in files))
        draft.count("held_out", sum(file.split == HELD_OUT for file in files))

    return write
