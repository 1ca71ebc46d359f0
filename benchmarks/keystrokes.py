"""A person types, and each pause asks the server: `starsmith serve` against llama-server's `/infill` as shipped.

The same weights on both sides, 8 bits each (ours w8a8, llama-server's q8_0), the same keystrokes in real time, all
text before the cursor and 40 lines after it, 40 tokens asked for, greedy, streamed. Files: modules of the running
Python's library that are not in the vocabulary's training. llama-server types first and last; where the medians of its
two runs are more than 10 % apart the row is not resolved and its bar does not hold.

first token   from sending to the first text
whole         from sending to the end of 40 tokens
recomputed    tokens of the prompt that were not reused, as the servers tell
users         as many people as --users, each with a file, who begin --opening seconds apart; one alone types in
              --alone of these files in turn

Of all requests those are measured at which the person waits; the others are given up at the next key and are load.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from engines.models import LEFT_OUT, LIBRARY, SHAPES, checkpoint_of, gguf_of, quantized_of
from typists import servers
from typists.replay import Answer, together, warm_up
from typists.trace import Habits, Keystroke, keystrokes

from starsmith.core.console import note, table
from starsmith.model import gguf
from starsmith.model.quantization import KINDS

TOKENS = 40
SMALLEST, LARGEST = 4000, 6000  # bytes of a file, so that neither server has to cut what is before the cursor
HABITS = Habits(holes=1)
QUICK_HABITS = Habits(holes=1, hole_lines=1, key_s=0.1, think_share=0.0)
AGREEMENT = 1.10
FIRST_BAR, WHOLE_BAR, WHOLE_P95_BAR, RECOMPUTED_BAR, USERS_BAR = 1 / 20, 1 / 3, 1 / 2, 3, 2.0


@dataclass(frozen=True)
class Figures:
    """Of one server and all its waited-for requests."""

    first_p50: float
    whole_p50: float
    whole_p95: float
    tokens: float  # of a completion, median
    prompt: float
    recomputed: float | None
    waited: int
    given_up: int
    missed: float  # share of the given-up ones that had not even a first token


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        model, file = _model(arguments, Path(folder))
        crowd = _traces(arguments.users, QUICK_HABITS if arguments.quick else HABITS)
        alone = [list(chain.from_iterable(crowd[: arguments.alone]))]

        def of_llama(users: int) -> AbstractContextManager[servers.Address]:
            return servers.llama(file, threads=arguments.threads, users=users)

        def of_ours() -> AbstractContextManager[servers.Address]:
            options = arguments.serve.split()
            if arguments.model is not None:
                options = ["--weights", arguments.weights, *options]
            return servers.ours(model, threads=arguments.threads, options=options)

        apart = arguments.opening
        runs = {
            "llama-server": _type("llama-server", of_llama(1), alone),
            "starsmith": _type("starsmith", of_ours(), alone),
            "llama-server again": _type("llama-server again", of_llama(1), alone),
            f"starsmith, {arguments.users} users": _type("starsmith, all users", of_ours(), crowd, apart),
            f"llama-server, {arguments.users} users": _type(
                "llama-server, all", of_llama(arguments.users), crowd, apart
            ),
        }
    _show(runs)
    rows = list(_rows(list(runs.values()), arguments.users))
    _show_rows(rows)
    if arguments.json:
        print(json.dumps(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, short texts, two users")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--shape", choices=SHAPES, help="of the random weights (160m, or mini with --quick)")
    parser.add_argument("--model", type=Path, help="a trained model instead")
    parser.add_argument("--users", type=int, help="at once (8, or 2 with --quick)")
    parser.add_argument("--opening", type=float, default=1.0, help="seconds from one person's first key to the next's")
    parser.add_argument("--alone", type=int, default=4, help="files in which one person types")
    parser.add_argument("--weights", choices=("auto", *KINDS), default="w8a8", help="of our server; auto: as stored")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both servers")
    parser.add_argument("--serve", default="", help="options of `starsmith serve`, in one text")
    arguments = parser.parse_args()
    arguments.users = arguments.users or (2 if arguments.quick else 8)
    return arguments


def _model(arguments: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """The checkpoint and its GGUF file."""
    if arguments.model is None:
        shape = arguments.shape or ("mini" if arguments.quick else "160m")
        ours = checkpoint_of(shape) if arguments.weights == "auto" else quantized_of(shape, arguments.weights)
        return ours, gguf_of(shape, "q8_0")
    gguf.write(arguments.model, folder / "model.gguf", kind="q8_0", label=gguf.Label(name="model"))
    return arguments.model, folder / "model.gguf"


def _traces(users: int, habits: Habits) -> list[list[Keystroke]]:
    """A file and a seed for each."""
    files = [file for package in LEFT_OUT for file in sorted((LIBRARY / package).rglob("*.py"))]
    fitting = [file for file in files if SMALLEST <= file.stat().st_size <= LARGEST]
    step = len(fitting) // users  # so that they come from several packages
    texts = [file.read_text(encoding="utf-8") for file in fitting[:: max(step, 1)][:users]]
    return [list(keystrokes(text, seed, habits)) for seed, text in enumerate(texts)]


def _type(
    name: str,
    server: AbstractContextManager[servers.Address],
    traces: Sequence[Sequence[Keystroke]],
    opening_s: float = 0.0,
) -> Figures:
    with server as address:
        warm_up(address)
        found = _figures([*chain.from_iterable(together(traces, address, tokens=TOKENS, opening_s=opening_s))])
    note(f"  {name}: first token {1e3 * found.first_p50:,.0f} ms, whole {1e3 * found.whole_p50:,.0f} ms")
    return found


def _figures(answers: Sequence[Answer]) -> Figures:
    waited = [answer for answer in answers if answer.waited]
    given_up = [answer for answer in answers if not answer.whole]
    told = [answer.told for answer in waited if answer.told is not None]
    first = [answer.first_s if answer.first_s is not None else answer.whole_s for answer in waited]
    whole = [answer.whole_s for answer in waited]
    recomputed = [one.recomputed for one in told if one.recomputed is not None]
    return Figures(
        first_p50=float(np.median(first)),
        whole_p50=float(np.median(whole)),
        whole_p95=float(np.percentile(whole, 95)),
        tokens=float(np.median([one.written for one in told])),
        prompt=float(np.median([one.prompt for one in told])),
        recomputed=float(np.median(recomputed)) if recomputed else None,
        waited=len(waited),
        given_up=len(given_up),
        missed=float(np.mean([answer.first_s is None for answer in given_up])) if given_up else 0.0,
    )


def _rows(runs: Sequence[Figures], users: int) -> Iterator[dict[str, Any]]:
    before, mine, after, crowd, their_crowd = runs

    def row(
        name: str, ours: float, peer: float | None, unit: str, ratio: float, bar: float, ok: bool
    ) -> dict[str, Any]:
        names = {"name": f"keystrokes: {name}", "ours": ours, "peer": peer, "peer_name": "llama-server /infill"}
        return {**names, "unit": unit, "ratio": ratio, "bar": bar, "holds": ratio <= bar and ok, "resolved": ok}

    same = abs(mine.tokens - before.tokens) <= 1
    for name, field, bar in (
        ("first token, p50", "first_p50", FIRST_BAR),
        ("whole completion, p50", "whole_p50", WHOLE_BAR),
        ("whole completion, p95", "whole_p95", WHOLE_P95_BAR),
    ):
        ours, theirs = getattr(mine, field), (getattr(before, field), getattr(after, field))
        peer = sum(theirs) / 2
        resolved = same and max(theirs) <= AGREEMENT * min(theirs)
        yield row(name, 1e3 * ours, 1e3 * peer, "ms", ours / peer, bar, resolved)
    if mine.recomputed is None:
        note("  recomputed tokens: NOT MEASURED, our server does not tell how many it reused")
    else:
        recomputed = mine.recomputed
        yield row("tokens recomputed, p50", recomputed, before.recomputed, "tokens", recomputed, RECOMPUTED_BAR, True)
    ours, peer = crowd.whole_p95 / mine.whole_p95, their_crowd.whole_p95 / before.whole_p95
    yield row(f"{users} users, p95 over one user's", ours, peer, "times", ours, USERS_BAR, True)


def _show(runs: dict[str, Figures]) -> None:
    columns = (
        "", "first token p50", "whole p50", "p95", "tokens", "prompt", "recomputed", "waits", "given up", "in vain",
    )  # fmt: skip
    lines = [
        (
            name,
            *(f"{1e3 * seconds:,.0f} ms" for seconds in (found.first_p50, found.whole_p50, found.whole_p95)),
            f"{found.tokens:.0f}",
            f"{found.prompt:,.0f}",
            "-" if found.recomputed is None else f"{found.recomputed:,.0f}",
            found.waited,
            found.given_up,
            f"{found.missed:.0%}",
        )
        for name, found in runs.items()
    ]
    table("Keystrokes", columns, lines, right=columns[1:])


def _show_rows(rows: Sequence[dict[str, Any]]) -> None:
    columns = ("", "ours", "peer", "unit", "ratio", "bar", "")
    lines = []
    for row in rows:
        verdict = "holds" if row["holds"] else "MISSED" if row["resolved"] else "NOT RESOLVED"
        shown = (f"{row[name]:,.4g}" if row[name] is not None else "-" for name in ("ours", "peer"))
        lines.append((row["name"], *shown, row["unit"], f"{row['ratio']:.3f}", f"<= {row['bar']:.3g}", verdict))
    table("Bars", columns, lines, right=("ours", "peer", "ratio"))


if __name__ == "__main__":
    main()
