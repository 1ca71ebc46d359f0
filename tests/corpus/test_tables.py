import gzip
import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from starsmith.core.errors import InputError
from starsmith.core.records import write_files
from starsmith.corpus import tables
from starsmith.corpus.files import RawFile, Unreadable
from starsmith.corpus.sources import FolderSource, Source, open_source
from worlds import source_file

LARGEST = 1_000_000

V1 = {
    "hexsha": "a" * 40,
    "size": 6,
    "ext": "py",
    "lang": "Python",
    "max_stars_repo_path": "src/a.py",
    "max_stars_repo_name": "team/one",
    "max_stars_repo_head_hexsha": "b" * 40,
    "max_stars_repo_licenses": ["MIT", "Apache-2.0"],
    "max_stars_count": 7.0,
    "content": "x = 1\n",
}
V2 = {
    "blob_id": "a" * 40,
    "directory_id": "c" * 40,
    "path": "/src/b.py",
    "content_id": "d" * 40,
    "detected_licenses": ["BSD-3-Clause", "MIT OR GPL-2.0-only"],
    "license_type": "permissive",
    "repo_name": "team/two",
    "revision_id": "e" * 40,
    "committer_date": datetime(2022, 3, 4, 5, 6, 7, tzinfo=UTC),
    "star_events_count": 3,
    "gha_license_id": "MIT",
    "gha_language": "C",
    "src_encoding": "UTF-8",
    "language": "Python",
    "content": "y = 2\n",
}
SMOL = {"content": "z = 3\n", "licenses": ["ISC"], "repository_name": "team/three", "path": "c.py", "lang": "Python"}


def read(source: Source, largest_bytes: int = LARGEST) -> list[RawFile | Unreadable]:
    units = [pickle.loads(pickle.dumps(unit)) for unit in source.units(largest_bytes=largest_bytes)]
    return [file for unit in units for file in unit.files()]


