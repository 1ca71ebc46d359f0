"""A small scaling-law study: five sizes x three budgets of operations, the law fitted to them, and a plot.

Work: each model reads as many tokens as its budget pays for (6 N D), with the learning rate decayed to zero at its own
end; the figure is the bits per byte over all held-out files. No peer: what is judged is whether one law describes all
runs. Interrupted, the same command goes on; a finished run is not run again. --record puts the law where `starsmith
plan` reads it, and the plot into docs/plots.

What it cannot say: one corpus of ten megabytes (the smallest model reads it up to four times), one seed, one learning
rate for all sizes.
"""

import argparse
import json
import math
import platform
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from starsmith.core import ancestry, artifact
from starsmith.core.config import build
from starsmith.core.console import note, table
from starsmith.core.records import HELD_OUT
from starsmith.model import checkpoint
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.tokenizer.tokens import TokenStore
from starsmith.training import pretrain
from starsmith.training.config import PretrainConfig
from starsmith.training.data import pack
from starsmith.training.loss import cross_entropy_sum
from starsmith.training.scaling import FILE, Run, Study, fit

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "src" / "starsmith" / "training" / FILE
PLOT = ROOT / "docs" / "plots" / "scaling.svg"
SIZES = ((32, 3), (64, 3), (96, 3), (128, 4), (192, 4))  # width, layers; heads of 32
BUDGETS = (1e12, 3e12, 1e13)
QUICK_SIZES, QUICK_BUDGETS = SIZES[:3], (2e10, 1e11)
VOCABULARY, CONTEXT, BATCH = 4096, 512, 2048
BAR = 0.03  # median error of the law on its own runs


@dataclass(frozen=True)
class World:
    """What all runs share."""

    tokens: Path
    tokenizer: Path
    vocab_size: int
    train_tokens: int


def main() -> None:
    """Run what has not been run, fit, plot and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three tiny sizes, two tiny budgets: does it work at all?")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--tokens", type=Path, help="tokens artefact; without it, of the running Python's library")
    parser.add_argument("--out", type=Path, default=ROOT / ".bench" / "scaling", help="the runs are kept here")
    parser.add_argument("--record", action="store_true", help="for `starsmith plan` and the documentation")
    arguments = parser.parse_args()
    if arguments.quick and arguments.record:
        parser.error("a quick study says nothing that should be recorded")
    if arguments.quick:
        with tempfile.TemporaryDirectory() as folder:
            study = _study(Path(folder), arguments.tokens, QUICK_SIZES, QUICK_BUDGETS, "--quick")
    else:
        study = _study(arguments.out, arguments.tokens, SIZES, BUDGETS, "")
        study.save(RECORD if arguments.record else arguments.out / "scaling.json")
        _plot(study, PLOT if arguments.record else arguments.out / "scaling.svg")
    _print(study)
    if arguments.json:
        error = _median_error(study)
        result = {
            "name": "scaling",
            "ours": error,
            "peer": None,
            "peer_name": "none",
            "unit": "median error of the law",
        }
        print(json.dumps({**result, "ratio": None, "bar": BAR, "holds": error <= BAR}))


def _study(
    out: Path, tokens: Path | None, sizes: Sequence[tuple[int, int]], budgets: Sequence[float], option: str
) -> Study:
    world = _world(out, tokens)
    runs = []
    for budget in budgets:
        for width, layers in sizes:
            runs.append(_run(world, width, layers, budget, out / f"{width}x{layers}-{budget:.0e}"))
            note(f"  {width} x {layers}, {budget:.0e} operations: {runs[-1].loss:.4f} bits per byte")
    law, resampled = fit(runs)
    return Study(
        date=date.today().isoformat(),
        command=f"python benchmarks/scaling.py {option}".strip(),
        machine=_machine(),
        unit="bits per byte",
        runs=tuple(runs),
        law=law,
        resampled=resampled,
    )


def _world(out: Path, given: Path | None) -> World:
    """The tokens that were given, or those of the running Python's standard library, made once."""
    tokens = given or _own_tokens(out)
    tokenizer = ancestry.parent_directory(tokens, "tokenizer")
    size = Tokenizer.load(tokenizer).vocab_size
    return World(tokens, tokenizer, size, artifact.read(tokens, kind="tokens").counts["train_tokens"])


def _own_tokens(out: Path) -> Path:
    from starsmith.corpus import build as corpus
    from starsmith.corpus.sources import standard_library
    from starsmith.tokenizer import tokens, train

    if not (out / "tokens").is_dir():
        corpus.run(corpus.CorpusConfig(), sources=[standard_library()], out=out / "corpus")
        train.run(train.TokenizerConfig(vocab_size=VOCABULARY), corpus=out / "corpus", out=out / "tokenizer")
        tokens.run(tokens.TokensConfig(), corpus=out / "corpus", tokenizer=out / "tokenizer", out=out / "tokens")
    return out / "tokens"


def _run(world: World, width: int, layers: int, budget: float, out: Path) -> Run:
    config = _config(width, layers, tokens=BATCH)
    model = config.model.model(vocab_size=world.vocab_size, context_tokens=CONTEXT)
    config = _config(width, layers, tokens=max(int(budget / 6 / model.matrix_parameters), BATCH))
    parents = {"tokens": world.tokens, "tokenizer": world.tokenizer}
    if not artifact.is_up_to_date(out, config=config, parents=parents):
        pretrain.run(config, tokens=world.tokens, tokenizer=world.tokenizer, out=out)
    read = artifact.read(out, kind="model").counts["tokens"]
    return Run(
        parameters=model.matrix_parameters,
        tokens=read,
        loss=_bits_per_byte(world, out),
        budget=budget,
        epochs=round(read / world.train_tokens, 3),
    )


