"""The stored samples of an evaluation, scored once more: whole, rewritten, and chosen otherwise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starsmith.core import artifact
from starsmith.core.records import HELD_OUT, read_files
from starsmith.core.statement import canonical
from starsmith.evaluation.infilling import Filled, choose_holes
from starsmith.evaluation.rescoring import rescore
from starsmith.evaluation.run import EvaluationConfig, _row, figures_of, per_layout

pytestmark = pytest.mark.slow  # imports all that evaluates

Rows = list[dict[str, Any]]


def evaluation(out: Path, corpus: Path, rewrite: Callable[[Rows], None] = lambda rows: None) -> Path:
    """What the stage writes, with a model that repeats the truth every other time."""
    holes = choose_holes(list(read_files(corpus, split=HELD_OUT)), 6)
    filled = [
        Filled(hole, "spm" if number % 2 else "psm", hole.truth if number % 2 else "x y", "stop", 3)
        for number, hole in enumerate(holes)
    ]
    rows = [json.loads(json.dumps(_row(number, one))) for number, one in enumerate(filled)]
    rewrite(rows)
    results = {"task": "held-out", "infilling": {**figures_of(filled), "per_layout": per_layout(filled)}}
    settings = EvaluationConfig(infills=6)
    with artifact.create(out, kind="evaluation", config=settings, rooms=("core",), parents={"corpus": corpus}) as draft:
        (draft.path / "results.json").write_text(json.dumps(results))
        (draft.path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        draft.counts.update(holes=len(rows), exact=sum(one.exact for one in filled))
    return out


def score(directory: Path) -> tuple[list[str], list[str]]:
    return rescore(directory, artifact.read(directory))


def test_an_evaluation_is_scored_again_from_its_samples(corpus: Path, tmp_path: Path) -> None:
    assert score(evaluation(tmp_path / "evaluation", corpus)) == ([], [])


@pytest.mark.parametrize(
    ("field", "change", "names"),
    [
        ("exact", lambda value: not value, "line 1: exact is"),
        ("completion", lambda value: "nothing", "infilling.similarity is"),
        ("truth", lambda value: value + "x", "no held-out file with this hole"),
        ("line", lambda value: value + 1, "no held-out file with this hole"),
        ("syntax_valid", lambda value: None, "line 1: syntax_valid is"),
        ("completion", lambda value: 5, "completion is 5, wanted: a string"),
        ("layout", lambda value: None, "layout is None, wanted: a string"),
        ("before", lambda value: [], r"before is [], wanted: a string"),
    ],
)
def test_a_sample_that_was_rewritten_is_named(
    field: str, change: Callable[[Any], Any], names: str, corpus: Path, tmp_path: Path
) -> None:
    def rewrite(rows: Rows) -> None:
        rows[0][field] = change(rows[0][field])

    problems, _ = score(evaluation(tmp_path / "evaluation", corpus, rewrite))

    assert any(names in problem for problem in problems), problems


def test_a_sample_that_stands_twice_is_named(corpus: Path, tmp_path: Path) -> None:
    def repeat(rows: Rows) -> None:
        rows[0] = dict(rows[2])

    problems, _ = score(evaluation(tmp_path / "evaluation", corpus, repeat))

    assert any("has 2 samples of one hole" in problem for problem in problems)
    assert any("has 1 more samples than the stage chooses" in problem for problem in problems)
    assert any("has 1 fewer samples than the stage chooses" in problem for problem in problems)


@pytest.mark.parametrize("other_code", [False, True])
def test_samples_that_were_left_out_are_missed(other_code: bool, corpus: Path, tmp_path: Path) -> None:
    directory = evaluation(tmp_path / "evaluation", corpus, lambda rows: rows.pop())
    if other_code:
        file = directory / artifact.MANIFEST
        statement = json.loads(file.read_bytes())
        statement["predicate"]["code"]["source_sha256"] = "0" * 64
        statement["predicate"]["seal"] = artifact._seal(statement)
        file.write_bytes(canonical(statement))

    problems, notes = score(directory)

    told = "has 1 fewer samples than the stage chooses from the corpus"
    assert any(told in message for message in (notes if other_code else problems))
    assert any(told in message for message in problems) is not other_code
