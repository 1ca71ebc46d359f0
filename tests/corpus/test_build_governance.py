"""What governs a corpus: opt-outs, benchmarks, secrets and weights, and what documents become."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from builds import SHIPPED, benchmarks_of, build, dropped, drops, module, modules, rows_of
from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.records import read_files, sha256_of
from worlds import MIT, Write

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, write: Write) -> Path:
    return write(tmp_path / "project", modules())


def test_whoever_opted_out_is_left_out_and_the_entry_is_named(tmp_path: Path, write: Write) -> None:
    files = {"LICENSE": MIT, "a.py": module(1), "b.py": module(2), "c.py": SHIPPED}
    folder = write(tmp_path / "project", files)
    text = "who,since,reason\nproject:a.py,2026-01-31,moved on\nswh:1:cnt:eaac0c640486592989277504be7944d9f802e426\n"
    list_ = write(tmp_path, {"optouts.csv": text}) / "optouts.csv"

    manifest = build(tmp_path / "corpus", folder, opt_outs=[str(list_)])

    assert set(rows_of(tmp_path / "corpus")) == {"b.py"}
    assert drops(manifest)["opted_out"] == 2
    assert "optouts.csv line 2 (moved on)" in dropped(tmp_path / "corpus")["a.py"]["detail"]


def test_a_list_of_opt_outs_that_is_not_there_stops_the_build(tmp_path: Path, project: Path) -> None:
    with pytest.raises(InputError, match=r"opt-out list .*nowhere\.txt cannot be read"):
        build(tmp_path / "corpus", project, opt_outs=[str(tmp_path / "nowhere.txt")])


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    return benchmarks_of(tmp_path / "benchmarks", module(77))


def test_a_file_that_contains_a_benchmark_text_goes_and_the_match_is_told(
    project: Path, write: Write, benchmarks: Path
) -> None:
    write(project, {"leak.py": "import os\n\n\n" + module(77).replace("    ", "\t") + "\n\nprint(os.name)\n"})

    manifest = build(project.parent / "corpus", project, benchmarks=benchmarks)

    assert drops(manifest)["contaminated"] == 1
    row = dropped(project.parent / "corpus")["leak.py"]
    assert row["stage"] == "decontamination"
    assert "bench" in row["detail"]
    assert [parent.role for parent in manifest.parents] == ["benchmarks"]


def test_benchmarks_that_are_no_artefact_stop_the_build(tmp_path: Path, project: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        build(tmp_path / "corpus", project, benchmarks=project)


def test_secrets_are_replaced_counted_and_become_control_tokens(tmp_path: Path, write: Write) -> None:
    text = module(1) + "\nowner = 'jane.doe@acme-widgets.com'\nhost = '93.184.216.34'\nliteral = '<EMAIL>'\n"
    folder = write(tmp_path / "project", {"LICENSE": MIT, "a.py": text})

    manifest = build(tmp_path / "corpus", folder, held_out=0.0)

    (file,) = read_files(tmp_path / "corpus")
    assert "jane.doe" not in file.text
    assert "93.184.216.34" not in file.text
    assert [file.text[at : at + 7] for at in file.controls] == ["<EMAIL>"]  # not the one that was there as text
    assert file.text.count("<EMAIL>") == 2
    assert file.sha256 == sha256_of(text.encode())
    assert rows_of(tmp_path / "corpus")["a.py"]["redactions"] == 2
    assert sum(number for name, number in manifest.counts.items() if name.startswith("redacted_")) == 2


def test_weights_are_by_language_and_repository(tmp_path: Path, write: Write) -> None:
    files = {"LICENSE": MIT, "a.py": module(1), "b.c": "int twice(int value) {\n    return value * 2;\n}\n"}
    folder = write(tmp_path / "project", files)

    build(tmp_path / "corpus", folder, sampling={"languages": {"C": 0.5}, "repositories": {"project": 3.0}})

    assert {path: row["weight"] for path, row in rows_of(tmp_path / "corpus").items()} == {"a.py": 3.0, "b.c": 1.5}


def test_a_notebook_is_two_rows_with_control_tokens(tmp_path: Path, write: Write) -> None:
    cells = [
        {"cell_type": "markdown", "source": "# Sums\n\nWe add <jupyter_code> things."},
        {"cell_type": "code", "source": SHIPPED, "outputs": []},
    ]
    notebook = {"nbformat": 4, "metadata": {"language_info": {"name": "python"}}, "cells": cells}
    folder = write(tmp_path / "project", {"LICENSE": MIT, "sums.ipynb": json.dumps(notebook)})

    manifest = build(tmp_path / "corpus", folder, held_out=0.0)

    table = pq.read_table(tmp_path / "corpus" / "shards" / "00000.parquet").to_pylist()
    by_kind = {row["kind"]: row for row in table}
    assert manifest.counts["kept"] == 2
    assert set(by_kind) == {"notebook_script", "notebook_structured"}
    assert by_kind["notebook_script"]["language"] == "Python"
    structured = by_kind["notebook_structured"]
    tokens = [structured["text"][at:].partition(">")[0] + ">" for at in structured["controls"]]
    assert tokens[:3] == ["<jupyter_start>", "<jupyter_text>", "<jupyter_code>"]
    assert structured["text"].count("<jupyter_code>") == 2  # and only one of them is a token
    assert tokens.count("<jupyter_code>") == 1
    assert by_kind["notebook_script"]["swhid"] == structured["swhid"]


def test_a_notebook_in_no_form_is_a_counted_drop(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", {"LICENSE": MIT, "a.py": module(1), "x.ipynb": "{}", "y.ipynb": "not JSON"})

    none = build(tmp_path / "none", folder, notebooks=[])
    broken = build(tmp_path / "broken", folder, notebooks=["script"])

    assert drops(none)["notebook"] == 2
    assert sum(drops(broken).values()) == 3
    assert set(rows_of(tmp_path / "broken")) == {"a.py"}


def test_documentation_pages_are_rendered_where_the_recipe_says(tmp_path: Path, write: Write) -> None:
    paragraph = "<p>" + "Adding numbers is what this page is about, and it says so in words. " * 5 + "</p>"
    page = f"<html><body><h1>Sums</h1>{paragraph}<script>var hidden = 1;</script></body></html>"
    folder = write(tmp_path / "project", {"LICENSE": MIT, "docs/sums.html": page, "a.py": module(1)})

    build(tmp_path / "corpus", folder, documentation=["docs/*"])

    row = rows_of(tmp_path / "corpus")["docs/sums.html"]
    assert (row["kind"], row["language"]) == ("documentation", "Markdown")
    assert "<p>" not in row["text"]
    assert "hidden" not in row["text"]
