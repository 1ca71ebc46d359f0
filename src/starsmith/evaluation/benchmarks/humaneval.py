"""HumanEval (Chen et al. 2021): 164 Python functions to complete from signature and docstring."""

from collections.abc import Sequence

from starsmith.evaluation.benchmarks.python_tests import checked_by
from starsmith.evaluation.problem import Problem, Protocol, Row, Task

# EvalPlus's, by which StarCoder2's paper scored HumanEval(+) and MBPP(+): greedy, one sample.
EVALPLUS_STOPS = ("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(")
STOPS = (*EVALPLUS_STOPS, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ")
PROTOCOL = Protocol(samples=1, temperature=0.0, max_tokens=768, stop=STOPS)
SOURCE = "Lozhkov et al. 2024, table 9: greedy, prompts and stop words of EvalPlus"
CHAT = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"


def problems(rows: Sequence[Row]) -> list[Problem]:
    """A problem for each row."""
    return [_problem(row) for row in rows]


def _problem(row: Row) -> Problem:
    head = row["prompt"]
    return Problem(
        id=row["task_id"],
        prompt=prompt_of(head),
        head=prompt_of(head),
        tests=(checked_by(f"{row['test']}\n\ncheck({row['entry_point']})\n", row["entry_point"], around=head),),
        reference=row["canonical_solution"],
        chat=chat_of(head),
    )


def prompt_of(text: str) -> str:
    """The prompt as it is given: bare, with one line end. A space behind the docstring costs some models half."""
    return text.strip() + "\n"


def chat_of(text: str) -> str:
    """The question for a chat model."""
    return f"{CHAT}\n```\n{text.strip()}\n```\n"


TASK = Task(
    name="humaneval",
    title="HumanEval",
    files=("HumanEval.jsonl",),
    problems=problems,
    protocol=PROTOCOL,
    source=SOURCE,
)