def write_parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    content = "".join(json.dumps(row, default=str) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_the_stack_v1_is_read_with_all_that_its_rows_tell(tmp_path: Path) -> None:
    (file,) = read(open_source(write_parquet(tmp_path / "v1.parquet", [V1])))

    assert isinstance(file, RawFile)
    assert (file.path, file.content, file.repository, file.commit) == ("src/a.py", b"x = 1\n", "team/one", "b" * 40)
    assert (file.language, file.stars) == ("Python", 7)
    assert (file.license.expression, file.license.evidence) == (
        "Apache-2.0 AND MIT",
        "declared: max_stars_repo_licenses of The Stack v1",
    )


def test_the_stack_v2_is_read_with_all_that_its_rows_tell(tmp_path: Path) -> None:
    (file,) = read(open_source(write_parquet(tmp_path / "v2.parquet", [V2])))

    assert isinstance(file, RawFile)
    assert (file.path, file.content, file.repository, file.commit) == ("src/b.py", b"y = 2\n", "team/two", "e" * 40)
    assert (file.language, file.stars, file.date[:19]) == ("Python", 3, "2022-03-04T05:06:07")
    assert file.license.expression == "BSD-3-Clause AND (MIT OR GPL-2.0-only)"


@pytest.mark.parametrize(
    ("detected", "declared", "expression"),
    [([], "MIT", "MIT"), ([], "NOASSERTION", "LicenseRef-unrecognised"), ([], None, ""), (["ISC"], "MIT", "ISC")],
)
def test_in_v2_what_was_detected_comes_before_the_repositorys_licence(
    tmp_path: Path, detected: list[str], declared: str | None, expression: str
) -> None:
    rows = [V2 | {"detected_licenses": detected, "gha_license_id": declared}, V2]

    file = read(open_source(write_parquet(tmp_path / "v2.parquet", rows)))[0]

    assert isinstance(file, RawFile)
    assert file.license.expression == expression


def test_bytes_in_another_encoding_become_utf8(tmp_path: Path) -> None:
    rows = [
        V2 | {"content": "ä\n".encode("latin-1"), "src_encoding": name} for name in ("ISO-8859-1", "punycode", "no")
    ]

    found = read(open_source(write_parquet(tmp_path / "v2.parquet", rows)))

    assert [file.content for file in found if isinstance(file, RawFile)] == ["ä\n".encode(), b"\xe4\n", b"\xe4\n"]


@pytest.mark.parametrize("name", ["smol.jsonl", "smol.jsonl.gz", "smol.json", "smol.parquet"])
def test_the_stack_smol_is_read_from_lines_and_parquet(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    source = open_source(write_parquet(path, [SMOL]) if name.endswith("parquet") else write_lines(path, [SMOL]))

    (file,) = read(source)

    assert isinstance(file, RawFile)
    assert (file.path, file.content, file.repository, file.license.expression) == (
        "c.py",
        b"z = 3\n",
        "team/three",
        "ISC",
    )


def test_our_own_corpus_is_a_source_again(tmp_path: Path) -> None:
    write_files([source_file("a.py", "x = 1\n"), source_file("b.py", "y = 2\n")], tmp_path / "corpus" / "shards")
    (tmp_path / "corpus" / "manifest.json").write_text("{}")
    (tmp_path / "corpus" / "run").mkdir()
    (tmp_path / "corpus" / "run" / "dropped.jsonl").write_text('{"path": "c.py"}\n')

    files = read(open_source(tmp_path / "corpus"))

    assert [file.path for file in files] == ["a.py", "b.py"]
    assert isinstance(files[0], RawFile)
    assert (files[0].license.expression, files[0].license.evidence) == ("MIT", "LICENSE (text)")
    assert (files[0].language, files[0].commit) == ("Python", "c" * 40)


def test_a_folder_and_a_glob_give_their_tables_in_order(tmp_path: Path) -> None:
    for name in ("data/python/2.parquet", "data/python/1.parquet", "data/c/1.parquet"):
        write_parquet(tmp_path / name, [V1 | {"max_stars_repo_path": name}])
    (tmp_path / "data" / "README.md").write_text("A data set.\n")

    def paths_of(place: str) -> list[str]:
        return [file.path for file in read(open_source(place))]

    assert paths_of(str(tmp_path / "data")) == ["data/c/1.parquet", "data/python/1.parquet", "data/python/2.parquet"]
    assert paths_of(f"{tmp_path}/data/*/1.parquet") == ["data/c/1.parquet", "data/python/1.parquet"]
    assert paths_of(f"{tmp_path}/**/[23].parquet") == ["data/python/2.parquet"]
    assert paths_of(f"file://{tmp_path}/data/c/1.parquet") == ["data/c/1.parquet"]


def test_a_folder_of_code_with_a_table_in_it_stays_a_folder(tmp_path: Path) -> None:
    write_parquet(tmp_path / "project" / "tests" / "data.parquet", [V1])
    (tmp_path / "project" / "a.py").write_text("x = 1\n")

    assert isinstance(open_source(tmp_path / "project"), FolderSource)


def test_row_groups_make_units_of_about_the_same_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        V1 | {"max_stars_repo_path": f"{number:03d}.py", "content": f"{number:03d}" * 1000} for number in range(100)
    ]
    path = write_parquet(tmp_path / "v1.parquet", rows, row_group_size=10, use_dictionary=False)
    monkeypatch.setattr(tables, "UNIT_BYTES", 90_000)

    units = open_source(path).units(largest_bytes=LARGEST)

    assert [unit.label for unit in units] == [
        f"v1.parquet row groups {first}-{first + 1} of 10" for first in range(1, 10, 2)
    ]
    assert [file.path for unit in units for file in unit.files()] == [row["max_stars_repo_path"] for row in rows]
    assert len({unit.fingerprint for unit in units}) == 5


def test_rows_that_give_no_file_are_counted(tmp_path: Path) -> None:
    rows = [
        V1,
        V1 | {"content": None},
        V1 | {"max_stars_repo_path": ""},
        V1 | {"max_stars_repo_path": "../up.py"},
        V1 | {"content": "x" * 2000},
    ]
    places = [write_parquet(tmp_path / "v1.parquet", rows), write_lines(tmp_path / "v1.jsonl", rows)]

    for path in places:
        found = read(open_source(path), largest_bytes=1000)

        reasons = [file.drop.reason for file in found if isinstance(file, Unreadable)]
        assert reasons == ["bad_row", "bad_row", "unsafe_path", "too_large"]
        assert {file.repository for file in found} == {"team/one"}


def test_lines_that_are_no_rows_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    row = json.dumps(SMOL).encode()
    lines = [row, b"{", b"[1]", b"[" * 100_000, b"\xff\xfe", b"", b'{"content": "' + b"x" * 200_000 + b'"}', row]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))

    found = read(open_source(tmp_path / "a.jsonl"), largest_bytes=1000)

    assert [type(file) for file in found] == [RawFile, *[Unreadable] * 5, RawFile]
    assert {file.drop.reason for file in found if isinstance(file, Unreadable)} == {"bad_row"}
    assert "line 2 of a.jsonl" in found[1].drop.detail if isinstance(found[1], Unreadable) else False


