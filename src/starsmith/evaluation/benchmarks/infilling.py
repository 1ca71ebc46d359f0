"""HumanEval-Infilling (Bavarian et al. 2022): lines or spans taken out of HumanEval's answers, judged by execution."""

from collections.abc import Sequence
from dataclasses import replace

from starsmith.evaluation.benchmarks.python_tests import checked_by
from starsmith.evaluation.problem import Problem, Protocol, Row, Task

SOURCE = "greedy, one sample; StarCoder2's paper has no score for it"


def problems(rows: Sequence[Row]) -> list[Problem]:
    """A problem for each hole."""
    return [_problem(row) for row in rows]


def _problem(row: Row) -> Problem:
    name = row["entry_point"]
    return Problem(
        id=row["task_id"],
        prompt=row["prompt"],
        suffix=row["suffix"],
        head=row["prompt"],
        tail=row["suffix"],
        # The hole is in the function's body, so the whole solution parses and has all that the tests may want.
        tests=(
            checked_by(
                f"{row['test']}\n\ncheck({name})\n",
                name,
                around=row["prompt"] + row["canonical_solution"] + row["suffix"],
            ),
        ),
        reference=row["canonical_solution"],
    )


SINGLE_LINE = Task(
    name="infilling-single-line",
    title="HumanEval-Infilling, single line",
    files=("HumanEval-SingleLineInfilling.jsonl",),
    problems=problems,
    protocol=Protocol(samples=1, max_tokens=128),
    source=SOURCE,
)
MULTI_LINE = replace(
    SINGLE_LINE,
    name="infilling-multi-line",
    title="HumanEval-Infilling, several lines",
    files=("HumanEval-MultiLineInfilling.jsonl",),
    protocol=Protocol(samples=1, max_tokens=512),
)
RANDOM_SPAN = replace(
    MULTI_LINE,
    name="infilling-random-span",
    title="HumanEval-Infilling, random span",
    files=("HumanEval-RandomSpanInfilling.jsonl",),
)
RANDOM_SPAN_LIGHT = replace(
    MULTI_LINE,
    name="infilling-random-span-light",
    title="HumanEval-Infilling, random span, one a problem",
    files=("HumanEval-RandomSpanInfillingLight.jsonl",),
)
