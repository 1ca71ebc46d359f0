"""Token documents become training batches: cut to the context, half of the files as infills, packed without padding.

A file longer than the context is cut into stretches that fit, at places that change each epoch. Whether a file is
trained as infills is decided once per file and epoch; each of its stretches is then an infill of its own, whole in
the batch with its end marker. Attention never crosses from one stretch to the next.

Every choice comes from a counter-based generator keyed by (seed, epoch, document), so the batches are a function of
the settings alone: a resumed run replays them and goes on where it stopped.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from starsmith.core.errors import ConfigError
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import END_OF_TEXT, Tokenizer
from starsmith.tokenizer.tokens import TokenStore
from starsmith.training.loss import IGNORED

_ORDER, _FILE = 0, 1  # streams of randomness that must not overlap


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How documents become batches."""

    context_tokens: int  # the longest sequence
    batch_tokens: int  # tokens in one batch, or a little less: documents stay whole
    fim_rate: float  # share of the files trained as infills
    spm_rate: float  # share of the infills in suffix-prefix-middle order
    seed: int

    def __post_init__(self) -> None:
        if self.context_tokens < 2 * fim.MARKERS:
            raise ConfigError(f"context_tokens={self.context_tokens}: too short for an infill", hint="give 64 or more")
        if self.batch_tokens < self.context_tokens:
            raise ConfigError(
                f"batch_tokens={self.batch_tokens} is less than one context of {self.context_tokens}",
                hint="raise batch_tokens",
            )
        if not (0 <= self.fim_rate <= 1 and 0 <= self.spm_rate <= 1):
            raise ConfigError(f"fim_rate={self.fim_rate}, spm_rate={self.spm_rate}: must lie in 0 to 1", hint="mend it")


@dataclass(frozen=True)
class Batch:
    """Packed sequences, one after the other."""

    ids: NDArray[np.int64]  # (N,)
    targets: NDArray[np.int64]  # (N,) the next id of the same sequence, IGNORED at its end
    lengths: list[int]  # of the sequences; their sum is N

    @property
    def trained_tokens(self) -> int:
        """Tokens that a loss is taken on."""
        return len(self.ids) - len(self.lengths)


def batches(store: TokenStore, tokenizer: Tokenizer, config: DataConfig) -> Iterator[Batch]:
    """Endless batches, epoch after epoch."""
    pending: list[list[int]] = []
    size = 0
    for sequence in _sequences(store, tokenizer, config):
        if size + len(sequence) > config.batch_tokens:
            yield pack(pending)
            pending, size = [], 0
        pending.append(sequence)
        size += len(sequence)


def pack(sequences: Sequence[Sequence[int]]) -> Batch:
    """Join sequences; the target of each id is the one after it in the same sequence."""
    ids = np.concatenate([np.asarray(sequence, np.int64) for sequence in sequences])
    lengths = [len(sequence) for sequence in sequences]
    targets = np.roll(ids, -1)
    targets[np.cumsum(lengths) - 1] = IGNORED
    return Batch(ids, targets, lengths)


def held_out_batch(store: TokenStore, *, context_tokens: int, max_tokens: int) -> tuple[Batch, int]:
    """The first stretch of each of the first held-out documents, left to right, for a loss to watch while training.

    returns  (batch, bytes that its targets stand for, by the documents' mean bytes per token)
    """
    sequences: list[list[int]] = []
    size_bytes, size = 0.0, 0
    for document, (length, size_of_text) in enumerate(zip(store.lengths, store.sizes_bytes, strict=True)):
        sequence = store.ids(document, 0, context_tokens)
        if len(sequence) < 2 or size + len(sequence) > max_tokens:
            continue
        sequences.append(sequence)
        size += len(sequence)
        size_bytes += float(size_of_text) * (len(sequence) - 1) / float(length)
    return (pack(sequences), round(size_bytes)) if sequences else (pack([[END_OF_TEXT]]), 0)


def _sequences(store: TokenStore, tokenizer: Tokenizer, config: DataConfig) -> Iterator[list[int]]:
    if not store.lengths.any():
        raise ConfigError("the tokens artefact has no training token", hint="build it from a larger corpus")
    epoch = 0
    while True:
        stretches = _stretches(store.lengths, config, epoch)
        order = _generator(config.seed, _ORDER, epoch).permutation(len(stretches))
        for document, start, end in stretches[order].tolist():
            yield _sequence(store, tokenizer, config, (epoch, document, start, end))
        epoch += 1


def _stretches(lengths: NDArray[np.int64], config: DataConfig, epoch: int) -> NDArray[np.int64]:
    """(S, 3) document, start and end of every stretch of an epoch; the first cut of each document is random."""
    room = config.context_tokens - fim.MARKERS
    first_cuts = _generator(config.seed, _ORDER, epoch, 1).integers(1, room + 1, len(lengths))
    rows: list[tuple[int, int, int]] = []
    for document, (length, first) in enumerate(zip(lengths.tolist(), first_cuts.tolist(), strict=True)):
        cuts = [0, length] if length <= room else [0, *range(first, length, room), length]
        rows.extend((document, start, end) for start, end in itertools.pairwise(cuts) if end > start)
    return np.asarray(rows, np.int64).reshape(-1, 3)


def _sequence(
    store: TokenStore, tokenizer: Tokenizer, config: DataConfig, place: tuple[int, int, int, int]
) -> list[int]:
    epoch, document, start, end = place
    ids = store.ids(document, start, end)
    if _generator(config.seed, _FILE, epoch, document).random() >= config.fim_rate:
        return [*ids, END_OF_TEXT] if end == store.lengths[document] else ids
    random = _generator(config.seed, _FILE, epoch, document, start + 1)
    layout: fim.Layout = "spm" if random.random() < config.spm_rate else "psm"
    infill = fim.example(fim.cut_at_characters(tokenizer, ids, random), layout)
    if len(infill) <= config.context_tokens:
        return infill
    # Encoding the seams anew took more tokens than there is room for: cut between tokens, which adds none.
    first, second = sorted(random.integers(0, len(ids) + 1, 2).tolist())
    return fim.example(fim.Cut(ids[:first], ids[first:second], ids[second:]), layout)


def _generator(*key: int) -> np.random.Generator:
    """A generator that depends on the key alone, whatever was drawn before and wherever."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