def test_lone_surrogates_in_a_line_do_no_harm(tmp_path: Path) -> None:
    (file,) = read(open_source(write_lines(tmp_path / "a.jsonl", [SMOL | {"content": "\ud800", "path": "\ud800.py"}])))

    assert isinstance(file, RawFile)
    assert (file.path, file.content) == ("?.py", b"\xed\xa0\x80")


def test_text_that_is_no_utf8_passes_as_bytes(tmp_path: Path) -> None:
    table = pa.table(
        {
            "content": pa.array([b"\xff\n"]).view(pa.string()),
            "path": pa.array([b"\xff.py"]).view(pa.string()),
            "repository_name": ["team/three"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")

    (file,) = read(open_source(tmp_path / "a.parquet"))

    assert isinstance(file, RawFile)
    assert (file.path, file.content) == ("\ufffd.py", b"\xff\n")


def test_an_unknown_schema_is_an_error_that_names_the_columns_and_what_is_known(tmp_path: Path) -> None:
    for path in (
        write_parquet(tmp_path / "a.parquet", [{"code": "x"}]),
        write_lines(tmp_path / "a.jsonl", [{"code": 1}]),
    ):
        with pytest.raises(InputError, match="has the columns code") as caught:
            open_source(path).units(largest_bytes=LARGEST)

        assert "The Stack v2" in caught.value.hint


def test_the_stack_v2_without_contents_is_an_error_that_says_where_they_are(tmp_path: Path) -> None:
    row = {name: value for name, value in V2.items() if name != "content"}

    with pytest.raises(InputError, match="no column `content`") as caught:
        open_source(write_parquet(tmp_path / "v2.parquet", [row])).units(largest_bytes=LARGEST)

    assert "Software Heritage" in caught.value.hint


def test_a_broken_table_is_an_error_and_one_that_breaks_later_a_counted_rest(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(InputError, match=r"a\.parquet is not readable Parquet"):
        open_source(tmp_path / "a.parquet").units(largest_bytes=LARGEST)

    path = write_parquet(tmp_path / "b.parquet", [V1] * 10, row_group_size=5)
    units = open_source(path).units(largest_bytes=LARGEST)
    path.write_bytes(b"PAR1 no table")
    (drop,) = [file for unit in units for file in unit.files()]
    assert isinstance(drop, Unreadable)
    assert drop.drop.reason == "unreadable_table"


def test_the_fingerprint_follows_the_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [V1])

    def fingerprint() -> str:
        return open_source(path).units(largest_bytes=LARGEST)[0].fingerprint

    before = fingerprint()
    assert fingerprint() == before

    write_parquet(path, [V1, V1])
    assert fingerprint() != before


def test_a_place_without_tables_is_an_error_that_shows_no_password(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no table"):
        open_source(f"{tmp_path}/*.parquet")

    with pytest.raises(InputError) as caught:
        open_source("s3://key:secret@bucket/a.parquet?no_such_setting=1")
    assert "secret" not in caught.value.message
