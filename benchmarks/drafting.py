"""Decoding with drafts against the same engine without: a trained model, held-out files, places where editors ask.

Both in turn at every place, greedy, in alternating order, behind the same prompt; the texts must be the same tokens.
Written are 40 tokens and, by themselves, the first of them: as many as an editor would show, which ends a completion
with its block. A small model's 40 tokens often repeat themselves, and that is easy to guess.
Places are ends of lines, half of them from a random character on and half from the indentation. Drafts come from the
prompt, which is the open file around the cursor, and from the training files of the same repository, as they would from
the repository of a user.

tokens a step   written behind the first, over the steps that wrote them: 1 without drafts. This counts as Spec-Bench
                does (Xia et al. 2024, arXiv 2401.07851), the token that the model adds to the accepted ones included
guesses a step  accepted ones alone
tokens/s        behind the first token, all places together
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from starsmith.core.console import note, progress, table
from starsmith.core.records import HELD_OUT, TRAIN, SourceFile, read_files
from starsmith.evaluation.infilling import Hole, choose_holes
from starsmith.inference.completion import Completer
from starsmith.inference.drafting import RepositoryDrafts, drafter_of
from starsmith.inference.engine import Drafter, GenerationRequest
from starsmith.inference.loading import WEIGHTS
from starsmith.inference.local import LocalEngine, load_engine
from starsmith.serving.prompt import editor_request
from starsmith.tokenizer.bpe import FILE_SEP, Tokenizer

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "runs" / "starter"
PLACES, QUICK_PLACES, TOKENS = 100, 16, 40
REPOSITORY_TOKENS = 1_000_000  # at most, of the files that come first by path
STEP_BAR, SPEED_BAR = 2.0, 1.8


@dataclass(frozen=True)
class Written:
    """One completion."""

    ids: list[int]
    seconds: float  # behind the first token
    steps: int  # of the model, the reading of the prompt included
    proposed: int
    accepted: int


@dataclass(frozen=True)
class Pair:
    """At one place, without and with drafts."""

    plain: Written
    drafted: Written

    @property
    def steps(self) -> int:
        """With drafts, behind the first token: the prompt is read in as many steps as without."""
        reading = self.plain.steps - (len(self.plain.ids) - 1)
        return self.drafted.steps - reading


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    if not (arguments.model / "config.json").exists():
        note(f"  NOT RUN: {arguments.model} is no model; tools/make_starter.py trains it")
        return
    engine, tokenizer = load_engine(arguments.model, arguments.weights), Tokenizer.load(arguments.model)
    completer = Completer(engine, tokenizer)
    holes = _holes(arguments.corpus, arguments.places)
    repositories = _repositories(arguments.corpus, holes, tokenizer)
    _pair(engine, _prompt(completer, holes[0]), None, first_plain=True)  # the first steps of a process are slower
    pairs: dict[str, list[Pair]] = {"as shown": [], f"{TOKENS} tokens": []}
    with progress("completing", total=len(holes), unit="places") as advance:
        for number, hole in enumerate(holes):
            prompt, lookup = _prompt(completer, hole), repositories[hole.file.repository]
            lengths = (_shown_tokens(completer, hole), TOKENS)
            for found, length in zip(pairs.values(), lengths, strict=True):
                if length > 1:
                    # Anew for each completion: a drafter keeps what it has seen.
                    request = replace(prompt, params=replace(prompt.params, max_tokens=length))
                    found.append(_pair(engine, request, drafter_of(lookup), first_plain=number % 2 == 0))
            advance()
    rows = [row for name, found in pairs.items() for row in _rows(name, found)]
    _show_rows(rows)
    if arguments.json:
        print(json.dumps(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few places")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--model", type=Path, default=STARTER / "model", help="a trained model")
    parser.add_argument("--weights", choices=WEIGHTS, default="auto", help="their form; auto: as stored")
    parser.add_argument("--corpus", type=Path, default=STARTER / "corpus", help="the corpus it was trained on")
    parser.add_argument("--places", type=int, help=f"{PLACES}, or {QUICK_PLACES} with --quick")
    arguments = parser.parse_args()
    arguments.places = arguments.places or (QUICK_PLACES if arguments.quick else PLACES)
    return arguments


def _holes(corpus: Path, count: int) -> list[Hole]:
    files = list(read_files(corpus, split=HELD_OUT))
    half = count // 2
    return [*choose_holes(files, half), *choose_holes(files, count - half, whole_lines=True)]


def _repositories(corpus: Path, holes: Sequence[Hole], tokenizer: Tokenizer) -> dict[str, RepositoryDrafts]:
    """What the training files of each repository are looked up by."""
    wanted = {hole.file.repository for hole in holes}
    files: dict[str, list[SourceFile]] = {name: [] for name in wanted}
    for file in read_files(corpus, split=TRAIN):
        if file.repository in wanted:
            files[file.repository].append(file)
    note(f"  {sum(map(len, files.values())):,} files of {len(wanted)} repositories to look up in")
    return {name: _indexed(found, tokenizer) for name, found in files.items()}


def _indexed(files: Sequence[SourceFile], tokenizer: Tokenizer) -> RepositoryDrafts:
    runs: list[int] = []
    for file in files:
        runs += [*tokenizer.encode(file.text), FILE_SEP]
        if len(runs) >= REPOSITORY_TOKENS:
            break
    return RepositoryDrafts(np.array(runs[:REPOSITORY_TOKENS], np.int32))


def _prompt(completer: Completer, hole: Hole) -> GenerationRequest:
    """What an editor's request becomes, without its manners: all completions have the same length."""
    request = editor_request(hole.prefix, hole.suffix, language=hole.file.language, max_tokens=TOKENS)
    return GenerationRequest(prompt=completer.prompt_ids(request), params=request.params)


