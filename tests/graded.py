"""Tiny benchmarks, a writer that knows its answers by heart, and a runner without a sandbox for harmless programs."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from starsmith.core.errors import EngineError
from starsmith.evaluation.answers import Answer
from starsmith.evaluation.benchmarks.tasks import Loaded, load
from starsmith.evaluation.execution import Outcome, Program
from starsmith.evaluation.problem import Problem, Protocol
from starsmith.evaluation.writers import Written

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

ROWS = [
    {
        "id": f"add-{number}",
        "prompt": f"def add_{number}(value):\n",
        "tests": f"assert add_{number}(1) == {number + 1}",
        "stop": ["\ndef "],
        "group": "even" if number % 2 == 0 else "odd",
        "reference": f"    return value + {number}\n",
    }
    for number in range(6)
]
WRONG, RAISES = "    return None\n", "    raise ValueError('no')\n"


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tiny(folder: Path, rows: Sequence[dict[str, Any]] = ROWS, **protocol: Any) -> Loaded:
    """A private benchmark of a few additions."""
    from dataclasses import replace

    loaded = load(str(write_rows(folder / "additions.jsonl", rows)))
    return replace(loaded, task=loaded.task.with_protocol(**protocol))


def answers_of(loaded: Loaded, *texts: str | None) -> list[Answer]:
    """One answer for each problem; None is the right one."""
    return [
        Answer(task_id=problem.id, sample=0, completion=problem.reference if text is None else text)
        for problem, text in zip(loaded.problems, texts, strict=False)
    ]


class Plain:
    """Runs Python programs in this process, and keeps count."""

    def __init__(self, *, harness_errors: int = 0) -> None:
        self.ran: list[str] = []
        self._errors = harness_errors

    def __call__(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        for program in programs:
            self.ran.append(program.key)
            verdict, detail = self._judge(program)
            yield Outcome(key=program.key, verdict=verdict, detail=detail, cpu_s=0.001, wall_s=0.001, peak_bytes=None)

    def _judge(self, program: Program) -> tuple[Any, str]:
        if self._errors:
            self._errors -= 1
            return "harness_error", "the sandbox died"
        theirs: dict[str, Any] = {}
        try:
            exec(program.candidate, theirs)
            ours = theirs if program.mode == "same" else {program.entry_point: theirs[str(program.entry_point)]}
            exec(program.tests, ours)
        except AssertionError as error:
            return "fail", repr(error)
        except Exception as error:  # noqa: BLE001
            return "error", repr(error)
        return "pass", ""


class Reciter:
    """Writes what `text` says of a problem and a sample, and can be made to fail."""

    chat = False
    identity = "reciter"

    def __init__(
        self, text: Callable[[Problem, int], str] | None = None, *, faults: Sequence[EngineError] = ()
    ) -> None:
        self.asked: list[str] = []
        self.seeds: list[int] = []
        self._text = text or (lambda problem, _: problem.reference or "")
        self._faults = list(faults)
        self._lock = threading.Lock()

    def write(self, problem: Problem, drawing: Protocol, seed: int) -> Written:
        with self._lock:
            self.asked.append(problem.id)
            self.seeds.append(seed)
            if self._faults:
                raise self._faults.pop(0)
        return Written(self._text(problem, seed), "stop")

    def close(self) -> None:
        pass
