"""A corpus from object storage: tables read from s3://, staging on s3://, against a local S3 server."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from builds import module
from starsmith.core import artifact
from starsmith.core.errors import InputError
from starsmith.core.records import read_files
from starsmith.corpus import build, storage
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.sources import open_sources

pytestmark = pytest.mark.slow

BUCKET = "code"
STACK = pa.schema(  # the columns of The Stack v2 that are read
    [
        ("blob_id", pa.string()),
        ("path", pa.string()),
        ("repo_name", pa.string()),
        ("revision_id", pa.string()),
        ("detected_licenses", pa.list_(pa.string())),
        ("gha_license_id", pa.string()),
        ("language", pa.string()),
        ("star_events_count", pa.int64()),
        ("committer_date", pa.timestamp("ns")),
        ("src_encoding", pa.string()),
        ("content", pa.string()),
    ]
)


def stack_row(number: int) -> dict[str, Any]:
    return {
        "blob_id": f"{number:040x}",
        "path": f"/src/m{number}.py",
        "repo_name": f"team/project{number % 3}",
        "revision_id": "e" * 40,
        "detected_licenses": ["MIT"] if number % 5 else ["GPL-3.0-only"],
        "language": "Python",
        "star_events_count": number,
        "src_encoding": "UTF-8",
        "content": module(number),
    }


class Bucket:
    """A bucket of a local S3 server."""

    def __init__(self, port: int) -> None:
        self.port = port
        endpoint = f"127.0.0.1:{port}"
        self.system = fs.S3FileSystem(
            access_key="who", secret_key="ever", endpoint_override=endpoint, scheme="http", allow_bucket_creation=True
        )

    def url(self, path: str) -> str:
        return f"s3://who:ever@{BUCKET}/{path}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def names(self, folder: str) -> list[str]:
        selector = fs.FileSelector(f"{BUCKET}/{folder}", recursive=True, allow_not_found=True)
        return [info.path for info in self.system.get_file_info(selector) if info.is_file]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    pytest.importorskip("moto", reason="moto is not installed: pip install -e '.[dev]'")
    pytest.importorskip("flask", reason="moto's server is not installed: pip install -e '.[dev]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(server, port)
        found = Bucket(port)
        found.system.create_dir(BUCKET)
        yield found
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_for(server: "subprocess.Popen[bytes]", port: int) -> None:
    for _ in range(600):
        assert server.poll() is None, "the S3 server ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the S3 server does not answer")


@pytest.fixture(scope="module")
def tables(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables in the bucket, and the same two on disk."""
    folder = tmp_path_factory.mktemp("tables") / "stack"
    folder.mkdir()
    for number in range(2):
        table = pa.Table.from_pylist([stack_row(row) for row in range(number * 10, number * 10 + 12)], schema=STACK)
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=4)
        pq.write_table(table, f"{BUCKET}/stack/part-{number}.parquet", filesystem=bucket.system, row_group_size=4)
    return folder


def run(out: Path, place: str, **more: Any) -> artifact.Manifest:
    build.run(CorpusConfig(), sources=open_sources([place]), out=out, **more)
    return artifact.read(out, kind="corpus")


def test_tables_in_a_bucket_give_the_corpus_of_the_same_tables_on_disk(
    bucket: Bucket, tables: Path, tmp_path: Path
) -> None:
    remote = run(tmp_path / "remote", bucket.url("stack"))
    local = run(tmp_path / "local", str(tables))

    assert remote.id == local.id
    assert remote.counts["kept"] == 22 - 5  # two of the 24 rows are in both tables, five of the 22 under the GPL
    assert remote.counts["dropped_not_permissive"] == 6
    assert remote.counts["dropped_duplicate"] == 1
    assert {file.repository for file in read_files(tmp_path / "remote")} == {f"team/project{n}" for n in range(3)}


def test_staging_in_a_bucket_makes_no_difference_and_leaves_nothing(
    bucket: Bucket, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fetch = storage.fetch
    monkeypatch.setattr(storage, "fetch", lambda *args: (seen.extend(bucket.names("work")), fetch(*args)))

    remote = run(tmp_path / "remote", bucket.url("stack"), staging=bucket.url("work/one"))
    local = run(tmp_path / "local", str(tables))

    assert remote.id == local.id
    assert {name.split("/")[4] for name in seen} >= {"read", "shards"}
    assert bucket.names("work") == []


def test_one_file_of_a_bucket_can_be_named(bucket: Bucket, tables: Path, tmp_path: Path) -> None:
    found = run(tmp_path / "corpus", bucket.url("stack/part-0.parquet"))

    assert found.counts["kept"] == 9


def test_neither_key_is_written_into_the_corpus(bucket: Bucket, tables: Path, tmp_path: Path) -> None:
    run(tmp_path / "corpus", bucket.url("stack"))

    for file in (tmp_path / "corpus").rglob("*"):
        assert not file.is_file() or not re.search(rb"who:ever", file.read_bytes()), file


def test_a_bucket_that_is_not_there_is_a_clear_error(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(tmp_path / "corpus", bucket.url("nowhere").replace(f"@{BUCKET}/", "@other/"))

    assert "other/nowhere" in caught.value.message
    assert "ever" not in caught.value.message
    assert not (tmp_path / "corpus").exists()


def test_a_table_in_a_bucket_whose_rows_end_in_an_error_is_not_there(bucket: Bucket) -> None:
    table = pa.table({"number": [1, 2, 3]})
    place = storage.join(bucket.url("places"), "a/0.parquet")

    def fail() -> None:
        with storage.writing(place, table.schema, storage.STAGED) as write:
            write(table)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert bucket.names("places/a") == []


def test_places_in_a_bucket_are_whole_or_absent(bucket: Bucket, tmp_path: Path) -> None:
    table = pa.table({"number": [1, 2, 3]})
    place = storage.join(bucket.url("places"), "a/0.parquet")

    storage.write_table(table, place, storage.STAGED)
    storage.write_json({"rows": 3}, storage.join(bucket.url("places"), "a/0.json"))
    storage.fetch(place, tmp_path / "new" / "0.parquet")

    assert storage.read_table(place).equals(table)
    assert storage.read_json(storage.join(bucket.url("places"), "a/0.json")) == {"rows": 3}
    assert storage.read_json(storage.join(bucket.url("places"), "a/1.json")) is None
    assert pq.read_table(tmp_path / "new" / "0.parquet").equals(table)
    storage.remove(bucket.url("places"))
    storage.remove(bucket.url("places"))
    assert bucket.names("places") == []
