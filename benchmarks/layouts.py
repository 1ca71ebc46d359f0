#!/usr/bin/env python3
"""What the order of an editor's prompt costs: infills that are exact, by layout, on the same holes.

    benchmarks/layouts.py [--model runs/starter/model] [--corpus runs/starter/corpus] [--quick] [--json]

An editor's prompt is in SPM order, since then a keystroke changes only its end; the peer is PSM, the usual order. Holes
are ends of lines in held-out files, filled greedily in each layout. It holds where the 95 % interval of the difference
(paired by hole, Bonett and Price 2012) reaches zero: no loss is shown.
"""

import argparse
import json
import sys
from pathlib import Path

from starsmith.core.console import progress
from starsmith.core.records import HELD_OUT, read_files
from starsmith.evaluation.comparison import compare
from starsmith.evaluation.infilling import COMPLETION_TOKENS, Filled, Hole, choose_holes
from starsmith.inference.completion import Completer, CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.inference.local import load_engine
from starsmith.tokenizer.bpe import Tokenizer

PEER, OURS = "psm", ("spm", "anchored")
HOLES, QUICK_HOLES = 1000, 100


def main() -> None:
    """Fill every hole in every layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/starter/model"))
    parser.add_argument("--corpus", type=Path, default=Path("runs/starter/corpus"))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_HOLES} holes in place of {HOLES}")
    parser.add_argument("--json", action="store_true", help="print the result as JSON in the last line")
    arguments = parser.parse_args()
    if not arguments.model.is_dir():
        print(f"NOT RUN: there is no model at {arguments.model}; tools/make_starter.py makes one")
        return
    holes = choose_holes(list(read_files(arguments.corpus, split=HELD_OUT)), QUICK_HOLES if arguments.quick else HOLES)
    completer = Completer(load_engine(arguments.model, inline=True), Tokenizer.load(arguments.model))
    exact = {layout: filled(completer, holes, layout) for layout in (PEER, *OURS)}
    results = []
    for layout in OURS:
        found = compare(exact[PEER], exact[layout])
        interval = f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        print(f"{layout}: {found.second:.4f} exact, {PEER}: {found.first:.4f}, difference {interval}, p {found.p:.3f}")
        results.append(
            {
                "name": f"layouts, {layout}",
                "ours": found.second,
                "peer": found.first,
                "peer_name": PEER,
                "unit": "infills exact",
                "ratio": found.second / found.first if found.first else None,
                "bar": "the interval of the difference reaches 0",
                "holds": found.high >= 0,
                "difference_95": [found.low, found.high],
                "holes": found.problems,
            }
        )
    if arguments.json:
        print(json.dumps(results))
    sys.exit(0 if all(result["holds"] for result in results) else 1)


def filled(completer: Completer, holes: list[Hole], layout: str) -> dict[str, tuple[int, int]]:
    """Hole -> 1, and 1 if it was filled exactly."""
    params = SamplingParams(max_tokens=COMPLETION_TOKENS)
    found: dict[str, tuple[int, int]] = {}
    with progress(f"filling holes, {layout}", total=len(holes), unit="holes") as advance:
        for number, hole in enumerate(holes):
            request = CompletionRequest(
                prefix=hole.prefix, suffix=hole.suffix, layout=layout, stop=("\n",), params=params
            )
            text = completer.complete(request).text
            found[str(number)] = (1, int(Filled(hole, "psm", text, "stop", 0).exact))
            advance()
    return found


if __name__ == "__main__":
    main()
