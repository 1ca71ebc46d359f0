"""Benchmark files in their own formats become one table of texts."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from starsmith.core import artifact
from starsmith.core.errors import ConfigError, InputError
from starsmith.evaluation import export

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SKIPPED: ../shared has no benchmarks")

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'import math\n\n\ndef area(r):\n    """ Area of a circle.\n    >>> area(0)\n    0\n    """\n',
    "entry_point": "area",
    "canonical_solution": "    return math.pi * r**2\n",
    "test": "def check(candidate):\n    assert candidate(0) == 0\n",
}
MBPP = {"text": "Write a function.", "code": "def f(): pass", "task_id": 7, "test_setup_code": "",
        "test_list": ["assert f() is None", "assert not f()"], "challenge_test_list": []}  # fmt: skip
CRUXEVAL = {"code": "def f(x):\n    return x", "input": "1", "output": "1", "id": "sample_3"}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(rows) if ".json." in path.name + "." else "\n".join(map(json.dumps, rows)) + "\n"
    path.write_bytes(gzip.compress(content.encode(), mtime=0) if path.suffix == ".gz" else content.encode())
    return path


def exported(data: Path, out: Path, **settings: Any) -> list[dict[str, str]]:
    export.run(export.ExportConfig(**settings), data=data, out=out)
    return pq.read_table(out / export.TEXTS).to_pylist()


def texts_of(rows: Sequence[dict[str, str]], part: str) -> list[str]:
    return [row["text"] for row in rows if row["part"] == part]


def test_a_file_is_recognised_by_its_columns_in_every_wrapping(tmp_path: Path) -> None:
    write_rows(tmp_path / "in" / "a.jsonl", [HUMANEVAL])
    write_rows(tmp_path / "in" / "deep" / "b.json", [MBPP])
    write_rows(tmp_path / "in" / "c.jsonl.gz", [CRUXEVAL])

    rows = exported(tmp_path / "in", tmp_path / "out")

    assert {(row["benchmark"], row["task_id"]) for row in rows} == {
        ("humaneval", "HumanEval/0"),
        ("mbpp", "7"),
        ("cruxeval", "sample_3"),
    }


def test_a_docstring_is_a_text_of_its_own(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.jsonl", [HUMANEVAL])

    rows = exported(data, tmp_path / "out")

    assert texts_of(rows, export.DESCRIPTION) == ["Area of a circle.\n    >>> area(0)\n    0"]
    assert texts_of(rows, export.SOLUTION) == ["return math.pi * r**2"]


def test_an_infilling_task_is_the_whole_function(tmp_path: Path) -> None:
    holes = [
        {**HUMANEVAL, "prompt": "def f():\n", "canonical_solution": "    x = 1\n", "suffix": "    return x\n"},
        {**HUMANEVAL, "prompt": "def f():\n    x = 1\n", "canonical_solution": "    return x\n", "suffix": ""},
    ]

    rows = exported(write_rows(tmp_path / "a.jsonl", holes), tmp_path / "out")

    assert [row["text"] for row in rows] == ["def f():\n    x = 1\n    return x"]


def test_a_ds_1000_prompt_ends_where_the_solution_begins(tmp_path: Path) -> None:
    row = {
        "prompt": "Problem:\nHow?\n\nA:\n<code>\nx = 1\n</code>\nresult = ...\nBEGIN SOLUTION\n<code>\n",
        "reference_code": "result = x",
        "code_context": "import numpy",
        "metadata": {"problem_id": 4},
    }

    rows = exported(write_rows(tmp_path / "a.jsonl", [row]), tmp_path / "out")

    assert texts_of(rows, export.PROMPT)[0].endswith("result = ...")
    assert texts_of(rows, export.DESCRIPTION) == ["How?"]


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.jsonl", [{**CRUXEVAL, "code": "x" * 100}])

    rows = exported(data, tmp_path / "out", most_characters=30)

    assert texts_of(rows, export.SOLUTION) == ["x" * 30]


def test_the_manifest_counts_texts_and_tasks_and_a_second_run_is_the_same(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.jsonl", [CRUXEVAL, {**CRUXEVAL, "id": "sample_4", "input": "2"}])

    exported(data, tmp_path / "one")
    exported(data, tmp_path / "two")

    manifest = artifact.read(tmp_path / "one", kind="benchmarks")
    assert manifest.counts == {"cruxeval_texts": 3, "cruxeval_tasks": 2}
    assert manifest.id == artifact.read(tmp_path / "two").id


def test_an_unknown_file_stops_the_stage_and_its_columns_are_named(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "in" / "odd.jsonl", [{"question": "?", "answer": "!"}])

    with pytest.raises(InputError, match="question, answer"):
        exported(data, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_an_unknown_file_can_be_ignored(tmp_path: Path) -> None:
    write_rows(tmp_path / "in" / "odd.jsonl", [{"question": "?"}])
    write_rows(tmp_path / "in" / "a.jsonl", [CRUXEVAL])

    assert len(exported(tmp_path / "in", tmp_path / "out", ignore=("odd*",))) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"code": ', "not readable JSON"),
        ("a.jsonl", b"\xff\xfe", "not readable JSON"),
        ("a.jsonl", b"[1, 2]\n", "has no rows"),
        ("a.jsonl", b"", "has no rows"),
        ("a.jsonl.gz", gzip.compress(b'{"id": 1}' * 1000, mtime=0)[:40], "in the middle of its gzip stream"),
        ("a.jsonl.gz", b"\x1f\x8bnothing of the kind", "not readable JSON"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=message):
        exported(tmp_path / name, tmp_path / "out")


def test_a_row_that_differs_from_the_first_is_named(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.jsonl", [CRUXEVAL, {"id": "sample_4"}])

    with pytest.raises(InputError, match="row 2 differs"):
        exported(data, tmp_path / "out")


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_MOST_BYTES", 1000)
    data = write_rows(tmp_path / "a.jsonl.gz", [{**CRUXEVAL, "code": "x" * 100_000}])

    with pytest.raises(InputError, match="unpacks to more than"):
        exported(data, tmp_path / "out")


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_benchmarks_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputError, match=r"does not exist|holds no benchmark"):
        exported(tmp_path / folder, tmp_path / "out")


def test_a_setting_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="most_characters=0"):
        export.ExportConfig(most_characters=0)


@needs_data
@pytest.mark.slow
def test_all_real_benchmarks_are_exported_with_their_task_counts(tmp_path: Path) -> None:
    exported(DATA, tmp_path / "out", ignore=("starcoder2-tokenizer/*",))

    counts = artifact.read(tmp_path / "out").counts
    published = {"humaneval": 164, "humaneval+": 164, "humaneval-x": 164, "mbpp": 974, "mbpp+": 378, "cruxeval": 800,
                 "ds-1000": 999, "cyberseceval-instruct": 1916, "multipl-e-rs": 156, "multipl-e-go": 154}  # fmt: skip
    assert {name: counts[f"{name}_tasks"] for name in published} == published
    assert sum(name.startswith("multipl-e-") and name.endswith("_tasks") for name in counts) == 18
