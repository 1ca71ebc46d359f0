"""Tables and JSON at a place: whole or absent, and read as they were written."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from starsmith.core.errors import InputError
from starsmith.corpus import storage

TABLE = pa.table({"number": [1, 2, 3], "text": pa.array(["a", "é", None], pa.large_string())})


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = storage.join(str(tmp_path / "new"), "part/00000.parquet")

    storage.write_table(TABLE, place, storage.STAGED)

    assert storage.read_table(place).equals(TABLE)
    assert storage.read_table(place, ["text"]).equals(TABLE.select(["text"]))
    assert [path.name for path in (tmp_path / "new" / "part").iterdir()] == ["00000.parquet"]


def test_writing_again_replaces_the_whole(tmp_path: Path) -> None:
    place = str(tmp_path / "a.parquet")
    storage.write_table(TABLE, place, storage.STAGED)

    storage.write_table(TABLE.slice(1, 1), place, storage.KEPT)

    assert storage.read_table(place).equals(TABLE.slice(1, 1))


def test_a_table_whose_rows_end_in_an_error_is_not_there(tmp_path: Path) -> None:
    place = str(tmp_path / "a.parquet")

    def fail() -> None:
        with storage.writing(place, TABLE.schema, storage.STAGED) as write:
            write(TABLE)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert list(tmp_path.iterdir()) == []


def test_kept_tables_have_checksums(tmp_path: Path) -> None:
    place = tmp_path / "a.parquet"
    storage.write_table(TABLE, str(place), {**storage.KEPT, "use_dictionary": False})
    content = bytearray(place.read_bytes())
    content[pq.ParquetFile(place).metadata.row_group(0).column(1).data_page_offset + 40] ^= 1
    place.write_bytes(content)

    with pytest.raises(OSError, match=r"(?i)crc"):
        pq.ParquetFile(place, page_checksum_verification=True).read()


def test_json_is_read_as_it_was_written_and_none_where_there_is_none(tmp_path: Path) -> None:
    place = str(tmp_path / "deep" / "outcome.json")

    storage.write_json({"rows": [["a\n", 1]], "é": None}, place)

    assert storage.read_json(place) == {"rows": [["a\n", 1]], "é": None}
    assert storage.read_json(str(tmp_path / "other.json")) is None


def test_a_file_is_fetched_into_a_new_folder(tmp_path: Path) -> None:
    storage.write_table(TABLE, str(tmp_path / "a.parquet"), storage.KEPT)

    storage.fetch(str(tmp_path / "a.parquet"), tmp_path / "shards" / "00000.parquet")

    assert (tmp_path / "shards" / "00000.parquet").read_bytes() == (tmp_path / "a.parquet").read_bytes()


def test_a_place_is_removed_with_all_below_it_or_was_not_there(tmp_path: Path) -> None:
    storage.write_json({}, str(tmp_path / "staging" / "deep" / "a.json"))

    storage.remove(str(tmp_path / "staging"))
    storage.remove(str(tmp_path / "staging"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("runs/x", "runs/x/read/0.parquet"),
        ("runs/x/", "runs/x/read/0.parquet"),
        ("s3://bucket/x?scheme=http", "s3://bucket/x/read/0.parquet?scheme=http"),
    ],
)
def test_a_name_goes_before_the_parameters_of_a_url(place: str, wanted: str) -> None:
    assert storage.join(place, "read/0.parquet") == wanted


def test_a_place_that_no_file_system_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ftp://host/x/a\.json is no place that can be written") as caught:
        storage.write_json({}, "ftp://host/x/a.json")

    assert "s3://" in caught.value.hint
