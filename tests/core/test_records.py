"""Source files in and out of Parquet, and damaged Parquet."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from starsmith.core.errors import ArtifactError
from starsmith.core.records import HELD_OUT, SCHEMA, SourceFile, read_files, sha256_of, swhid_of, write_files

FILE = SourceFile(
    path="pkg/größe.py",
    text="größe = 1\r\n\x00\t🙂\n",
    language="Python",
    license="MIT OR Apache-2.0",
    license_evidence="LICENSE (text)",
    repository="https://example.org/tiny.git",
    commit="c" * 40,
    swhid="swh:1:cnt:" + "0" * 40,
    sha256="0" * 64,
)


def files(count: int) -> list[SourceFile]:
    return [
        replace(FILE, path=f"{number}.py", text=f"x = {number}\n" * number, split=HELD_OUT if number % 3 else "train")
        for number in range(count)
    ]


def test_files_come_back_as_they_were_and_in_order(tmp_path: Path) -> None:
    written = [FILE, replace(FILE, text="", license="", commit=""), *files(600)]

    write_files(written, tmp_path / "shards")

    assert list(read_files(tmp_path)) == written


def test_files_are_spread_over_shards_of_a_given_size(tmp_path: Path) -> None:
    written = files(25)

    shards = write_files(iter(written), tmp_path / "shards", rows_per_shard=10)

    assert [shard.name for shard in shards] == ["00000.parquet", "00001.parquet", "00002.parquet"]
    assert [pq.read_metadata(shard).num_rows for shard in shards] == [10, 10, 5]
    assert list(read_files(tmp_path)) == written


def test_one_split_can_be_read_alone(tmp_path: Path) -> None:
    written = files(20)
    write_files(written, tmp_path / "shards")

    assert list(read_files(tmp_path, split=HELD_OUT)) == [file for file in written if file.split == HELD_OUT]


def test_no_files_make_one_empty_shard(tmp_path: Path) -> None:
    write_files([], tmp_path / "shards")

    assert list(read_files(tmp_path)) == []


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_files(files(50), tmp_path / name / "shards")[0] for name in "ab")

    assert first.read_bytes() == second.read_bytes()


def test_shards_have_the_columns_that_others_expect(tmp_path: Path) -> None:
    (shard,) = write_files([FILE], tmp_path / "shards")

    columns = {"path", "text", "language", "license", "repository", "commit", "swhid", "sha256"}
    assert columns <= set(pq.read_schema(shard).names)


def test_an_swhid_is_the_blob_id_of_git(tmp_path: Path) -> None:
    content = FILE.text.encode()

    blob = subprocess.run(
        ["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True, cwd=tmp_path
    )

    assert swhid_of(content) == "swh:1:cnt:" + blob.stdout.decode().strip()
    assert swhid_of(b"") == "swh:1:cnt:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert sha256_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_directory_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has no Parquet shards"):
        list(read_files(tmp_path / "none"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all" * 100])
def test_a_shard_that_is_no_parquet_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "00000.parquet").write_bytes(content)

    with pytest.raises(ArtifactError, match=r"00000\.parquet is not readable Parquet"):
        list(read_files(tmp_path))


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    (shard,) = write_files(files(50), tmp_path / "shards")
    content = shard.read_bytes()

    for kept in range(0, len(content), 97):
        shard.write_bytes(content[:kept])

        with pytest.raises(ArtifactError, match=r"00000\.parquet is not readable Parquet"):
            list(read_files(tmp_path))


@pytest.mark.slow
def test_a_changed_byte_of_the_data_is_named_or_makes_no_difference(tmp_path: Path) -> None:
    (shard,) = write_files([FILE], tmp_path / "shards")
    content = shard.read_bytes()

    group = pq.read_metadata(shard).row_group(0)
    size = sum(group.column(number).total_compressed_size for number in range(group.num_columns))

    for position in range(4, size + 4):
        shard.write_bytes(content[:position] + bytes([content[position] ^ 128]) + content[position + 1 :])

        assert outcome(tmp_path) in ([FILE], "00000.parquet is named")


def outcome(corpus: Path) -> list[SourceFile] | str:
    try:
        return list(read_files(corpus))
    except ArtifactError as error:
        return "00000.parquet is named" if "00000.parquet" in error.message else error.message


def test_a_shard_without_a_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    table = pa.table({name: pa.array(["x"]) for name in SCHEMA.names if name not in ("license", "commit")})
    pq.write_table(table, tmp_path / "shards" / "00000.parquet")

    with pytest.raises(ArtifactError, match=r"00000\.parquet has no column commit, license"):
        list(read_files(tmp_path))
