"""How many bits a model needs for a byte of files it has not seen: a figure that tokenizers cannot flatter."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from starsmith.core.console import progress
from starsmith.inference.engine import Engine
from starsmith.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class BitsPerByte:
    """A sum over files. The first token of each file is predicted from nothing and left out, with its bytes."""

    bits: float
    size_bytes: int
    files: int

    @property
    def value(self) -> float:
        """Bits for one byte."""
        return self.bits / max(self.size_bytes, 1)


def measure(
    log_probabilities: Callable[[Sequence[int]], Sequence[float]],
    tokenizer: Tokenizer,
    documents: Sequence[Sequence[int]],
) -> BitsPerByte:
    """Bits per byte under a function from a document's ids to the natural log-probabilities of ids[1:]."""
    nats, size = 0.0, 0
    for ids in documents:
        nats -= math.fsum(log_probabilities(ids))
        size += len(tokenizer.decode_bytes(ids[1:]))
    return BitsPerByte(nats / math.log(2), size, len(documents))


def measure_engine(engine: Engine, tokenizer: Tokenizer, documents: Sequence[Sequence[int]], label: str) -> BitsPerByte:
    """Bits per byte of a model, with its progress shown under `label`."""

    def score(ids: Sequence[int]) -> list[float]:
        scores = score_document(engine, ids)
        advance()
        return scores

    with progress(f"{label}: bits per byte", total=len(documents), unit="files") as advance:
        return measure(score, tokenizer, documents)


def score_document(engine: Engine, ids: Sequence[int]) -> list[float]:
    """Natural log-probabilities of ids[1:], each with at least half a context of history where there is that much."""
    scores: list[float] = []
    for start, end, first in _windows(len(ids), engine.context_tokens):
        scores += engine.score(ids[start:end])[first:]
    return scores


def _windows(length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, first score that counts) of windows that overlap by half and count each token once."""
    stride = max(context // 2, 1)
    yield 0, min(length, context), 0
    for start in range(stride, length - context + stride, stride):
        yield start, min(start + context, length), context - stride - 1
