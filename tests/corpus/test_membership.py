"""Who asks whether they are in a corpus gets every row of theirs, what stands for the rest, or a clear error."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from builds import build, dropped, module, modules, near_copy
from starsmith.cli.corpus import corpus as command
from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.records import swhid_of
from starsmith.corpus.membership import Membership, ask, contains
from worlds import MIT, MakeCorpus, Write, source_file

pytestmark = pytest.mark.slow

ROWS = """\
{"kind": "code", "repository": "https://github.com/Octocat/Hello-World.git", "path": "a.py"}
{"kind": "code", "repository": "git@gitlab.com:octocat/tools.git", "path": "b.py"}
{"kind": "code", "repository": "https://github.com/octocatfan/hello", "path": "c.py"}
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """A corpus of three repositories on two hosts."""
    folder = tmp_path_factory.mktemp("tables")
    lines = [json.loads(line) for line in ROWS.splitlines()]
    rows = [
        {"repository_name": line["repository"], "path": line["path"], "content": module(number)}
        for number, line in enumerate(lines)
    ]
    write(folder / "in", {"rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    build(folder / "corpus", folder / "in" / "rows.jsonl", licenses={"unlicensed": True})
    return folder / "corpus"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """A folder `project`, and beside it the corpus that was built of it, with near and exact duplicates left out."""
    folder = tmp_path_factory.mktemp("world")
    notebook = {
        "cells": [
            {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1, "source": [module(50)]},
            {"cell_type": "markdown", "metadata": {}, "source": ["What comes of it, in a few words."]},
        ],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    extra = {
        "near.py": near_copy(3),
        "exact.py": module(4),
        "secret.py": module(60) + "OWNER = 'jane.doe@corporation.org'\n",
        "study.ipynb": json.dumps(notebook),
    }
    write(folder / "project", modules() | extra)
    build(folder / "corpus", folder / "project", notebooks=["structured"])
    return folder


def found(corpus: Path, what: str, most: int = 20) -> Membership:
    return contains(corpus, ask(what), most=most)


def paths(answer: Membership) -> set[str]:
    return {row.path for row in answer.rows}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("octocat", {"a.py", "b.py"}),
        ("OctoCat/hello-world", {"a.py"}),
        ("https://github.com/octocat", {"a.py"}),
        ("https://github.com/octocat/hello-world.git", {"a.py"}),
        ("git@gitlab.com:octocat/tools", {"b.py"}),
        ("octocatfan", {"c.py"}),
        ("octo", set()),
        ("hello-world", set()),
        ("https://gitlab.com/octocat/hello-world", set()),
    ],
)
def test_owners_and_repositories_are_found_as_opt_outs_find_them(tables: Path, what: str, expected: set[str]) -> None:
    answer = found(tables, what)

    assert paths(answer) == expected
    assert answer.count == len(expected)
    assert answer.is_in == bool(expected)


def test_a_content_is_found_by_its_swhid_in_any_case_and_with_qualifiers(tables: Path) -> None:
    swhid = swhid_of(module(1).encode())

    assert paths(found(tables, swhid)) == {"b.py"}
    assert paths(found(tables, swhid.upper() + ";origin=https://example.org")) == {"b.py"}
    assert not found(tables, swhid_of(b"another")).is_in


def test_a_file_is_found_by_its_content_wherever_it_lies(tables: Path, tmp_path: Path, write: Write) -> None:
    write(tmp_path, {"copy.txt": module(2), "changed.txt": module(2) + "\n"})

    assert paths(found(tables, str(tmp_path / "copy.txt"))) == {"c.py"}
    assert not found(tables, str(tmp_path / "changed.txt")).is_in


def test_rendered_and_redacted_files_are_found_by_what_they_were(project: Path) -> None:
    assert paths(found(project / "corpus", str(project / "project/study.ipynb"))) == {"study.ipynb"}
    assert paths(found(project / "corpus", str(project / "project/secret.py"))) == {"secret.py"}


def test_no_more_rows_than_wanted_are_shown_and_all_are_counted(project: Path) -> None:
    everything = found(project / "corpus", "project")

    some = found(project / "corpus", "project", most=3)

    assert some.rows == everything.rows[:3]
    assert some.count == everything.count == len(everything.rows)


def test_what_stands_for_files_that_were_left_out_is_told(project: Path) -> None:
    gone = {path: row for path, row in dropped(project / "corpus").items() if "duplicate" in row["reason"]}

    answer = found(project / "corpus", "project")

    assert {one.path for one in answer.left_out} == set(gone)
    assert answer.left_out_count == len(gone) == 2
    assert all(gone[one.path]["detail"].startswith(f"of {one.of}") and one.stands for one in answer.left_out)
    assert sorted(one.similarity == 1 for one in answer.left_out) == [False, True]


def test_a_near_duplicate_that_was_left_out_is_found_by_its_place(project: Path) -> None:
    (gone,) = (path for path, row in dropped(project / "corpus").items() if row["reason"] == "near_duplicate")

    answer = found(project / "corpus", str(project / "project" / gone))

    assert not answer.is_in
    assert [one.path for one in answer.left_out] == [gone]


def test_a_file_of_that_name_elsewhere_is_not_taken_for_it(project: Path, tmp_path: Path, write: Write) -> None:
    (gone,) = (path for path, row in dropped(project / "corpus").items() if row["reason"] == "near_duplicate")
    write(tmp_path / "other", {gone: "x = 1\n"})

    answer = found(project / "corpus", str(tmp_path / "other" / gone))

    assert answer.left_out == ()


def test_what_stood_for_others_and_went_later_does_not_stand(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "project", {"LICENSE": MIT, "kept.py": module(1), "a.py": module(3), "b.py": near_copy(3)})
    build(tmp_path / "first", tmp_path / "project")
    (stood,) = (one.of for one in found(tmp_path / "first", "project").left_out)
    write(tmp_path, {"optouts.txt": stood + "\n"})

    build(tmp_path / "second", tmp_path / "project", opt_outs=[str(tmp_path / "optouts.txt")])

    (one,) = found(tmp_path / "second", "project").left_out
    assert (one.of, one.stands) == (stood, False)


def test_without_the_list_of_what_was_left_out_the_rows_are_told(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "project", modules(3))
    build(tmp_path / "corpus", tmp_path / "project")
    listed = tmp_path / "corpus" / "run" / "dropped.jsonl"
    listed.unlink()

    answer = found(tmp_path / "corpus", "project")
    write(listed.parent, {"dropped.jsonl": b'\xff{"repository": "project", duplicate", "detail": \nproject\n[]'})
    damaged = found(tmp_path / "corpus", "project")

    assert answer.count == damaged.count == 3
    assert answer.left_out_count is None
    assert damaged.left_out == ()


def test_a_content_that_was_left_out_is_found_by_its_swhid_wherever_it_lies(project: Path, tmp_path: Path) -> None:
    (gone,) = (row for row in dropped(project / "corpus").values() if row["reason"] == "near_duplicate")
    shutil.copyfile(project / "project" / gone["path"], tmp_path / "other.py")

    by_swhid, by_file = found(project / "corpus", gone["swhid"]), found(project / "corpus", str(tmp_path / "other.py"))

    assert not by_swhid.is_in
    assert [one.path for one in by_swhid.left_out] == [one.path for one in by_file.left_out] == [gone["path"]]
    assert found(project / "corpus", swhid_of(b"another")).left_out_count == 0


def test_in_an_older_list_a_content_cannot_be_found_and_a_file_is_by_its_place(
    project: Path, tmp_path: Path, write: Write
) -> None:
    shutil.copytree(project / "corpus", tmp_path / "corpus")
    (gone,) = (row for row in dropped(project / "corpus").values() if row["reason"] == "near_duplicate")
    swhid = gone.pop("swhid")
    write(tmp_path / "corpus" / "run", {"dropped.jsonl": json.dumps(gone) + "\n"})

    assert found(tmp_path / "corpus", swhid).left_out_count is None
    assert found(tmp_path / "corpus", str(project / "project" / gone["path"])).left_out_count == 1


def test_names_with_other_letters_are_found_among_what_was_left_out(tmp_path: Path, write: Write) -> None:
    build(tmp_path / "corpus", write(tmp_path / "project", {"LICENSE": MIT, "a.py": module(1)}))
    row = {"repository": "https://github.com/Größe/tools", "path": "a.py", "stage": "duplicates"}
    row |= {"reason": "duplicate", "detail": "of project:a.py", "swhid": swhid_of(b"x")}
    write(tmp_path / "corpus" / "run", {"dropped.jsonl": json.dumps(row) + "\n"})

    assert found(tmp_path / "corpus", "https://github.com/größe").left_out_count == 1
    assert found(tmp_path / "corpus", "https://github.com/größe/TOOLS").left_out_count == 1


def test_a_name_in_the_place_of_the_other_file_is_not_taken_for_the_one_that_was_left_out(
    tmp_path: Path, write: Write
) -> None:
    build(tmp_path / "corpus", write(tmp_path / "project", {"LICENSE": MIT, "a.py": module(1)}))
    row = {"repository": "somebody/tools", "path": "octocat/a.py", "stage": "duplicates"}
    row |= {"reason": "duplicate", "detail": "of octocat/hello:a.py"}
    write(tmp_path / "corpus" / "run", {"dropped.jsonl": json.dumps(row) + "\n"})

    assert found(tmp_path / "corpus", "octocat").left_out_count == 0
    assert found(tmp_path / "corpus", "SomeBody").left_out_count == 1


def test_a_name_that_is_also_a_file_is_ambiguous(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"src/main.py": "x = 1\n", "octocat/keep": ""})
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match="ambiguous") as caught:
        ask("src/main.py")

    assert "./src/main.py" in caught.value.hint
    assert ask("./src/main.py").form == "file"
    assert ask("octocat").form == "name"  # a folder is no file


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("", "no owner, repository, content or file"),
        ("two words", "no owner, repository, content or file"),
        ("swh:1:cnt:123", "no owner, repository, content or file"),
        ("swh:1:dir:" + "0" * 40, "no owner, repository, content or file"),
        ("nul\0", "no owner, repository, content or file"),
        ("./nul\0", "cannot be read|no file"),
        ("./nowhere.py", "is no file, wanted is one file"),
        ("..", "is a folder, wanted is one file"),
        ("octocat/hello:src/a.py", "names a path in a repository"),
    ],
)
def test_what_is_none_of_the_forms_is_told_with_a_hint(what: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ask(what)

    assert caught.value.hint


def test_a_corpus_that_is_none_or_damaged_is_an_error(tmp_path: Path, make_corpus: MakeCorpus, write: Write) -> None:
    older = make_corpus(tmp_path / "older", [source_file("a.py", "x = 1\n")])
    write(tmp_path / "project", modules(3))
    build(tmp_path / "cut", tmp_path / "project")
    shard = tmp_path / "cut" / "shards" / "00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])

    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        found(tmp_path / "project", "octocat")
    with pytest.raises(ArtifactError, match="has no column cluster_size"):
        found(older, "octocat")
    with pytest.raises(ArtifactError, match="not readable Parquet"):
        found(tmp_path / "cut", "octocat")


def test_the_command_prints_a_table_or_json_and_its_status_says_whether(tables: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke

    table = run(command, ["contains", "octocat", "--corpus", str(tables), "--most", "1"])
    absent = run(command, ["contains", "nobody", "--corpus", str(tables)])
    as_json = run(command, ["contains", "octocat/tools", "--corpus", str(tables), "--json"])

    assert (table.exit_code, absent.exit_code, as_json.exit_code) == (0, 1, 0)
    assert "2 files in the corpus, the first 1 are shown" in table.stdout
    assert "nobody: no file in the corpus" in absent.stdout
    assert json.loads(as_json.stdout)["rows"][0]["path"] == "b.py"


def test_without_a_corpus_the_folder_must_be_one(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner().invoke
    monkeypatch.chdir(tmp_path)
    nowhere = run(command, ["contains", "octocat"])
    monkeypatch.chdir(tables)

    inside = run(command, ["contains", "octocat"])

    assert isinstance(nowhere.exception, InputError)
    assert inside.exit_code == 0


def test_a_file_whose_owner_and_repository_have_one_name_is_told_once(tmp_path: Path, write: Write) -> None:
    build(tmp_path / "corpus", write(tmp_path / "redis" / "redis", {"LICENSE": MIT, "a.py": module(1)}))
    row = {"repository": "https://github.com/redis/redis", "path": "redis.c", "stage": "duplicates"}
    row |= {"reason": "duplicate", "detail": "of https://github.com/redis/redis:a.py"}
    write(tmp_path / "corpus" / "run", {"dropped.jsonl": json.dumps(row) + "\n"})

    assert found(tmp_path / "corpus", "redis/redis").left_out_count == 1


def test_a_path_that_is_not_there_is_not_taken_for_a_name() -> None:
    with pytest.raises(InputError, match="no file that is there"):
        ask("lib/python3/__future__.py")
