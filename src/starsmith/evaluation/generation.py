"""Stage "generate": problems and a model become a file of samples, each line written as soon as it is drawn.

A server that is busy, broken or silent is asked again, with growing pauses; what it still has not answered then is
counted and stops nothing but the score: the same command asks for it another time, and for nothing else.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from starsmith.core.console import Advance
from starsmith.core.errors import EngineError
from starsmith.evaluation.answers import Answer, answer_key, answer_of_row, seed_of
from starsmith.evaluation.journal import Journal
from starsmith.evaluation.problem import Problem, Protocol, Task, join_candidate
from starsmith.evaluation.writers import Writer, Written, code_in

LOCKED_OUT = (401, 403, 404, 405, 501)  # statuses that no patience mends


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often a server is asked again."""

    tries: int = 6
    pause_s: float = 1.0  # before the second; doubled each time
    longest_pause_s: float = 60.0
    failures: int = 8  # samples in a row that fail, after which nothing more is asked

    def pause(self, attempt: int, told_s: float | None) -> float:
        """Seconds before the next try: what the server said, or the next of the doubled pauses."""
        planned = self.pause_s * 2.0**attempt
        return min(planned if told_s is None else max(told_s, planned), self.longest_pause_s)


@dataclass
class Counts:
    """What happened on the way."""

    generated: int = 0
    kept: int = 0  # that were there already
    faults: Counter[str] = field(default_factory=Counter)  # answers that were none, by kind, each asked again
    failed: int = 0  # samples that were given up
    last: str = ""  # what the server said last


@dataclass(frozen=True)
class _Wanted:
    problem: Problem
    sample: int
    key: str


def generate(
    task: Task,
    problems: Sequence[Problem],
    writer: Writer,
    journal: Journal,
    *,
    parallel: int = 1,
    patience: Patience | None = None,
    advance: Advance = lambda *_: None,
) -> Counts:
    """Draw what the journal has not; raises EngineError at the end if some could not be drawn."""
    counts = Counts()
    missing = []
    for wanted in _all_wanted(task.protocol, problems, writer):
        if wanted.key in journal.rows:
            counts.kept += 1
            advance()
        else:
            missing.append(wanted)
    stop = threading.Event()
    asking = _Asking(task, writer, patience or Patience(), counts, stop)
    try:
        _draw(asking, missing, journal, parallel, advance)
    finally:
        stop.set()
    if counts.failed:
        raise EngineError(
            f"{counts.failed} of {len(missing) + counts.kept} samples could not be drawn: {counts.last}",
            hint=f"{len(journal.rows)} are kept in {journal.path}; the same command goes on from there",
        )
    return counts


def collect(task: Task, problems: Sequence[Problem], writer: Writer, journal: Journal) -> list[Answer]:
    """The answers that were asked for, in the order of the problems, whatever order they came in."""
    found = []
    for wanted in _all_wanted(task.protocol, problems, writer):
        row = journal.rows[wanted.key]
        found.append(answer_of_row(row, wanted.sample, f"{journal.path}, {wanted.problem.id}"))
    return found


def _all_wanted(protocol: Protocol, problems: Sequence[Problem], writer: Writer) -> Iterator[_Wanted]:
    for problem in problems:
        for sample in range(protocol.samples):
            key = answer_key(writer.identity, problem, protocol, sample, chat=writer.chat)
            yield _Wanted(problem, sample, key)


def _draw(asking: "_Asking", missing: Sequence[_Wanted], journal: Journal, parallel: int, advance: Advance) -> None:
    """Keep `parallel` requests going; write each answer down as it comes."""
    todo = iter(missing)
    running: dict[Future[Written | None], _Wanted] = {}
    in_a_row = 0
    with ThreadPoolExecutor(parallel, thread_name_prefix="generate") as pool:
        try:
            while True:
                while len(running) < parallel and not asking.stop.is_set() and (one := next(todo, None)) is not None:
                    running[pool.submit(asking.write, one)] = one
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    wanted, written = running.pop(future), future.result()
                    if written is None:
                        asking.counts.failed += 1
                        in_a_row += 1
                        if in_a_row >= asking.patience.failures:
                            asking.stop.set()
                        continue
                    in_a_row = 0
                    asking.counts.generated += 1
                    journal.add(asking.row(wanted, written))
                    advance()
        except BaseException:
            asking.stop.set()  # nobody waits for the others' patience
            raise


@dataclass
class _Asking:
    """What the threads share."""

    task: Task
    writer: Writer
    patience: Patience
    counts: Counts
    stop: threading.Event
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, wanted: _Wanted) -> Written | None:
        """One sample; None when the server did not answer it."""
        protocol = self.task.protocol
        seed = seed_of(protocol, wanted.problem, wanted.sample)
        for attempt in range(self.patience.tries):
            try:
                return self.writer.write(wanted.problem, protocol, seed)
            except EngineError as error:
                status = getattr(error, "status", None)
                if status in LOCKED_OUT:
                    raise
                with self.lock:
                    self.counts.faults[f"HTTP {status}" if status else "no answer"] += 1
                    self.counts.last = error.message
                told = getattr(error, "retry_after_s", None)
            last = attempt + 1 == self.patience.tries
            if last or self.stop.wait(self.patience.pause(attempt, told)):
                return None
        return None

    def row(self, wanted: _Wanted, written: Written) -> dict[str, object]:
        """The line of one sample."""
        text = code_in(written.text) if self.writer.chat else written.text
        problem = wanted.problem
        completion: str | None = self.task.finish(problem, self.task.protocol, text)
        solution = None
        if self.task.candidate is join_candidate and self.task.judge == "execution":
            solution = (
                chat_program(problem, text) if self.writer.chat else self.task.candidate(problem, completion or "")
            )
        if self.writer.chat and solution is not None:
            completion = None  # a program of its own continues no prompt
        answer = Answer(
            task_id=problem.id,
            sample=wanted.sample,
            completion=completion,
            solution=solution,
            raw=written.text,
            finish_reason=written.finish_reason,
            truncated=written.truncated,
            key=wanted.key,
        )
        return answer.as_row()


def chat_program(problem: Problem, code: str) -> str:
    """A chat model's code as a program: with the prompt before it, which may have imports, unless it is its body."""
    entry_points = {tests.entry_point for tests in problem.tests}
    whole = any(name and f"def {name}(" in code for name in entry_points) or "def " in code
    return code if whole else problem.head + code


class Pace:
    """How long the rest will take, at the speed so far, as a note for the progress."""

    def __init__(self, total: int, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._done, self._first = total, done, done
        self._clock = clock
        self._began = clock()

    def step(self) -> str:
        """One more is done."""
        self._done += 1
        fresh = self._done - self._first
        left_s = (self._clock() - self._began) / fresh * (self._total - self._done)
        return f"about {_duration(left_s)} left" if self._done < self._total else ""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
