"""Bits per byte after the same CPU time: the quickstart's recipe against AdamW with a cosine, on the same corpus.

Peer: AdamW for all parameters and a cosine to a tenth of the peak, as in the StarCoder2 paper, with a learning rate of
its own: the best of four on one seed, with more tried while the best lies at an end of those, and then a cosine to
zero at the best rate if that is better still. All else is the quickstart's for both: model, batches, FIM, clipping.

Work: each recipe is given so many seconds of CPU time (of all threads: reading, forward, backward and update) and gets
as many steps as fit in, by the cost of a step of its own, measured once for both in turn. The figure is the bits per
byte over all held-out files, left to right. What a run has really used is written down, and the claim does not hold if
ours used more. The peer is tuned on the files that it is judged by, ours as it stands: that favours the peer.

Interrupted, the same command goes on; a finished run is not run again.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from starsmith.cli.options import STAGES
from starsmith.core import ancestry, artifact
from starsmith.core.config import build, load_recipe, to_table
from starsmith.core.console import note, progress, table
from starsmith.core.records import HELD_OUT
from starsmith.core.version import source_sha256
from starsmith.evaluation.bits_per_byte import measure, score_document
from starsmith.inference.local import engine_for
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.tokenizer.tokens import TokenStore
from starsmith.training.averaging import WeightAverage
from starsmith.training.config import PretrainConfig
from starsmith.training.data import Rows
from starsmith.training.loop import TrainingState, Work, train
from starsmith.training.optimizer import build_optimizers
from starsmith.training.parallel import Ranks
from starsmith.training.schedule import ScheduleConfig
from starsmith.training.spikes import SpikeDetector

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "quickstart.toml"
OUT = ROOT / ".bench" / "optimizer-loss"
ROOMS = ("core", "tokenizer", "model", "training")  # whose code decides the outcome
BAR = 0.90  # of the peer's bits per byte
MORE_TIME = 1.03  # of the peer's CPU time: what the measured cost of a step may be wrong by
RATES, QUICK_RATES = (1.5e-3, 3e-3, 6e-3, 1.2e-2), (3e-3, 6e-3)
MOST_EXTENSIONS = 3  # rates tried beyond those
PAPERS_END = 0.1  # of the peak: where the paper's cosine ends
SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)
QUICK_SCORED_TOKENS = 10_000  # of the held-out files


@dataclass(frozen=True)
class World:
    """What all runs share."""

    tokens: Path
    tokenizer: Tokenizer
    id: str

    @property
    def corpus(self) -> Path:
        """What the tokens were made of."""
        return ancestry.parent_directory(self.tokens, "corpus")


class Results:
    """Figures of finished runs, a JSON file for each set of settings: what was interrupted goes on."""

    def __init__(self, folder: Path, settings: dict[str, Any], *, fresh: bool) -> None:
        """fresh  forget the runs of earlier calls with these settings"""
        self._settings = {**settings, "torch": torch.__version__, "code": source_sha256(ROOMS)}
        digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()
        self._path = folder / f"runs-{digest[:12]}.json"
        known = self._path.is_file() and not fresh
        self.runs: dict[str, dict[str, Any]] = json.loads(self._path.read_text())["runs"] if known else {}

    def keep(self, name: str, found: dict[str, Any]) -> dict[str, Any]:
        """Write down a finished run; a kill leaves the file as it was before or after."""
        self.runs[name] = found
        partial = self._path.with_suffix(".partial")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({"settings": self._settings, "runs": self.runs}, indent=1))
        partial.replace(self._path)
        return found


@dataclass(frozen=True)
class Series:
    """One comparison: its recipe, its budget and what was found so far."""

    ours: PretrainConfig
    world: World
    results: Results
    budget: float  # seconds of CPU time for each run
    scored_tokens: int | None  # of the held-out files; None: all
    rounds: int = 3  # in which the cost of a step is measured

    def bits(self, config: PretrainConfig, name: str, kind: str) -> dict[str, Any]:
        """The figures of one run, made now if it was not yet."""
        if name in self.results.runs:
            return self.results.runs[name]
        config = replace(config, steps=max(round(self.budget / self._seconds_per_step(kind)), 2))
        run = train_model(config, self.world, name)
        value = bits_per_byte(run.model, self.world, self.scored_tokens)
        note(f"  {name}: {value:.4f} bits per byte, {config.steps} steps, {run.cpu_seconds:.0f} s of CPU time")
        figures = {"bits": value, "steps": config.steps, "tokens": run.tokens, "cpu_seconds": run.cpu_seconds}
        return self.results.keep(name, figures)

    def _seconds_per_step(self, kind: str) -> float:
        found = self.results.runs.get("cost of a step")
        if found is None:
            recipes = {"ours": self.ours, "peer": peer(self.ours, RATES[1])}
            found = self.results.keep("cost of a step", step_costs(recipes, self.world, self.rounds))
        return float(found[kind])


@dataclass(frozen=True)
class Trained:
    """A model and what it cost."""

    model: Transformer
    cpu_seconds: float
    tokens: int


def main() -> None:
    """Run what has not been run, and print."""
    arguments = _arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rates, seeds = (QUICK_RATES, QUICK_SEEDS) if arguments.quick else (RATES, SEEDS)
    world = open_world(OUT, arguments.tokens)
    ours, budget = quickstart(), arguments.cpu_seconds or (15.0 if arguments.quick else 120.0)
    scored = QUICK_SCORED_TOKENS if arguments.quick else None
    settings = {"budget": budget, "threads": torch.get_num_threads(), "tokens": world.id, "recipe": to_table(ours)}
    results = Results(OUT, {**settings, "scored": scored}, fresh=arguments.fresh or arguments.quick)
    series = Series(ours, world, results, budget, scored, rounds=1 if arguments.quick else 3)

    rate, end, tried = tune(series, rates, extend=not arguments.quick)
    mine, theirs = [], []
    for seed in seeds:  # in turn, so that what the machine does meanwhile meets both
        mine.append(series.bits(replace(ours, seed=seed), f"ours, seed {seed}", "ours"))
        theirs.append(_peer_run(series, rate, end, seed))
    _show(series, tried, mine, theirs, f"{rate:g} to {end:g} of it")
    if arguments.json:
        print(json.dumps(_judged(mine, theirs)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="15 s a run, two rates, one seed, fewer files scored")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--cpu-seconds", type=float, help="CPU time of each run; 120, or 15 with --quick")
    parser.add_argument(
        "--threads", type=int, help="of torch; CPU time is that of all of them (OMP_NUM_THREADS, or all)"
    )
    parser.add_argument("--tokens", type=Path, help="tokens artefact; without it, of the running Python's library")
    parser.add_argument("--fresh", action="store_true", help="forget the runs of earlier calls")
    return parser.parse_args()


def quickstart() -> PretrainConfig:
    """The recipe's settings, for a number of steps that is still to be chosen."""
    values = load_recipe(RECIPE, known=STAGES)["pretrain"]
    return build(PretrainConfig, {**values, "minutes": "none", "steps": 1}, where=str(RECIPE))


