"""Programs in, verdicts out: a station per worker, each with long-lived sandboxes that fork a child a program.

A split program is two: the candidate in one sandbox, its tests in another, and a socket between them. Processor time
decides a timeout, and whatever timed out runs again at the end with nothing beside it before it is called one.
"""

import hashlib
import json
import os
import secrets
import selectors
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from starsmith.core.errors import ConfigError
from starsmith.evaluation.limits import Limits
from starsmith.evaluation.modes import called_names
from starsmith.evaluation.sandbox import surroundings
from starsmith.evaluation.sandbox.choice import SandboxChoice
from starsmith.evaluation.sandbox.inside import toolchain, wire
from starsmith.evaluation.sandbox.inside.verdict import GONE
from starsmith.evaluation.sandbox.keeper import Keeper, Role

Verdict = Literal["pass", "fail", "error", "timeout", "memory", "violation", "harness_error"]
Mode = Literal["split", "same"]

_GRACE_S = 120.0  # beyond the wall clock's limit, for the sandbox to start and to answer
_TESTS_LONGER_S = 5.0
_ATTEMPTS = 2  # of a program whose sandbox died
_USUAL_MODULES = (
    "abc", "array", "ast", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal",
    "enum", "fractions", "functools", "hashlib", "heapq", "inspect", "io", "itertools", "json", "math", "operator",
    "random", "re", "statistics", "string", "struct", "sys", "tempfile", "textwrap", "threading", "time", "typing",
    "unittest",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Program:
    """One thing to run."""

    key: str  # hash of the content: a key is run once
    candidate: str  # untrusted source
    tests: str  # trusted source that calls the candidate
    entry_point: str | None = None  # of a split program: the function that the tests call
    mode: Mode = "split"  # the tests in a process of their own; or behind the candidate, in its
    language: str = "python"  # others are always "same"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one program ended."""

    key: str
    verdict: Verdict
    detail: str  # one line, which may hold what the program said
    cpu_s: float  # of the candidate and its tests together
    wall_s: float
    peak_bytes: int | None  # resident, the larger of the two


def execute(
    programs: Iterable[Program], *, workers: int, sandbox: SandboxChoice, preload: Sequence[str] = ()
) -> Iterator[Outcome]:
    """Run every key once, in whatever order they end; `preload` names modules that each sandbox imports beforehand."""
    if workers < 1:
        raise ConfigError(f"workers={workers}: must be at least 1")
    crew = _Crew(workers, sandbox, (*_USUAL_MODULES, *preload))
    try:
        again: list[Program] = []
        for program, outcome in crew.run(_distinct(programs), workers):
            if outcome.verdict == "timeout":
                again.append(program)
            else:
                yield outcome
        for _, outcome in crew.run(iter(again), 1):
            yield outcome
    finally:
        crew.close()


def _distinct(programs: Iterable[Program]) -> Iterator[Program]:
    seen: set[str] = set()
    for program in programs:
        if program.key not in seen:
            seen.add(program.key)
            yield program


@dataclass
class _Run:
    """A program under way."""

    program: Program
    started: float
    attempt: int
    token: str
    verdict: socket.socket  # our end of where its verdict comes from
    waiting: dict[Keeper, str]  # who is to report yet, on what
    reports: dict[str, wire.Message]


class _Station:
    """The sandboxes of one worker, made when first needed, and the program that they run."""

    def __init__(self, sandbox: SandboxChoice, preload: Sequence[str], selector: selectors.BaseSelector) -> None:
        self.sandbox, self.preload, self.selector = sandbox, preload, selector
        self.keepers: dict[str, Keeper] = {}
        self.current: _Run | None = None

    def begin(self, program: Program, attempt: int = 1) -> None:
        """Hand the program to the sandboxes it needs."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        run = _Run(program, time.monotonic(), attempt, secrets.token_hex(8), ours, {}, {})
        self.current = run
        with theirs:
            if program.language != "python":
                self._begin_tools(run, theirs)
            elif program.mode == "same":
                self._begin_same(run, theirs)
            else:
                self._begin_split(run, theirs)

    def heed(self, keeper: Keeper) -> tuple[Program, Outcome] | None:
        """A keeper has something to say: perhaps all that there is to know."""
        run, report = self.current, keeper.receive()
        if report == {}:  # it has started
            return None
        if run is None or keeper not in run.waiting:
            self._discard(keeper)
            return None
        if report is None:
            return self._lost(run, keeper)
        part = run.waiting.pop(keeper)
        run.reports[part] = report
        if part == "check":
            for other in run.waiting:
                other.send({})
        if run.waiting:
            return None
        self.current = None
        with run.verdict:
            return run.program, _judge(run)

    def overdue(self) -> tuple[Program, Outcome] | None:
        """A sandbox that answers no more is ended."""
        run = self.current
        if run is None or time.monotonic() - run.started < _longest_s(run.program) + _GRACE_S:
            return None
        keeper = next(iter(run.waiting))
        keeper.kill()
        return self._lost(run, keeper)

    def close(self) -> None:
        """End all sandboxes."""
        if self.current:
            self.current.verdict.close()
            self.current = None
        for keeper in list(self.keepers.values()):
            self._discard(keeper)

    def _begin_split(self, run: _Run, told: socket.socket) -> None:
        asking, answering = socket.socketpair()
        program = run.program
        tests = program.tests.encode("utf-8", "surrogatepass")
        names = called_names(program.tests, program.entry_point)
        job = {"kind": "check", "names": names, "digest": hashlib.sha256(tests).hexdigest()}
        with asking, answering:
            self._send(run, "candidate", {"kind": "candidate"}, program.candidate, answering)
            self._send(run, "check", job, tests, asking, told)

    def _begin_same(self, run: _Run, told: socket.socket) -> None:
        program = run.program
        content = {"candidate": program.candidate, "tests": program.tests, "token": run.token}
        self._send(run, "candidate", {"kind": "same"}, json.dumps(content), told)

    def _begin_tools(self, run: _Run, told: socket.socket) -> None:
        program = run.program
        content = {
            "language": program.language,
            "tools": surroundings.find_tools(program.language),
            "candidate": program.candidate,
            "tests": program.tests,
            "token": run.token,
            "environment": self._keeper("tools").environment,
        }
        self._send(run, "tools", {"kind": "tools"}, json.dumps(content), told)

    def _send(self, run: _Run, part: str, job: wire.Message, source: str | bytes, *sockets: socket.socket) -> None:
        keeper = self._keeper(part)
        data = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
        file = os.memfd_create("program")
        try:
            os.write(file, data)
            bounds = asdict(run.program.limits)
            # The tests wait for the candidate: it is the one whose wall clock runs out.
            bounds["wall_s"] += _TESTS_LONGER_S if part == "check" else 0.0
            keeper.send({**job, "bounds": bounds}, (file, *(each.fileno() for each in sockets)))
        finally:
            os.close(file)
        run.waiting[keeper] = part

    def _keeper(self, part: str) -> Keeper:
        if part not in self.keepers:
            role: Role = "tools" if part == "tools" else "python"
            keeper = Keeper(self.sandbox, role, () if role == "tools" else self.preload)
            self.keepers[part] = keeper
            self.selector.register(keeper, selectors.EVENT_READ, self)
        return self.keepers[part]

    def _discard(self, keeper: Keeper) -> None:
        part = next(name for name, known in self.keepers.items() if known is keeper)
        self.selector.unregister(keeper)
        del self.keepers[part]
        keeper.close()

    def _lost(self, run: _Run, keeper: Keeper) -> tuple[Program, Outcome] | None:
        """The sandbox died under a program: once more in a fresh one, then it is the harness's fault."""
        said = keeper.complaint()
        run.verdict.close()
        self.current = None
        for each in list(self.keepers.values()):
            self._discard(each)
        if run.attempt < _ATTEMPTS:
            self.begin(run.program, run.attempt + 1)
            return None
        wall_s = time.monotonic() - run.started
        detail = f"the sandbox died twice: {said[-200:] or 'no word'}"
        return run.program, Outcome(
            key=run.program.key, verdict="harness_error", detail=detail, cpu_s=0.0, wall_s=wall_s, peak_bytes=None
        )


class _Crew:
    def __init__(self, workers: int, sandbox: SandboxChoice, preload: Sequence[str]) -> None:
        self.selector = selectors.DefaultSelector()
        self.stations = [_Station(sandbox, preload, self.selector) for _ in range(workers)]

    def run(self, programs: Iterator[Program], at_once: int) -> Iterator[tuple[Program, Outcome]]:
        idle = list(self.stations[:at_once])
        busy: list[_Station] = []
        while True:
            while idle and (program := next(programs, None)) is not None:
                busy.append(idle.pop())
                busy[-1].begin(program)
            if not busy:
                return
            yield from self._wait(busy)
            idle += [station for station in busy if station.current is None]
            busy = [station for station in busy if station.current is not None]

    def _wait(self, busy: list[_Station]) -> Iterator[tuple[Program, Outcome]]:
        for key, _ in self.selector.select(timeout=5.0):
            ended = key.data.heed(key.fileobj)
            if ended:
                yield ended
        for station in busy:
            ended = station.overdue()
            if ended:
                yield ended

    def close(self) -> None:
        for station in self.stations:
            station.close()
        self.selector.close()


def _longest_s(program: Program) -> float:
    compiling = toolchain.COMPILE_WALL_S if program.language != "python" else 0.0
    return program.limits.wall_s + compiling


def _judge(run: _Run) -> Outcome:
    verdict, detail = _verdict(run)
    reports = run.reports.values()
    return Outcome(
        key=run.program.key,
        verdict=verdict,
        detail=detail,
        cpu_s=sum(report["cpu_s"] for report in reports),
        wall_s=max(report["wall_s"] for report in reports),
        peak_bytes=max(report["peak_bytes"] for report in reports),
    )


def _verdict(run: _Run) -> tuple[Verdict, str]:
    told = _told(run)
    candidate = run.reports.get("candidate") or run.reports["tools"]
    if told and told["verdict"] != GONE:
        return told["verdict"], told["detail"]
    tests = run.reports.get("check")
    if told is None and tests is not None:
        stopped = tests["stopped"]
        if stopped in ("cpu", "wall"):
            return "timeout", f"the tests: {stopped} limit"
        return "harness_error", f"the tests' process ended with {_ending(tests['status'])}"
    return _why_gone(candidate, run.program.limits)


def _told(run: _Run) -> wire.Message | None:
    """What the trusted process said; a program that shares it must know the token."""
    try:
        data = run.verdict.recv(wire.MOST_MESSAGE_BYTES)
    except (BlockingIOError, ConnectionError):
        return None
    try:
        told = json.loads(data) if data else None
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    shared = run.program.language == "python" and run.program.mode == "same"
    forged = shared and told.get("token") != run.token and told.get("verdict") != "harness_error"
    return None if forged else told


def _why_gone(report: wire.Message, limits: Limits) -> tuple[Verdict, str]:
    """Of a process that ended, or was ended, before its tests were over."""
    status, stopped = report["status"], report["stopped"]
    if stopped in ("cpu", "wall"):
        return "timeout", f"{stopped} limit"
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    # A crash closes the connection, too, and on a busy machine that is seen before the end of the process.
    if stopped == "asked" and number in (None, signal.SIGKILL):
        return "violation", "closed the connection to its tests"
    if number is not None:
        if number == signal.SIGSYS:
            return "violation", "a system call that no program needs"
        if number == signal.SIGXCPU or (number == signal.SIGKILL and report["cpu_s"] >= limits.cpu_s):
            return "timeout", "cpu limit"
        if number == signal.SIGKILL:
            return "memory", "killed by the system"
    return "error", f"ended with {_ending(status)} before its tests were over"


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"status {os.waitstatus_to_exitcode(status)}"


def key_of(program: Program) -> str:
    """A content hash for a program whose key is still to be made."""
    content = asdict(replace(program, key=""))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
