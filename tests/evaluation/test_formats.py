"""Other people's files in and out."""

import json
from pathlib import Path
from typing import Any

import pytest

from graded import WRONG, Plain, answers_of, tiny
from starsmith.core.errors import InputError
from starsmith.evaluation.answers import Answer
from starsmith.evaluation.formats import bigcode, evalplus, lm_eval, model_index
from starsmith.evaluation.journal import Journal
from starsmith.evaluation.score_stage import read_answers
from starsmith.evaluation.scoring import figures, judge

RESULTS: dict[str, Any] = {
    "task": "humaneval+",
    "title": "HumanEval+",
    "model": "m",
    "protocol": {"temperature": 0.0},
    "problems": 164,
    "answered": 164,
    "scores": {
        "base": {"pass@1": {"value": 0.5, "low": 0.4, "high": 0.6}},
        "plus": {"pass@1": {"value": 0.25, "low": 0.2, "high": 0.3}},
    },
}


def test_samples_are_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    answers = [
        Answer(task_id="a", sample=0, completion="    x\n", solution="def f():\n    x\n", raw="    x\n", key="1"),
        Answer(task_id="a", sample=1, solution="Ω", finish_reason="length", truncated=True),
        Answer(task_id="b", sample=0, completion=""),
    ]

    evalplus.write_samples(answers, tmp_path / "samples.jsonl")

    assert evalplus.read_samples(tmp_path / "samples.jsonl") == answers


def test_a_torn_last_line_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"task_id": "a", "completion": "x"}\n{"task_id": "b", "compl')

    assert [answer.task_id for answer in evalplus.read_samples(path)] == ["a"]
    assert "the last line was not written to its end" in capsys.readouterr().err


def test_a_torn_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"task_id": "a", "compl\n{"task_id": "b", "completion": "x"}\n')

    with pytest.raises(InputError, match="line 1 is no JSON"):
        evalplus.read_samples(path)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"completion": "x"}, "names no task_id"),
        ({"task_id": "a"}, "neither a completion nor a solution"),
        ({"task_id": "a", "completion": ["x"]}, "its completion is no text"),
        (["a"], "is no JSON object"),
    ],
)
def test_a_line_that_is_no_sample_says_what_it_lacks(tmp_path: Path, row: object, said: str) -> None:
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")

    with pytest.raises(InputError, match=f"line 1.*{said}"):
        evalplus.read_samples(tmp_path / "s.jsonl")


