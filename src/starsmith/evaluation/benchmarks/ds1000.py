"""DS-1000 (Lai et al. 2022): 1000 questions about seven Python libraries, by completion or by insertion.

The tests put the answer into a program of their own and look at its variables, so both run in one process, and a
candidate that wants to deceive them could. Which reference answers still pass depends on the installed versions of the
libraries: beside the score over all problems stands that over the problems whose reference passes here.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from starsmith.evaluation.problem import Problem, Protocol, Row, Task, Tests

STOPS = ("</code>", "# SOLUTION END", "\n### END SOLUTION", "\nEND SOLUTION")
PROTOCOL = Protocol(samples=40, temperature=0.2, top_p=0.5, max_tokens=1024, stop=STOPS)
SOURCE = "Lozhkov et al. 2024: 40 samples, temperature 0.2, top-p 0.5, at most 1024 tokens"
CPU_S = 60.0  # scikit-learn and matplotlib take seconds to import, and some references fit models
MODULES = ("numpy", "pandas", "scipy", "sklearn", "matplotlib.pyplot")
HOLE = "[insert]"
_CONTEXT = re.compile(r'exec_context = r"""\n(.*?)"""', re.DOTALL)


def completion_problems(rows: Sequence[Row]) -> list[Problem]:
    """The prompt as it is given: the answer comes last."""
    return [_problem(row) for row in rows]


def insertion_problems(rows: Sequence[Row]) -> list[Problem]:
    """The same question; behind the answer stands what the program goes on with."""
    return [_with_suffix(_problem(row), row) for row in rows]


def _problem(row: Row) -> Problem:
    metadata = row["metadata"]
    lines = [row["code_context"], "test_execution(code)"]
    if "def test_string(" in row["code_context"]:  # forbids loops, or asks for a certain function
        lines.append("test_string(code)")
    return Problem(
        id=str(metadata["problem_id"]),
        prompt=row["prompt"],
        tests=(Tests(source="\n".join(lines) + "\n", mode="same", cpu_s=CPU_S),),
        group=metadata["library"],
        reference=row["reference_code"],
    )


def _with_suffix(problem: Problem, row: Row) -> Problem:
    """What follows the hole in the program of the tests, where that is shown to nobody who only completes."""
    context = _CONTEXT.search(row["code_context"])
    behind = context.group(1).partition(HOLE)[2] if context else ""
    closing = "\n</code>\n" if "<code>" in row["prompt"] else "\n# SOLUTION END\n"
    return replace(problem, suffix=closing + behind.lstrip("\n"))


def candidate(problem: Problem, completion: str) -> str:  # noqa: ARG001 a task's candidate has both
    """The answer as the string that the tests take."""
    return f"code = {completion!r}\n"


COMPLETION = Task(
    name="ds1000-completion",
    title="DS-1000, completion",
    files=("ds1000.jsonl",),
    problems=completion_problems,
    protocol=PROTOCOL,
    source=SOURCE,
    candidate=candidate,
    check_references=True,
    preload=MODULES,
)
INSERTION = replace(COMPLETION, name="ds1000-insertion", title="DS-1000, insertion", problems=insertion_problems)
