"""Training speed against transformers' Trainer: the same model, rows, AdamW and clipping, in turn, in one process.

Peer: `transformers.Trainer` itself with Starcoder2ForCausalLM, without evaluation, saving and logging. Ours: the loop
of `starsmith pretrain`. Work, on a CPU in float32, for the quickstart's model and one of 16 million parameters:

unmasked   full contexts
documents  rows of several documents that do not see each other, cut at the context, as long as the files of the
           running Python's library are; the peer is given positions that begin anew with each document and no mask,
           from which it makes the mask itself

Before the clock starts both must give the same loss for the same weights, and after the first round again. --gpu: on
an NVIDIA GPU, in bfloat16, contexts of 4,096, three sizes, with the share of the GPU's peak (MFU); the peer runs as it
is and with torch_compile, and the faster is what we are held against. Without a GPU it says that it was not run.
"""

import argparse
import gc
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from stepping.sides import (
    OPTIMIZER,
    Case,
    check_losses,
    first_state,
    make_row,
    our_loss,
    our_seconds,
    peer,
    their_inputs,
    their_loss,
    their_seconds,
)

from starsmith.core.console import note, table
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.training.data import Batch
from starsmith.training.gpus import peak_flops
from starsmith.training.optimizer import build_optimizers

UNMASKED_BAR, DOCUMENTS_BAR, GPU_BAR = 1.0, 1.5, 1.3
SAME_LOSS, SAME_LOSS_BFLOAT16 = 2e-4, 2e-2  # nats a token
ROUNDS, QUICK_ROUNDS, GPU_ROUNDS = 9, 3, 3
QUICK_STEPS = 2


def shape(
    hidden: int, layers: int, heads: int, *, vocabulary: int, context: int, tied: bool = True, window: int = 4096
) -> ModelConfig:
    """A StarCoder2 model with two key/value heads."""
    return ModelConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=context,
        sliding_window=window,
        tie_word_embeddings=tied,
        initializer_range=hidden**-0.5,
    )


SMALL = shape(128, 4, 4, vocabulary=4096, context=512)  # as recipes/quickstart.toml has it
LARGER = shape(384, 9, 6, vocabulary=4096, context=512)
CASES = (
    Case("quickstart, unmasked", SMALL, 512, 2048, steps=8),
    Case("quickstart, documents", SMALL, 512, 2048, steps=8, documents=True, bar=DOCUMENTS_BAR),
    Case("16M, unmasked", LARGER, 512, 2048, steps=2),
    Case("16M, documents", LARGER, 512, 2048, steps=2, documents=True, bar=DOCUMENTS_BAR),
)
_WIDE = {"vocabulary": 49_152, "context": 4096}
GPU_CASES = (
    Case("160M", shape(768, 20, 12, **_WIDE), 4096, 8 * 4096, steps=20, bar=GPU_BAR, mfu_bar=0.40),
    Case("1B", shape(2048, 22, 16, **_WIDE), 4096, 4 * 4096, steps=10, bar=GPU_BAR, mfu_bar=0.50),
    Case("3B", shape(3072, 30, 24, **_WIDE), 4096, 4096, steps=10, bar=GPU_BAR, mfu_bar=0.50),
)


@dataclass(frozen=True)
class Outcome:
    """Tokens a second of both."""

    case: Case
    ours: float
    theirs: float
    theirs_name: str
    documents: float  # in a row, on average
    mfu: tuple[float, float] | None = None

    @property
    def ratio(self) -> float:
        """Of the speeds."""
        return self.ours / self.theirs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the quickstart's model alone, few rounds and steps")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--threads", type=int, help="of torch (OMP_NUM_THREADS, or all)")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}, or {QUICK_ROUNDS} with --quick")
    parser.add_argument(
        "--only", choices=[case.name.split(",")[0] for case in CASES[::2]], help="of these models alone"
    )
    parser.add_argument("--gpu", action="store_true", help="the comparison on a GPU, and not that on the CPU")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.gpu:
        outcomes = on_gpu(arguments.rounds or GPU_ROUNDS)
    else:
        rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
        chosen = arguments.only or ("quickstart" if arguments.quick else "")
        cases = [case for case in CASES if case.name.startswith(chosen)]
        outcomes = [on_cpu(case, rounds, QUICK_STEPS if arguments.quick else case.steps) for case in cases]
    if outcomes:
        _show(outcomes)
    if not arguments.gpu:
        note("  on a GPU: not run; python benchmarks/training_speed.py --gpu")
    if arguments.json:
        print(json.dumps([result for outcome in outcomes for result in _results(outcome)]))