def _shown_tokens(completer: Completer, hole: Hole) -> int:
    """Of the completion that an editor would show."""
    request = editor_request(hole.prefix, hole.suffix, language=hole.file.language, max_tokens=TOKENS)
    return completer.complete(request).completion_tokens


def _pair(engine: LocalEngine, request: GenerationRequest, drafter: Drafter | None, *, first_plain: bool) -> Pair:
    """The prompt is read beforehand, so that it is in the cache for both."""
    _write(engine, request, None)
    drafters = (None, drafter) if first_plain else (drafter, None)
    found = {one is None: _write(engine, request, one) for one in drafters}
    return Pair(found[True], found.get(False, found[True]))


def _write(engine: LocalEngine, request: GenerationRequest, drafter: Drafter | None) -> Written:
    asked = GenerationRequest(prompt=request.prompt, params=request.params, drafter=drafter)
    before = engine.stats
    ids: list[int] = []
    times: list[float] = []
    for token in engine.generate(asked):
        ids.append(token.id)
        times.append(time.perf_counter())
    after = engine.stats
    return Written(
        ids,
        times[-1] - times[0],
        after.steps - before.steps,
        after.proposed_guesses - before.proposed_guesses,
        after.accepted_guesses - before.accepted_guesses,
    )


def _rows(what: str, found: Sequence[Pair]) -> list[dict[str, Any]]:
    pairs = [pair for pair in found if len(pair.plain.ids) > 1]
    tokens = sum(len(pair.drafted.ids) - 1 for pair in pairs)
    steps = sum(pair.steps for pair in pairs)
    _show(what, pairs, steps)
    ours, plain = (tokens / sum(getattr(pair, side).seconds for pair in pairs) for side in ("drafted", "plain"))
    same = sum(pair.plain.ids == pair.drafted.ids for pair in pairs)
    return [
        _row(f"{what}, tokens a step", tokens / steps, 1.0, "tokens a step", STEP_BAR),
        _row(f"{what}, speed", ours, plain, "tokens/s", SPEED_BAR),
        _row(f"{what}, identical", same, len(pairs), "texts", 1.0),
    ]


def _row(name: str, ours: float, peer: float, unit: str, bar: float) -> dict[str, Any]:
    names = {"name": f"drafting: {name}", "peer_name": "no drafts"}
    return {**names, "ours": ours, "peer": peer, "unit": unit, "ratio": ours / peer, "bar": bar,
            "holds": ours / peer >= bar}  # fmt: skip


def _show(what: str, pairs: Sequence[Pair], steps: int) -> None:
    proposed, accepted = (sum(getattr(pair.drafted, name) for pair in pairs) for name in ("proposed", "accepted"))
    each = [(len(pair.drafted.ids) - 1) / max(pair.steps, 1) for pair in pairs]
    quarters = ", ".join(f"{value:.2f}" for value in statistics.quantiles(each, n=4))
    lengths = statistics.median(len(pair.drafted.ids) for pair in pairs)
    note(
        f"  {what}: {len(pairs)} places, {lengths:.0f} tokens (median); {accepted / steps:.2f} guesses accepted a step,"
    )
    note(f"    {accepted / max(proposed, 1):.0%} of those proposed; tokens a step by place, quartiles: {quarters}")


def _show_rows(rows: Sequence[dict[str, Any]]) -> None:
    columns = ("", "with drafts", "without", "unit", "ratio", "bar", "holds")
    lines = [
        (row["name"], *(f"{row[name]:,.4g}" for name in ("ours", "peer")), row["unit"],
         f"{row['ratio']:.2f}", f"{row['bar']:g}", row["holds"])
        for row in rows
    ]  # fmt: skip
    table("Drafting", columns, lines, right=("with drafts", "without", "ratio", "bar"))


if __name__ == "__main__":
    main()