def _config(width: int, layers: int, *, tokens: int) -> PretrainConfig:
    """The quickstart's settings, at another size and length; left to right alone, so that all is comparable."""
    values: dict[str, Any] = {
        "model": {"hidden_size": width, "layers": layers, "heads": width // 32, "kv_heads": min(width // 32, 2)},
        "data": {"context_tokens": CONTEXT, "fim_rate": 0.0, "repository_rate": 0.0},
        "optimizer": {"learning_rate": 2e-2, "matrix_learning_rate": 0.01, "weight_decay": 0.1},
        "batch_tokens": BATCH,
        "micro_batch_tokens": BATCH,
        "tokens": tokens,
    }
    if width // 32 % 2:  # 1 or 3 heads
        values["model"]["kv_heads"] = 1
    return build(PretrainConfig, values, where="the study")


@torch.no_grad()
def _bits_per_byte(world: World, model_directory: Path) -> float:
    """Over all held-out files, in stretches of the context that the model has not seen the beginning of."""
    store = TokenStore(world.tokens, vocab_size=world.vocab_size, split=HELD_OUT)
    model = checkpoint.load(model_directory).eval()
    nats, size_bytes = 0.0, 0.0
    for document, (length, size) in enumerate(zip(store.lengths, store.sizes_bytes, strict=True)):
        stretches = [store.ids(document, first, first + CONTEXT) for first in range(0, int(length), CONTEXT)]
        batch = pack([stretch for stretch in stretches if len(stretch) > 1])
        hidden = model.hidden(torch.from_numpy(batch.ids)[None], lengths=batch.lengths).flatten(0, 1)
        nats += float(cross_entropy_sum(hidden, model.lm_head.weight, torch.from_numpy(batch.targets)))
        size_bytes += float(size) * batch.trained_tokens / float(length)
    return nats / math.log(2) / size_bytes


def _median_error(study: Study) -> float:
    errors = [abs(math.log(study.law.loss(run.parameters, run.tokens) / run.loss)) for run in study.runs]
    return statistics.median(errors)


def _print(study: Study) -> None:
    rows = [
        (f"{run.budget:.0e}", f"{run.parameters:,}", f"{run.tokens:,}", f"{run.epochs:.2f}", f"{run.loss:.4f}",
         f"{study.law.loss(run.parameters, run.tokens):.4f}")
        for run in study.runs
    ]  # fmt: skip
    columns = ("operations", "parameters", "tokens", "epochs", study.unit, "by the law")
    table(f"Scaling study, {study.machine}", columns, rows, right=columns)
    names = {"irreducible": "E", "size_factor": "A", "data_factor": "B", "size_exponent": "alpha",
             "data_exponent": "beta"}  # fmt: skip
    found = [
        (symbol, f"{getattr(study.law, name):.4g}", "{:.4g} to {:.4g}".format(*study.interval(name)))
        for name, symbol in names.items()
    ]
    title = f"L = E + A / N^alpha + B / D^beta; median error {_median_error(study):.2%}"
    table(title, ("", "fitted", "95 %"), found, right=("fitted", "95 %"))


def _plot(study: Study, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "starsmith"
    from matplotlib import pyplot as plt

    figure, (losses, sizes) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    budgets = sorted({run.budget for run in study.runs})
    smallest, largest = (pick(run.parameters for run in study.runs) for pick in (min, max))
    grid = np.geomspace(smallest / 1.3, largest * 1.3, 100)
    for budget, colour in zip(budgets, ("#9db4e6", "#3554a5", "#14244d"), strict=False):
        mine = [run for run in study.runs if run.budget == budget]
        losses.plot(grid, [study.law.loss(n, budget / 6 / n) for n in grid], color=colour, linewidth=1)
        losses.plot([run.parameters for run in mine], [run.loss for run in mine], "o", color=colour, markersize=4,
                    label=f"{budget:.0e} operations")  # fmt: skip
    losses.set(xscale="log", xlabel="parameters N", ylabel=f"held-out {study.unit}")
    counts = sorted({run.parameters for run in study.runs})
    losses.set_xticks(counts, [f"{count / 1e6:.2g}M" for count in counts])
    losses.minorticks_off()
    losses.legend(frameon=False, fontsize=8)
    wide = np.geomspace(budgets[0] / 3, budgets[-1] * 100, 60)
    advice = [study.advise(float(flops)) for flops in wide]
    low, high = zip(*(found.parameters_interval for found in advice), strict=True)
    sizes.fill_between(wide, low, high, color="#3554a5", alpha=0.15, linewidth=0, label="95 % of resampled fits")
    sizes.plot(wide, [found.parameters for found in advice], color="#3554a5", label="best size")
    sizes.axvline(study.largest, color="#888", linestyle="--", linewidth=1, label="largest run: beyond, extrapolation")
    sizes.set(xscale="log", yscale="log", xlabel="operations C", ylabel="parameters N")
    sizes.legend(frameon=False, fontsize=8)
    for axis in (losses, sizes):
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _machine() -> str:
    """What it ran on, in words: processor or GPU, and how many threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
