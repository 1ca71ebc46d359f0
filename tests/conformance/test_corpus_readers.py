"""The shards of a corpus are read by the tools that people read Parquet with."""

from pathlib import Path
from typing import Any

import pytest

from builds import module
from starsmith.core.records import read_files
from starsmith.corpus import build, shards
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.sources import open_sources
from worlds import MIT, Write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    text = module(40) + "owner = 'jane.doe@acme-widgets.com'  # é, 漢字\n"
    files = {f"m{number}.py": module(number) for number in range(6)}
    write(folder / "project", {"LICENSE": MIT, **files, "copy.py": module(0), "mail.py": text})
    build.run(CorpusConfig(), sources=open_sources([folder / "project"]), out=folder / "corpus")
    return folder / "corpus"


def expected(corpus: Path) -> list[tuple[str, str, list[int]]]:
    return sorted((file.path, file.text, list(file.controls)) for file in read_files(corpus))


def found(rows: list[dict[str, Any]]) -> list[tuple[str, str, list[int]]]:
    return sorted((row["path"], row["text"], list(row["controls"])) for row in rows)


def test_duckdb_reads_every_column(built: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: pip install -e '.[dev]'")

    with duckdb.connect() as connection:
        relation = connection.sql(f"SELECT * FROM read_parquet('{built}/shards/*.parquet')")
        columns, values = relation.columns, relation.fetchall()
        largest = connection.sql(
            f"SELECT cluster_size FROM read_parquet('{built}/shards/*.parquet') WHERE cluster IS NOT NULL"
        ).fetchall()

    assert columns == shards.SCHEMA.names
    assert found([dict(zip(columns, row, strict=True)) for row in values]) == expected(built)
    assert largest == [(2,)]


def test_polars_reads_every_column(built: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed: pip install -e '.[dev]'")

    frame = polars.read_parquet(f"{built}/shards/*.parquet")

    assert frame.columns == shards.SCHEMA.names
    assert found(frame.to_dicts()) == expected(built)
    assert frame.filter(polars.col("language") == "Python").height == 7


def test_datasets_reads_every_column(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install -e '.[dev]'")

    rows = datasets.load_dataset(
        "parquet", data_files=f"{built}/shards/*.parquet", split="train", cache_dir=str(tmp_path)
    )

    assert rows.column_names == shards.SCHEMA.names
    assert found(list(rows)) == expected(built)