def on_cpu(case: Case, rounds: int, steps: int) -> Outcome:
    """Both in turn, each round on a row of its own; medians."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    state = first_state(case.model, device)
    theirs = peer(case.model, state.model.state_dict())
    optimizer = build_optimizers(theirs, OPTIMIZER)[0]
    rows = [make_row(case, number) for number in range(rounds)]

    def check(tolerance: float, when: str) -> None:
        mine = our_loss(state.model, rows[0], "float32")
        check_losses(mine, their_loss(theirs, their_inputs(case, rows[0])), tolerance, when)

    check(SAME_LOSS, "before the first step")
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number, row in enumerate(rows):
        times["ours"].append(our_seconds(state, row, steps, precision="float32"))
        times["theirs"].append(their_seconds(theirs, optimizer, their_inputs(case, row), steps))
        if number == 0:
            check(10 * SAME_LOSS, f"after {1 + steps} steps")
        note(f"  {case.name}, round {number + 1} of {rounds}: {times['theirs'][-1] / times['ours'][-1]:.2f}")
    ours, other = (case.row_tokens / statistics.median(times[name]) for name in ("ours", "theirs"))
    return Outcome(case, ours, other, "Trainer", statistics.fmean(len(row.lengths) for row in rows))


def on_gpu(rounds: int) -> list[Outcome]:
    """All sizes; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        note("  NOT RUN: torch sees no CUDA device here")
        return []
    note(f"  {torch.cuda.get_device_name()}, torch {torch.__version__}")
    return [_on_gpu(case, rounds, torch.device("cuda")) for case in GPU_CASES]


def _on_gpu(case: Case, rounds: int, device: torch.device) -> Outcome:
    """In turn, each model made anew for its turn: two of the largest do not fit beside each other."""
    row = make_row(case, 0)
    torch.manual_seed(0)
    weights = {name: value.clone() for name, value in Transformer(case.model).state_dict().items()}
    _check_gpu_losses(case, weights, row, device)

    def ours() -> float:
        state = first_state(case.model, device, weights)
        for layer in state.model.model.layers:
            layer.compile()  # as `starsmith pretrain` does on a GPU
        return our_seconds(state, row, case.steps, precision="bfloat16", warm=5)

    def theirs(compiled: bool) -> float:
        model = peer(case.model, weights).to(device)
        optimizer = build_optimizers(model, OPTIMIZER)[0]
        options = {"bf16": True, "torch_compile": compiled}
        return their_seconds(model, optimizer, their_inputs(case, row), case.steps, warm=5, **options)

    arms: dict[str, Callable[[], float]] = {
        "starsmith": ours,
        "Trainer": lambda: theirs(False),
        "Trainer, torch_compile": lambda: theirs(True),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            times[name].append(arm())
            _empty_gpu()
    speed = {name: case.row_tokens / statistics.median(found) for name, found in times.items()}
    note(f"  {case.name}: " + ", ".join(f"{name} {value:,.0f} tokens/s" for name, value in speed.items()))
    best = max((name for name in speed if name != "starsmith"), key=speed.__getitem__)
    peak, cost = peak_flops(torch.cuda.get_device_name(), "bfloat16"), case.model.flops_per_token(case.context)
    mfu = None if peak is None else (speed["starsmith"] * cost / peak, speed[best] * cost / peak)
    return Outcome(case, speed["starsmith"], speed[best], best, len(row.lengths), mfu)


def _check_gpu_losses(case: Case, weights: dict[str, torch.Tensor], row: Batch, device: torch.device) -> None:
    """One model after the other, in bfloat16."""
    model = first_state(case.model, device, weights).model
    mine = our_loss(model, row, "bfloat16")
    del model
    _empty_gpu()
    other = peer(case.model, weights).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        found = their_loss(other, their_inputs(case, row))
    del other
    _empty_gpu()
    check_losses(mine, found, SAME_LOSS_BFLOAT16, "before the first step")


def _empty_gpu() -> None:
    gc.collect()
    torch.compiler.reset()
    torch.cuda.empty_cache()


def _show(outcomes: Sequence[Outcome]) -> None:
    columns = ("", "parameters", "documents in a row", "starsmith", "Trainer", "ratio", "bar")
    rows = [
        (
            outcome.case.name,
            f"{outcome.case.model.parameters / 1e6:,.1f}M",
            f"{outcome.documents:.1f}",
            f"{outcome.ours:,.0f}",
            f"{outcome.theirs:,.0f}",
            f"{outcome.ratio:.2f}",
            f"{outcome.case.bar:g}",
        )
        for outcome in outcomes
    ]
    where = (
        torch.cuda.get_device_name()
        if outcomes[0].case in GPU_CASES
        else f"CPU, {torch.get_num_threads()} threads, float32"
    )
    table(f"Training, tokens a second ({where})", columns, rows, right=columns[1:])
    shares = [
        (
            outcome.case.name,
            *(f"{share:.1%}" for share in outcome.mfu),
            f"{outcome.case.mfu_bar:.0%}",
            outcome.theirs_name,
        )
        for outcome in outcomes
        if outcome.mfu is not None
    ]
    if shares:
        table("Share of the GPU's peak (MFU)", ("", "starsmith", "peer", "bar", "peer's way"), shares)


def _results(outcome: Outcome) -> Iterator[dict[str, Any]]:
    case = outcome.case
    names = {"name": f"training_speed: {case.name}", "peer_name": f"transformers {outcome.theirs_name}"}
    speeds = {"ours": outcome.ours, "peer": outcome.theirs, "unit": "tokens/s", "ratio": outcome.ratio}
    yield {**names, **speeds, "bar": case.bar, "holds": outcome.ratio >= case.bar}
    if outcome.mfu is not None and case.mfu_bar is not None:
        ours, theirs = outcome.mfu
        names["name"] += ", MFU"
        shares = {"ours": ours, "peer": theirs, "unit": "share of the peak", "ratio": ours / theirs}
        yield {**names, **shares, "bar": case.mfu_bar, "holds": ours >= case.mfu_bar}


if __name__ == "__main__":
    main()
