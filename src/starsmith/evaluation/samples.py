"""A few held-out places with what the model writes there and which training files that is equal to. Nothing staged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from starsmith.core.records import HELD_OUT, read_files
from starsmith.evaluation.infilling import Hole, choose_holes
from starsmith.inference.completion import Completer, CompletionRequest
from starsmith.inference.local import load_engine
from starsmith.provenance.attribution import Attributor, Match
from starsmith.tokenizer.bpe import Tokenizer

CONTEXT_CHARACTERS = 2000  # before the cursor: a copy may begin there


@dataclass(frozen=True)
class Sample:
    """One place, one completion, its sources."""

    path: str
    line: int
    license: str
    before: str
    truth: str  # the line that stands there
    completion: str
    finish_reason: str
    matches: Sequence[Match]


def take_samples(
    *, model: Path, corpus: Path, index: Path, count: int, ask: Callable[[Hole], CompletionRequest]
) -> list[Sample]:
    """What the model answers to `ask` at the first `count` held-out places by hash, whatever comes out.

    Matches are those of the code before the cursor and the completion together that reach into the completion.
    """
    completer = Completer(load_engine(model, inline=True), Tokenizer.load(model))
    attributor = Attributor.open(index)
    samples = []
    for hole in choose_holes(list(read_files(corpus, split=HELD_OUT)), count, whole_lines=True):
        found = completer.complete(ask(hole))
        before = hole.prefix[-CONTEXT_CHARACTERS:]
        samples.append(
            Sample(
                path=hole.file.path,
                line=hole.line,
                license=hole.file.license,
                before=before,
                truth=hole.truth,
                completion=found.text,
                finish_reason=found.finish_reason,
                matches=attributor.attribute(before + found.text, start=len(before)),
            )
        )
    return samples
