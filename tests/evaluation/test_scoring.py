from dataclasses import replace
from pathlib import Path

import pytest

from graded import RAISES, ROWS, WRONG, Plain, answers_of, tiny
from starsmith.evaluation.answers import Answer
from starsmith.evaluation.benchmarks.tasks import Loaded
from starsmith.evaluation.journal import Journal
from starsmith.evaluation.scoring import Judged, figures, judge, judge_references


def judged(loaded: Loaded, answers: list[Answer], folder: Path, runner: Plain | None = None) -> list[Judged]:
    with Journal(folder / "verdicts.jsonl") as journal:
        return judge(loaded, answers, runner or Plain(), journal)


def test_each_answer_gets_its_verdict(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    answers = answers_of(loaded, None, WRONG, RAISES, "    return value +", None, "")

    found = judged(loaded, answers, tmp_path)

    assert [one.verdict for one in found] == ["pass", "fail", "error", "error", "pass", "error"]
    assert "ValueError" in found[2].detail


def test_the_figures_are_those_of_the_verdicts(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    answers = answers_of(loaded, None, WRONG, None, "", None, None)

    found = figures(loaded, answers, judged(loaded, answers, tmp_path), {}, seed=0)

    assert found["scores"]["base"]["pass@1"]["value"] == pytest.approx(4 / 6, abs=1e-6)
    assert found["verdicts"] == {"error": 1, "fail": 1, "pass": 4}
    assert found["empty_completions"] == 1
    assert found["groups"]["even"]["pass@1"]["value"] == 1
    assert found["groups"]["odd"]["pass@1"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["per_problem"]["base"]["add-1"] == [1, 0]


def test_a_program_runs_once_however_often_it_was_written(tmp_path: Path) -> None:
    loaded, runner = tiny(tmp_path), Plain()
    one = answers_of(loaded, None)[0]

    found = judged(loaded, [replace(one, sample=number) for number in range(5)], tmp_path, runner)

    assert len(runner.ran) == 1
    assert [judgement.verdict for judgement in found] == ["pass"] * 5


def test_what_was_executed_before_a_kill_is_not_executed_again(tmp_path: Path) -> None:
    loaded, second = tiny(tmp_path), Plain()
    answers = answers_of(loaded, *[None] * 6)
    first = judged(loaded, answers[:4], tmp_path, Plain())

    again = judged(loaded, answers, tmp_path, second)

    assert len(second.ran) == 2
    assert again[:4] == first


def test_an_error_of_the_harness_is_no_failure_and_is_tried_again(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    answers = answers_of(loaded, None, None, WRONG)

    broken = judged(loaded, answers, tmp_path, Plain(harness_errors=1))
    found = figures(loaded, answers, broken, {}, seed=0)
    mended = judged(loaded, answers, tmp_path, Plain())

    assert found["harness_errors"] == 1
    assert found["scores"]["base"]["pass@1"]["value"] == 0.5  # of the two that have a verdict
    assert [one.verdict for one in mended] == ["pass", "pass", "fail"]


def test_a_pass_at_k_that_some_problem_lacks_samples_for_is_named_and_not_given(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    right = answers_of(loaded, None, None)
    answers = [replace(right[0], sample=number) for number in range(5)] + right[1:]

    found = figures(loaded, answers, judged(loaded, answers, tmp_path), {}, seed=0)

    assert set(found["scores"]["base"]) == {"pass@1"}
    assert found["not_reported"] == ["pass@5: a problem has 1 samples, wanted at least 5"]


def test_a_whole_program_is_judged_as_it_is(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)

    found = judged(loaded, [Answer(task_id="add-1", sample=0, solution="def add_1(x): return x + 1")], tmp_path)

    assert found[0].verdict == "pass"


def test_the_score_over_problems_whose_known_answer_passes_stands_beside_the_raw_one(tmp_path: Path) -> None:
    rows = [{**row, "reference": WRONG} if row["id"] == "add-0" else row for row in ROWS]
    loaded = tiny(tmp_path, rows)
    answers = answers_of(loaded, WRONG, "    return value + 1\n", *[WRONG] * 4)

    with Journal(tmp_path / "verdicts.jsonl") as journal:
        runner = Plain()
        verdicts = judge(loaded, answers, runner, journal)
        references = judge_references(loaded, runner, journal)
    found = figures(loaded, answers, verdicts, references, seed=0)

    assert found["scores"]["base"]["pass@1"]["value"] == pytest.approx(1 / 6, abs=1e-6)
    assert found["references"]["runnable"]["pass@1"]["value"] == pytest.approx(1 / 5, abs=1e-6)
    assert found["references"]["status"]["add-0"] == "fail"
    assert found["references"]["groups"] == {"even": [2, 3], "odd": [3, 3]}


def test_another_library_version_is_another_program() -> None:
    from starsmith.evaluation import problem
    from starsmith.evaluation.scoring import program_of

    tests = problem.Tests(source="assert f()", entry_point="f")

    one, other = (program_of("def f(): ...", tests, env) for env in ("numpy 1", "numpy 2"))

    assert one.key != other.key
    assert one.candidate == other.candidate