def test_an_unknown_task_is_named_with_the_one_that_is_near(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    path = tmp_path / "s.jsonl"
    path.write_text('{"task_id": "add-1", "completion": "x"}\n{"task_id": "ad-2", "completion": "x"}\n')

    with pytest.raises(InputError, match="'ad-2'") as caught:
        read_answers(path, loaded)

    assert caught.value.hint == "did you mean 'add-2'?"


def test_samples_of_another_benchmark_are_told_as_such(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    (tmp_path / "s.jsonl").write_text('{"task_id": "Mbpp/2", "completion": "x"}\n')

    with pytest.raises(InputError, match=r"samples of another benchmark.*'Mbpp/2'.*'add-0'"):
        read_answers(tmp_path / "s.jsonl", loaded)


def test_an_empty_file_holds_no_sample(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text("")

    with pytest.raises(InputError, match="holds no sample"):
        read_answers(tmp_path / "s.jsonl", tiny(tmp_path))


def test_evalplus_folder_of_programs_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "HumanEval_0"
    folder.mkdir(parents=True)
    for number in range(11):
        (folder / f"{number}.py").write_text(f"# {number}")

    found = evalplus.read_folder(tmp_path / "out")

    assert [answer.solution for answer in found] == [f"# {number}" for number in range(11)]
    assert {answer.task_id for answer in found} == {"HumanEval/0"}


def test_what_evalplus_reads_of_our_results_gives_our_score(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    answers = answers_of(loaded, None, WRONG, None, None, WRONG, "")
    with Journal(tmp_path / "verdicts.jsonl") as journal:
        judged = judge(loaded, answers, Plain(), journal)
    path = tmp_path / "eval_results.json"

    path.write_text(json.dumps(evalplus.eval_results(loaded, answers, judged)))

    ours = figures(loaded, answers, judged, {}, seed=0)
    assert evalplus.read_eval_results(path)["base"] == {
        key: tuple(pair) for key, pair in ours["per_problem"]["base"].items()
    }
    assert json.loads(path.read_text())["pass_at_k"]["base"]["pass@1"] == 0.5
    assert {row["base_status"] for rows in json.loads(path.read_text())["eval"].values() for row in rows} == {
        "pass",
        "fail",
    }


def test_evalplus_counts_the_plus_tests_where_the_base_passes_as_well(tmp_path: Path) -> None:
    rows = [{"base_status": "pass", "plus_status": "pass"}, {"base_status": "fail", "plus_status": "pass"}]
    (tmp_path / "e.json").write_text(json.dumps({"eval": {"HumanEval/0": rows}}))

    assert evalplus.read_eval_results(tmp_path / "e.json") == {
        "base": {"HumanEval/0": (2, 1)},
        "plus": {"HumanEval/0": (2, 1)},
    }


def test_bigcode_generations_go_out_and_come_back(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    answers = answers_of(loaded, None, WRONG, None, None, None, None)
    with Journal(tmp_path / "verdicts.jsonl") as journal:
        judged = judge(loaded, answers, Plain(), journal)
        lists = bigcode.generations(evalplus.eval_results(loaded, answers, judged))
        (tmp_path / "generations.json").write_text(json.dumps(lists))

        again = judge(loaded, read_answers(tmp_path / "generations.json", loaded), Plain(), journal)

    assert lists[1] == ["def add_1(value):\n    return None\n"]
    assert [one.verdict for one in again] == [one.verdict for one in judged]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[[]]", "programs for 1 problems"),
        ("{}", "no list of lists"),
        ("[", "no JSON"),
        ("[[1],[],[],[],[],[]]", "no text"),
    ],
)
def test_generations_that_do_not_fit_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "g.json").write_text(content)

    with pytest.raises(InputError, match=said):
        read_answers(tmp_path / "g.json", tiny(tmp_path))


def test_lm_eval_results_go_out_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(lm_eval.results_json(RESULTS)))

    assert lm_eval.read_results(tmp_path / "results.json") == {"humaneval+": {"pass@1": 0.25}}


def test_lm_evals_own_filters_and_aliases_are_read(tmp_path: Path) -> None:
    entries = {"alias": " - humaneval", "pass@1,create_test": 0.3, "pass@1_stderr,create_test": 0.03, "acc,none": 1}
    (tmp_path / "r.json").write_text(json.dumps({"results": {"humaneval": entries}}))

    assert lm_eval.read_results(tmp_path / "r.json") == {"humaneval": {"pass@1": 0.3, "acc": 1.0}}


def test_a_model_card_goes_out_and_comes_back(tmp_path: Path) -> None:
    card = model_index.front_matter('my "model"', [RESULTS]) + "\n# My model\n"
    (tmp_path / "README.md").write_text(card)

    assert model_index.read_card(tmp_path / "README.md") == [
        model_index.CardScore("humaneval+", "pass@1 (base tests)", 50.0),
        model_index.CardScore("humaneval+", "pass@1 (plus tests)", 25.0),
    ]


def test_the_card_is_one_that_the_hub_reads(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "README.md").write_text(model_index.front_matter("mine", [RESULTS]) + "\n# Mine\n")

    data = hub.ModelCard.load(tmp_path / "README.md").data

    assert data.model_name == "mine"
    assert [(result.dataset_type, result.metric_value) for result in data.eval_results] == [
        ("humaneval+", 50.0),
        ("humaneval+", 25.0),
    ]


@pytest.mark.parametrize("reader", [evalplus.read_eval_results, lm_eval.read_results])
def test_a_file_of_another_kind_is_named(tmp_path: Path, reader: Any) -> None:
    (tmp_path / "x.json").write_text("[1]")

    with pytest.raises(InputError, match=r"x\.json"):
        reader(tmp_path / "x.json")
