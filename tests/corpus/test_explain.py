"""What a build would do with one file, and why."""

import json
from pathlib import Path
from typing import Any

import pytest

from builds import module, near_copy
from starsmith.core.config import build as build_config
from starsmith.core.errors import InputError
from starsmith.corpus.build import run
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.explain import Word, explain
from starsmith.corpus.sources import open_sources
from starsmith.corpus.stages import STAGE_NAMES, Rules
from worlds import MIT, Commit, Write

pytestmark = pytest.mark.slow


def words(path: Path, *, corpus: Path | None = None, **settings: Any) -> list[Word]:
    rules = Rules(build_config(CorpusConfig, settings, where="here"))
    return list(explain(path, rules, corpus=corpus))


@pytest.fixture
def project(tmp_path: Path, commit: Commit) -> Path:
    files = {f"pkg/m{number}.py": module(number) for number in range(3)}
    commit(tmp_path / "project", {"LICENSE": MIT, **files})
    return tmp_path / "project"


def test_every_stage_has_its_word_on_a_file_that_passes(project: Path) -> None:
    found = words(project / "pkg" / "m1.py")

    assert tuple(word.stage for word in found) == STAGE_NAMES
    assert {word.decision for word in found} == {"passes"}
    by_stage = {word.stage: word.why for word in found}
    assert "pkg/m1.py of project at " in by_stage["read"]
    assert "Python" in by_stage["language"]
    assert by_stage["license"] == "MIT (text of LICENSE)"


def test_a_drop_is_the_last_word(project: Path, write: Write, commit: Commit) -> None:
    commit(project, {"gpl.py": "# SPDX-License-Identifier: GPL-3.0-only\n" + module(9)})

    *before, last = words(project / "gpl.py")

    assert (last.stage, last.decision) == ("license", "drops")
    assert last.why.startswith("not_permissive: GPL-3.0-only")
    assert [word.stage for word in before] == list(STAGE_NAMES[: STAGE_NAMES.index("license")])


def test_a_redaction_is_a_change(tmp_path: Path, write: Write) -> None:
    text = module(1) + "owner = 'jane.doe@acme-widgets.com'\n"
    folder = write(tmp_path / "plain", {"LICENSE": MIT, "a.py": text})

    (change,) = [word for word in words(folder / "a.py") if word.decision == "changes"]

    assert change.stage == "redaction"
    assert "1 " in change.why


def test_a_file_is_compared_with_a_corpus(tmp_path: Path, project: Path, write: Write) -> None:
    run(CorpusConfig(), sources=open_sources([project]), out=tmp_path / "corpus")
    near = near_copy(2)
    folder = write(tmp_path / "other", {"LICENSE": MIT, "near.py": near, "far.py": module(50), "same.py": module(1)})

    last = {name: words(folder / f"{name}.py", corpus=tmp_path / "corpus")[-1] for name in ("near", "far", "same")}

    assert (last["same"].stage, last["same"].decision) == ("duplicates", "drops")
    assert "project:pkg/m1.py" in last["same"].why
    assert (last["near"].stage, last["near"].decision) == ("near_duplicates", "drops")
    assert "project:pkg/m2.py" in last["near"].why
    assert last["far"].stage == STAGE_NAMES[-1]


def test_a_file_is_no_duplicate_of_itself(tmp_path: Path, project: Path) -> None:
    run(CorpusConfig(), sources=open_sources([project]), out=tmp_path / "corpus")

    found = words(project / "pkg" / "m1.py", corpus=tmp_path / "corpus")

    assert "the corpus has this very file" in [word.why for word in found]
    assert found[-1].stage == STAGE_NAMES[-1]


def test_what_it_says_is_what_a_build_does(tmp_path: Path, write: Write) -> None:
    files = {
        "good.py": module(1),
        "vendor/theirs.py": module(2),
        "table.py": "T = [\n" + "    'one', 'two', 3,\n" * 50 + "]\n",
        "logo.png": b"\x89PNG\0\0",
        "notes.unheard": "words\n",
    }
    folder = write(tmp_path / "project", {"LICENSE": MIT, **files})
    run(CorpusConfig(), sources=open_sources([folder]), out=tmp_path / "corpus")
    lines = (tmp_path / "corpus" / "run" / "dropped.jsonl").read_text().splitlines()
    dropped = {row["path"]: row for row in map(json.loads, lines)}

    for path in files:
        word = words(folder / path)[-1] if "/" not in path else None
        if word is None:
            continue
        assert (word.decision == "drops") == (path in dropped), path
        if path in dropped:
            assert (word.stage, word.why.partition(":")[0]) == (dropped[path]["stage"], dropped[path]["reason"])


def test_a_notebook_is_told_of_in_each_form(tmp_path: Path, write: Write) -> None:
    cell = {"cell_type": "code", "source": module(1), "outputs": []}
    notebook = {"nbformat": 4, "metadata": {"language_info": {"name": "python"}}, "cells": [cell]}
    folder = write(tmp_path / "project", {"LICENSE": MIT, "a.ipynb": json.dumps(notebook)})

    found = words(folder / "a.ipynb")

    reads = [word.why for word in found if word.stage == "read"]
    assert [why.rpartition(" as ")[2].partition(",")[0] for why in reads] == ["notebook_script", "notebook_structured"]


def test_a_file_that_no_build_reads_is_named(tmp_path: Path, project: Path, write: Write) -> None:
    write(project, {"pkg/new.py": module(8)})

    with pytest.raises(InputError, match=r"has no file pkg/new\.py") as uncommitted:
        words(project / "pkg" / "new.py")
    with pytest.raises(InputError, match="is no file"):
        words(project / "pkg")

    assert "committed" in uncommitted.value.hint
