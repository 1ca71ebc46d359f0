"""Which benchmarks there are, and where the file of one is found."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from starsmith.core.errors import InputError
from starsmith.evaluation.benchmarks import (
    cruxeval,
    cyberseceval,
    ds1000,
    evalplus,
    fim_match,
    humaneval,
    infilling,
    mbpp,
    multipl_e,
    private,
)
from starsmith.evaluation.export import read_rows
from starsmith.evaluation.fetching import kept_or_fetched
from starsmith.evaluation.problem import Problem, Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        humaneval.TASK,
        evalplus.HUMANEVAL,
        mbpp.TASK,
        mbpp.ALL,
        mbpp.SANITIZED,
        evalplus.MBPP,
        ds1000.COMPLETION,
        ds1000.INSERTION,
        infilling.SINGLE_LINE,
        infilling.MULTI_LINE,
        infilling.RANDOM_SPAN,
        infilling.RANDOM_SPAN_LIGHT,
        cruxeval.OUTPUT,
        cruxeval.INPUT,
        *multipl_e.TASKS,
        fim_match.SANTACODER,
        cyberseceval.TASK,
    )
}
HELD_OUT_FIM = "held-out-fim"
OWN = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Loaded:
    """A benchmark with its problems."""

    task: Task
    problems: Sequence[Problem]
    file: str  # name of the file they come from
    sha256: str  # of its content


def load(name: str, *, data: Path | None = None, corpus: Path | None = None, limit: int | None = None) -> Loaded:
    """The benchmark of a name, or the private one in a .jsonl file; `limit` takes its first problems only."""
    if name == HELD_OUT_FIM:
        if corpus is None:
            raise InputError(f"{name} needs held-out files", hint="give --corpus DIR, a corpus artefact")
        task = fim_match.held_out_task(corpus)
        return Loaded(task, _some(task.problems([]), limit, corpus), corpus.name, "")
    task = task_named(name)
    path = Path(name) if name not in TASKS else find_file(task, data)
    rows = read_rows(path)
    try:
        problems = task.problems(rows)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} has not the columns of {task.name}: {error!r}", hint="fetch the benchmark's own file"
        ) from None
    return Loaded(task, _some(problems, limit, path), path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def task_named(name: str) -> Task:
    """The task of a name or of a .jsonl file."""
    if name in TASKS:
        return TASKS[name]
    if name.endswith(OWN):
        if not Path(name).is_file():
            raise InputError(f"{name} does not exist", hint="give a file of JSON lines: prompts and tests")
        return private.task(Path(name))
    near = get_close_matches(name, [*TASKS, HELD_OUT_FIM, "held-out"], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join([*TASKS, HELD_OUT_FIM, 'held-out'])}"
    raise InputError(f"there is no task {name!r}", hint=hint)


def find_file(task: Task, data: Path | None) -> Path:
    """The benchmark's file below a folder, by its name, or the file itself; None: as it was or is fetched."""
    if data is None:
        return kept_or_fetched(task.files[0], task=task.name)
    if data.is_file():
        return data
    if not data.is_dir():
        raise InputError(f"{data} does not exist", hint="give the folder with the benchmarks' files")
    names = {name + ending for name in task.files for ending in ("", ".gz")}
    found = sorted(path for path in data.rglob("*") if path.name in names and path.is_file())
    if not found:
        raise InputError(f"{data} holds no {task.files[0]}, packed or not", hint=f"{task.name} is read from that file")
    if len({path.read_bytes() for path in found}) > 1:
        raise InputError(f"{found[0]} and {found[1]} differ", hint="give the right file itself: --data FILE")
    return found[0]


def _some(problems: list[Problem], limit: int | None, path: Path) -> list[Problem]:
    if not problems:
        raise InputError(f"{path} gives no problem", hint="fetch the file again")
    if len({problem.id for problem in problems}) < len(problems):
        raise InputError(f"{path} has two problems with one id", hint="fetch the file again")
    return problems if limit is None else problems[:limit]
