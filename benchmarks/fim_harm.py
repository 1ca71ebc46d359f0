"""FIM does no harm: half of the files trained as infills, against none, at equal tokens, on the same corpus.

The quickstart's recipe twice, as it stands and with fim_rate = 0, for each of three seeds. Measured on held-out files:

left to right   bits per byte over all of them; that with FIM may be at most 1 % above that without
infilling       ends of lines taken out and written greedily, judged by exact match. The model without FIM is asked in
                the same way, with sentinels that it has never seen, and, which is its better chance, to go on from
                what stands before the hole. FIM's must be half as much again as the first, and no less than the second

Interrupted, the same command goes on; a finished run is not run again.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from optimizer_loss import OUT as WORLD
from optimizer_loss import QUICK_SCORED_TOKENS, ROOT, Results, World, bits_per_byte, open_world, quickstart, train_model

from starsmith.core.config import to_table
from starsmith.core.console import note, progress, table
from starsmith.core.records import HELD_OUT, read_files
from starsmith.evaluation.infilling import COMPLETION_TOKENS, Hole, choose_holes
from starsmith.inference.completion import Completer, CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.inference.local import engine_for
from starsmith.model.transformer import Transformer
from starsmith.training.config import PretrainConfig

OUT = ROOT / ".bench" / "fim-harm"
BAR = 1.01  # of the bits per byte without FIM
SAME_WAY_BAR, LEFT_TO_RIGHT_BAR = 1.5, 1.0  # of the exact matches without FIM
SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)
BUDGET, QUICK_BUDGET = 2_000_000, 40_000  # tokens read by each run
HOLES, QUICK_HOLES = 300, 40
SAME_TOKENS = 0.01  # rows of infills are packed a little differently


@dataclass(frozen=True)
class Series:
    """One comparison: what all runs share, and what was found so far."""

    recipe: PretrainConfig
    world: World
    results: Results
    scored_tokens: int | None
    holes: Sequence[Hole]

    def run(self, fim: bool, seed: int) -> dict[str, Any]:
        """The figures of one run, made now if it was not yet."""
        name = f"{'FIM' if fim else 'no FIM'}, seed {seed}"
        if name in self.results.runs:
            return self.results.runs[name]
        rate = self.recipe.data.fim_rate if fim else 0.0
        config = replace(self.recipe, seed=seed, data=replace(self.recipe.data, fim_rate=rate))
        trained = train_model(config, self.world, name)
        ways = ("infill",) if fim else ("infill", "left to right")
        figures = {
            "bits": bits_per_byte(trained.model, self.world, self.scored_tokens),
            "tokens": trained.tokens,
            "cpu_seconds": trained.cpu_seconds,
            **{way: self._exact_match(trained.model, way) for way in ways},
        }
        note(f"  {name}: {figures['bits']:.4f} bits per byte, {figures['infill']:.1%} of the holes")
        return self.results.keep(name, figures)

    def _exact_match(self, model: Transformer, way: str) -> float:
        completer = Completer(engine_for(model, inline=True), self.world.tokenizer)
        with progress(f"{way}: filling holes", total=len(self.holes), unit="holes") as advance:
            exact = 0
            for number, hole in enumerate(self.holes):
                exact += _is_exact(completer, hole, number, left_to_right=way == "left to right")
                advance()
        return exact / len(self.holes)


def _is_exact(completer: Completer, hole: Hole, number: int, *, left_to_right: bool) -> bool:
    """Whether the line's end is written as it was; every other hole in the other layout, read to the first difference.

    Left to right a line end ends the answer, as in an infill; an infill may end before, by its end marker.
    """
    request = CompletionRequest(
        prefix=hole.prefix,
        suffix=None if left_to_right else hole.suffix,
        layout="spm" if number % 2 else "psm",
        stop=("\n",),
        params=SamplingParams(max_tokens=COMPLETION_TOKENS),
    )
    truth, written, ended = hole.truth.rstrip(), "", False
    for chunk in completer.stream(request):
        written += chunk.text
        ended = chunk.finish_reason is not None
        if not truth.startswith(written) and written.rstrip() != truth:
            return False
    return ended and written.rstrip() == truth


def main() -> None:
    """Run what has not been run, and print."""
    arguments = _arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    quick, world = arguments.quick, open_world(WORLD, arguments.tokens)
    budget, count = arguments.budget or (QUICK_BUDGET if quick else BUDGET), QUICK_HOLES if quick else HOLES
    recipe = quickstart()
    recipe = replace(recipe, steps=max(round(budget / (recipe.rows_per_step * recipe.micro_batch_tokens)), 2))
    scored = QUICK_SCORED_TOKENS if quick else None
    settings = {"recipe": to_table(recipe), "tokens": world.id, "scored": scored, "holes": count}
    results = Results(OUT, settings, fresh=arguments.fresh or quick)
    files = [file for file in read_files(world.corpus) if file.split == HELD_OUT]
    series = Series(recipe, world, results, scored, choose_holes(files, count))

    with_fim, without = [], []
    for seed in QUICK_SEEDS if quick else SEEDS:
        with_fim.append(series.run(True, seed))
        without.append(series.run(False, seed))
    for one, other in zip(with_fim, without, strict=True):
        same = abs(one["tokens"] / other["tokens"] - 1) <= SAME_TOKENS
        assert same, f"not the same work: {one['tokens']:,} and {other['tokens']:,} tokens"
    judged = _judged(with_fim, without)
    _show(series, with_fim, without, judged)
    if arguments.json:
        print(json.dumps(judged))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed and few tokens: does it work at all?")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument(
        "--budget", type=int, help=f"tokens read by each run; {BUDGET:,}, or {QUICK_BUDGET:,} with --quick"
    )
    parser.add_argument("--threads", type=int, help="of torch (OMP_NUM_THREADS, or all)")
    parser.add_argument("--tokens", type=Path, help="tokens artefact; without it, of the running Python's library")
    parser.add_argument("--fresh", action="store_true", help="forget the runs of earlier calls")
    return parser.parse_args()


def _judged(with_fim: Sequence[dict[str, Any]], without: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    bits = _mean(with_fim, "bits"), _mean(without, "bits")
    exact = _mean(with_fim, "infill")
    ratio = bits[0] / bits[1]
    first = {"name": "fim_harm: left to right", "ours": bits[0], "peer": bits[1], "peer_name": "no FIM"}
    found = [{**first, "unit": "bits per byte", "ratio": ratio, "bar": BAR, "holds": ratio <= BAR}]
    for way, bar in (("infill", SAME_WAY_BAR), ("left to right", LEFT_TO_RIGHT_BAR)):
        other = _mean(without, way)
        named = {"name": f"fim_harm: infilling, peer asked {way}", "ours": exact, "peer": other, "peer_name": "no FIM"}
        ratio_or_none = exact / other if other else None  # where it fills in nothing there is no ratio
        holds = exact > 0 and exact >= bar * other
        found.append({**named, "unit": "exact match", "ratio": ratio_or_none, "bar": bar, "holds": holds})
    return found


def _show(
    series: Series,
    with_fim: Sequence[dict[str, Any]],
    without: Sequence[dict[str, Any]],
    judged: Sequence[dict[str, Any]],
) -> None:
    columns = ("measured", "with FIM", "without", "each seed with / without", "ratio", "bar")
    keys = (("bits", "bits", "bits per byte"), ("infill", "infill", "infilled exactly"),
            ("infill", "left to right", "the same, without FIM left to right"))  # fmt: skip
    rows = []
    for (mine, theirs, what), result in zip(keys, judged, strict=True):
        seeds = zip(with_fim, without, strict=True)
        rows.append(
            (
                what,
                f"{result['ours']:.4f}",
                f"{result['peer']:.4f}",
                ", ".join(f"{one[mine]:.3f} / {other[theirs]:.3f}" for one, other in seeds),
                "-" if result["ratio"] is None else f"{result['ratio']:.3f}",
                f"{result['bar']:g}",
            )
        )
    title = f"With and without FIM after {_mean(with_fim, 'tokens'):,.0f} tokens, {len(series.holes)} holes"
    table(title, columns, rows, right=columns[1:])


def _mean(runs: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.fmean(run[name] for run in runs)


if __name__ == "__main__":
    main()
