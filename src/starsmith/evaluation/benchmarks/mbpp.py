"""MBPP (Austin et al. 2021): short Python tasks, each with three assertions; 500 in the test split."""

from collections.abc import Sequence
from dataclasses import replace

from starsmith.evaluation.benchmarks.python_tests import called_names, checked_by, defined_functions
from starsmith.evaluation.problem import Problem, Protocol, Row, Task

TEST_SPLIT = range(11, 511)
STOPS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")
PROTOCOL = Protocol(samples=15, temperature=0.1, top_p=0.95, max_tokens=512, stop=STOPS)
SOURCE = "BigCode evaluation harness: prompt with one assertion, 15 samples at temperature 0.1"
SLOW = {123: 60.0}  # seconds of CPU that the reference needs more than the usual limit for


def official_split(rows: Sequence[Row]) -> list[Problem]:
    """The 500 problems of the test split."""
    return [_problem(row, row["text"]) for row in rows if row["task_id"] in TEST_SPLIT]


def all_problems(rows: Sequence[Row]) -> list[Problem]:
    """All 974, few-shot examples and training split included."""
    return [_problem(row, row["text"]) for row in rows]


def sanitized(rows: Sequence[Row]) -> list[Problem]:
    """The 427 problems whose text and tests were checked by hand."""
    return [_problem(row, row["prompt"]) for row in rows]


def _problem(row: Row, text: str) -> Problem:
    code, setup = row["code"].replace("\r", ""), row.get("test_setup_code", "").replace("\r", "")
    imports = "\n".join(row.get("test_imports", ()))
    asserts = "\n".join(row["test_list"])
    prompt = f'"""\n{text}\n{row["test_list"][0]}\n"""\n'
    entry_point = _entry_point(code, asserts)
    # The set-up makes objects of the candidate's own classes, which only its own process has: such tests run there.
    tests = checked_by(f"{imports}\n{setup}\n{asserts}\n", entry_point, cpu_s=SLOW.get(row["task_id"]))
    return Problem(
        id=f"Mbpp/{row['task_id']}",
        prompt=prompt,
        tests=(tests,),
        reference=code,
        chat=f"Write a Python function in a markdown code block.\n{text}\nIt must pass:\n```python\n{asserts}\n```\n",
    )


def _entry_point(code: str, asserts: str) -> str:
    """The function that is asked for: the last that the solution defines and the tests call."""
    called = called_names(asserts)
    defined = [name for name in defined_functions(code) if name in called]
    return defined[-1] if defined else called[0] if called else ""


TASK = Task(name="mbpp", title="MBPP", files=("mbpp.jsonl",), problems=official_split, protocol=PROTOCOL, source=SOURCE)
ALL = replace(TASK, name="mbpp-all", title="MBPP, all 974", problems=all_problems)
SANITIZED = replace(
    TASK, name="mbpp-sanitized", title="MBPP sanitized", files=("sanitized-mbpp.json",), problems=sanitized
)