def peer(ours: PretrainConfig, rate: float, end: float = PAPERS_END) -> PretrainConfig:
    """AdamW alone with a cosine; all else as ours, the share of warm-up too."""
    optimizer = replace(ours.optimizer, learning_rate=rate, matrix_learning_rate=None)
    return replace(
        ours, optimizer=optimizer, schedule=ScheduleConfig(shape="cosine", warmup=ours.schedule.warmup, final=end)
    )


def tune(series: Series, rates: Sequence[float], *, extend: bool) -> tuple[float, float, dict[str, float]]:
    """The peer's best peak rate and end on the first seed, and all that was tried."""
    found = {rate: _peer_run(series, rate, PAPERS_END, 0)["bits"] for rate in rates}
    for _ in range(MOST_EXTENSIONS if extend else 0):
        best = min(found, key=found.__getitem__)
        if min(found) < best < max(found):
            break
        further = best / 2 if best == min(found) else best * 2
        found[further] = _peer_run(series, further, PAPERS_END, 0)["bits"]
    best = min(found, key=found.__getitem__)
    tried = {f"AdamW, {rate:g}": bits for rate, bits in sorted(found.items())}
    if not extend:
        return best, PAPERS_END, tried
    to_zero = tried[f"AdamW, {best:g} to zero"] = _peer_run(series, best, 0.0, 0)["bits"]
    return best, (0.0 if to_zero < found[best] else PAPERS_END), tried


def _peer_run(series: Series, rate: float, end: float, seed: int) -> dict[str, Any]:
    config = replace(peer(series.ours, rate, end), seed=seed)
    return series.bits(config, f"AdamW, peak {rate:g}, end {end:g}, seed {seed}", "peer")


def open_world(out: Path, given: Path | None) -> World:
    """The tokens that were given, or those of the running Python's standard library, made once."""
    tokens = given or _own_tokens(out)
    tokenizer = Tokenizer.load(ancestry.parent_directory(tokens, "tokenizer"))
    return World(tokens, tokenizer, artifact.read(tokens, kind="tokens").id[:16])


def _own_tokens(out: Path) -> Path:
    from starsmith.corpus import build as corpus
    from starsmith.corpus.sources import standard_library
    from starsmith.tokenizer import tokens, train

    if not (out / "tokens").is_dir():
        recipe = load_recipe(RECIPE, known=STAGES)
        for name in ("corpus", "tokenizer"):
            shutil.rmtree(out / name, ignore_errors=True)
        corpus.run(
            build(corpus.CorpusConfig, recipe.get("corpus", {}), where="recipe"),
            sources=[standard_library()],
            out=out / "corpus",
        )
        vocabulary = build(train.TokenizerConfig, recipe.get("tokenizer", {}), where="recipe")
        train.run(vocabulary, corpus=out / "corpus", out=out / "tokenizer")
        tokens.run(tokens.TokensConfig(), corpus=out / "corpus", tokenizer=out / "tokenizer", out=out / "tokens")
    return out / "tokens"


