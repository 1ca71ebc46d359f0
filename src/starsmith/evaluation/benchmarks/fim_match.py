"""Single lines to fill in, judged by exact match: SantaCoder's benchmark, and holes in the user's own files.

Nothing is executed, so any language will do. Held-out files are those that the corpus kept back: a model trained on
it has not seen them. Of a folder of files that is no corpus nobody knows whether a model has seen it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from starsmith.evaluation.problem import Problem, Protocol, Row, Task

SOURCE = "BigCode evaluation harness (santacoder-fim): one sample at temperature 0.2, exact match after strip"
PROTOCOL = Protocol(samples=1, temperature=0.2, top_p=0.95, max_tokens=128, stop=("<|filename|>", "<file_sep>"))


def santacoder_problems(rows: Sequence[Row]) -> list[Problem]:
    """Rows of prompt, suffix and canonical_solution, with the language beside them."""
    return [
        Problem(
            id=f"{row.get('language', 'py')}/{row.get('name', number)}/{number}",
            prompt=row["prompt"],
            suffix=row["suffix"],
            truth=row["canonical_solution"],
            group=str(row.get("language", "")),
            reference=row["canonical_solution"],
        )
        for number, row in enumerate(rows)
    ]


def matches(problem: Problem, completion: str) -> bool:
    """Equal to what was taken out, spaces around it aside."""
    return problem.truth is not None and completion.strip() == problem.truth.strip()


def first_line(problem: Problem, protocol: Protocol, text: str) -> str:  # noqa: ARG001 a task's post-processing
    """What is judged where a hole ends with its line."""
    return text.split("\n", 1)[0]


def held_out(corpus: Path, count: int = 200) -> Callable[[Sequence[Row]], list[Problem]]:
    """Holes at the ends of lines of a corpus's held-out files, chosen by hash; the rows are not used."""

    def problems(_: Sequence[Row]) -> list[Problem]:
        from starsmith.core.records import HELD_OUT, read_files
        from starsmith.evaluation.infilling import choose_holes

        holes = choose_holes(list(read_files(corpus, split=HELD_OUT)), count)
        return [
            Problem(
                id=f"{hole.file.path}:{hole.line}:{_short(hole.file.swhid + str(hole.start))}",
                prompt=hole.prefix,
                suffix=hole.suffix,
                truth=hole.truth,
                group=hole.file.language,
                reference=hole.truth,
            )
            for hole in holes
        ]

    return problems


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


SANTACODER = Task(
    name="santacoder-fim",
    title="SantaCoder FIM, exact match",
    files=("santacoder-fim-task.jsonl", "fim.jsonl"),
    problems=santacoder_problems,
    protocol=PROTOCOL,
    source=SOURCE,
    judge="exact",
    metric="exact",
)


def held_out_task(corpus: Path) -> Task:
    """The task for one corpus."""
    return replace(
        SANTACODER,
        name="held-out-fim",
        title="Held-out files, line infilling, exact match",
        files=(),
        problems=held_out(corpus),
        protocol=Protocol(samples=1, max_tokens=48),
        source="greedy, one sample",
        finish=first_line,
    )
