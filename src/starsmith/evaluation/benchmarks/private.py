"""A benchmark of one's own: JSON lines with a prompt and tests.

{"id": "parse-1", "prompt": "def parse(line):\\n    ...", "tests": "assert parse('a=1') == ('a', '1')"}

Further columns: suffix (fill in between), entry_point (the function that the tests call; else it is found in them),
language, stop (a list), group, truth (exact match, in place of tests), reference (a completion that is right).
"""

from collections.abc import Sequence
from pathlib import Path

from starsmith.core.errors import InputError
from starsmith.evaluation.benchmarks.python_tests import called_names, checked_by, defined_functions, parse
from starsmith.evaluation.problem import Problem, Protocol, Row, Task, Tests

COLUMNS = frozenset(
    {"id", "prompt", "tests", "suffix", "entry_point", "language", "stop", "group", "truth", "reference"}
)
TEXTS = COLUMNS - {"stop"}


def task(path: Path) -> Task:
    """The benchmark in a file, named after it."""
    return Task(
        name=path.name.removesuffix(".gz").removesuffix(".jsonl"),
        title=path.name,
        files=(path.name.removesuffix(".gz"),),
        problems=problems,
        protocol=Protocol(samples=1, max_tokens=512),
        source="one's own benchmark: greedy, one sample",
    )


def problems(rows: Sequence[Row]) -> list[Problem]:
    """A problem for each row, which is checked."""
    found = [_problem(number, row) for number, row in enumerate(rows, start=1)]
    if len({problem.id for problem in found}) < len(found):
        ids = [problem.id for problem in found]
        twice = next(one for one in ids if ids.count(one) > 1)
        raise InputError(f"two rows have the id {twice!r}", hint="give each problem an id of its own")
    return found


def _problem(number: int, row: Row) -> Problem:
    _check(number, row)
    suffix = row.get("suffix")
    return Problem(
        id=row.get("id", str(number)),
        prompt=row["prompt"],
        suffix=suffix,
        head=row["prompt"],
        tail=suffix or "",
        tests=(_tests(number, row),) if "tests" in row else (),
        truth=row.get("truth"),
        stop=tuple(row.get("stop", ())),
        group=row.get("group", ""),
        reference=row.get("reference"),
    )


def _tests(number: int, row: Row) -> Tests:
    language = row.get("language", "python")
    if language != "python":
        return Tests(source="\n" + row["tests"], mode="same", language=language)
    if parse(row["tests"]) is None:
        raise InputError(f"row {number}: its tests are no Python", hint="mend them, or give its language")
    around = row["prompt"] + (row.get("suffix") or "")
    return checked_by(row["tests"] + "\n", row.get("entry_point") or _entry_point(row), around=around)


def _entry_point(row: Row) -> str:
    """The function that the tests call and define nowhere: the prompt's last, if the prompt parses."""
    called = [name for name in called_names(row["tests"]) if name not in defined_functions(row["tests"])]
    in_prompt = [name for name in called if f"def {name}" in row["prompt"]]
    return in_prompt[-1] if in_prompt else called[0] if called else ""


def _check(number: int, row: Row) -> None:
    unknown = sorted(set(row) - COLUMNS)
    if unknown:
        raise InputError(f"row {number} has a column {unknown[0]!r}", hint=f"known: {', '.join(sorted(COLUMNS))}")
    if "prompt" not in row or ("tests" in row) == ("truth" in row):
        raise InputError(f"row {number} needs a prompt, and either tests or a truth", hint="see docs/evaluation.md")
    for name in TEXTS & set(row):
        if not isinstance(row[name], str):
            raise InputError(f"row {number}: {name} is {row[name]!r}, wanted a string", hint="see docs/evaluation.md")
    stop = row.get("stop", [])
    if not isinstance(stop, list) or not all(isinstance(one, str) for one in stop):
        raise InputError(f"row {number}: stop is {stop!r}, wanted a list of strings", hint="see docs/evaluation.md")