def begin(config: PretrainConfig, world: World) -> tuple[TrainingState, Work]:
    """A model with random weights and the loop's work, as `starsmith pretrain` has them on one CPU."""
    assert config.steps is not None
    torch.manual_seed(config.seed)
    shape = config.model.model(vocab_size=world.tokenizer.vocab_size, context_tokens=config.data.context_tokens)
    model = Transformer(shape).train()
    decay = config.optimizer.averaging
    state = TrainingState(
        model,
        build_optimizers(model, config.optimizer),
        SpikeDetector(config.spikes),
        None if decay is None else WeightAverage(model, decay),
    )
    store = TokenStore(world.tokens, vocab_size=world.tokenizer.vocab_size)
    work = Work(
        rows=Rows(store, world.tokenizer, config.data, seed=config.seed, row_tokens=config.micro_batch_tokens),
        ranks=Ranks(),
        optimizer=config.optimizer,
        schedule=config.schedule,
        steps=config.steps,
        rows_per_step=config.rows_per_step,
        precision=config.precision,
        seed=config.seed,
    )
    return state, work


def step_costs(recipes: dict[str, PretrainConfig], world: World, rounds: int, *, steps: int = 12) -> dict[str, float]:
    """Seconds of CPU time of a step of each, in turn; the mean of the middle half, for a run's time is a sum."""
    times: dict[str, list[float]] = {name: [] for name in recipes}
    for turn in range(rounds):
        for name, config in recipes.items():
            state, work = begin(replace(config, steps=steps), world)
            marks = []
            for _ in train(state, work):
                marks.append(time.process_time())
            taken = [later - earlier for earlier, later in pairwise(marks)]
            times[name] += taken[4 if turn == 0 else 1 :]
    return {name: statistics.fmean(_middle_half(found)) for name, found in times.items()}


def _middle_half(values: Sequence[float]) -> list[float]:
    ordered, quarter = sorted(values), len(values) // 4
    return ordered[quarter : len(ordered) - quarter]


def train_model(config: PretrainConfig, world: World, name: str) -> Trained:
    """Train from nothing for the configured steps, and say what it took."""
    state, work = begin(config, world)
    started = time.process_time()
    with progress(name, total=config.steps, unit="steps") as advance:
        for report in train(state, work):
            advance(1, f"loss {report.loss:.3f}")
    spent = time.process_time() - started
    with nullcontext() if state.average is None else state.average.in_place():
        model = Transformer(state.model.config)
        model.load_state_dict(state.model.state_dict())
    model.tie_weights()
    return Trained(model.eval(), spent, state.tokens)


def bits_per_byte(model: Transformer, world: World, scored_tokens: int | None = None) -> float:
    """Over held-out files, left to right, as `starsmith evaluate` measures it.

    scored_tokens  so many tokens of files, in the artefact's order; None: all
    """
    store = TokenStore(world.tokens, vocab_size=world.tokenizer.vocab_size, split=HELD_OUT)
    documents: list[list[int]] = []
    left = int(store.lengths.sum()) if scored_tokens is None else scored_tokens
    for document in range(len(store)):
        ids = store.ids(document, 0, left)
        if len(ids) > 1:
            documents.append(ids)
            left -= len(ids)
    engine = engine_for(model, inline=True)
    return measure(lambda ids: score_document(engine, ids), world.tokenizer, documents).value


def _show(
    series: Series, tried: dict[str, float], mine: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], best: str
) -> None:
    rows = [(name, f"{bits:.4f}") for name, bits in tried.items()]
    table("AdamW and a cosine, tuned on seed 0", ("peak rate", "bits per byte"), rows, right=("bits per byte",))
    columns = ("recipe", "bits per byte", "each seed", "steps", "CPU seconds")
    shown = [
        (
            name,
            f"{_mean(runs, 'bits'):.4f}",
            " ".join(f"{run['bits']:.4f}" for run in runs),
            runs[0]["steps"],
            f"{_mean(runs, 'cpu_seconds'):.1f}",
        )
        for name, runs in (("quickstart.toml", mine), (f"AdamW and a cosine, {best}", theirs))
    ]
    judged = _judged(mine, theirs)
    title = f"Held-out bits per byte after {series.budget:g} s of CPU time: ratio {judged['ratio']:.3f} (bar {BAR})"
    table(title, columns, shown, right=columns[1:])
    if not _fair(mine, theirs):
        note(f"  ours used over {MORE_TIME - 1:.0%} more CPU time: run again with --fresh, on a calm machine")


def _judged(mine: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ours, other = _mean(mine, "bits"), _mean(theirs, "bits")
    result = {"name": "optimizer_loss", "ours": ours, "peer": other, "peer_name": "AdamW and a cosine"}
    holds = ours / other <= BAR and _fair(mine, theirs)
    return {**result, "unit": "bits per byte", "ratio": ours / other, "bar": BAR, "holds": holds}


def _fair(mine: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> bool:
    return _mean(mine, "cpu_seconds") <= MORE_TIME * _mean(theirs, "cpu_seconds")


def _mean(runs: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.fmean(run[name] for run in runs)


if __name__ == "__main__":
    main()
