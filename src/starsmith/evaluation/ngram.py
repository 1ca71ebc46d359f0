"""A plain n-gram model over the same tokens: the baseline without which bits per byte mean little.

Interpolated Kneser-Ney (Kneser and Ney 1995; Chen and Goodman 1999, section 3) of order 4 with one discount for each
order. An n-gram is one 64-bit key of 16 bits a token, so counting is sorting.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER = 4
_BITS = 16  # of one token: vocabularies up to 65,536
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class _Level:
    """Counts of the n-grams of one order; below the highest they count distinct left neighbours, not occurrences."""

    grams: Keys  # sorted
    counts: NDArray[np.int64]
    contexts: Keys  # sorted: the n-grams without their last token
    totals: NDArray[np.int64]  # of the counts after a context
    followers: NDArray[np.int64]  # distinct tokens after a context
    discount: float


class NGram:
    """Kneser-Ney probabilities of the next token."""

    def __init__(self, documents: Iterable[Sequence[int]], *, vocab_size: int) -> None:
        if vocab_size > 2**_BITS:
            raise ValueError(f"vocab_size {vocab_size} does not fit into {_BITS} bits")
        self.vocab_size = vocab_size
        keys = [_grams(np.asarray(document, np.uint64), ORDER) for document in documents]
        grams, counts = np.unique(np.concatenate(keys or [np.zeros(0, np.uint64)]), return_counts=True)
        self._levels: list[_Level] = []
        for order in range(ORDER, 0, -1):
            self._levels.insert(0, _level(grams, counts))
            if order > 1:
                mask = np.uint64(2 ** (_BITS * (order - 1)) - 1)
                grams, counts = np.unique(grams & mask, return_counts=True)

    def probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """(len(ids),) probability of each token after those before it; the first is predicted from nothing."""
        tokens = np.asarray(ids, np.uint64)
        found = np.full(len(tokens), 1 / self.vocab_size)
        for order, level in enumerate(self._levels, start=1):
            if len(tokens) >= order:
                found[order - 1 :] = _interpolate(level, _grams(tokens, order), found[order - 1 :])
        return found

    def next_probabilities(self, history: Sequence[int]) -> NDArray[np.float64]:
        """(vocab_size,) distribution of the token after `history`."""
        recent = list(history[-(ORDER - 1) :])
        candidates = np.arange(self.vocab_size, dtype=np.uint64)
        found = np.full(self.vocab_size, 1 / self.vocab_size)
        for order, level in enumerate(self._levels, start=1):
            if len(recent) >= order - 1:
                context = _key(recent[len(recent) - (order - 1) :])
                found = _interpolate(level, (context << np.uint64(_BITS)) | candidates, found)
        return found


def _level(grams: Keys, counts: NDArray[np.int64]) -> _Level:
    heads = grams >> np.uint64(_BITS)
    contexts, first = np.unique(heads, return_index=True)
    totals = np.add.reduceat(counts, first) if len(first) else np.zeros(0, np.int64)
    followers = np.diff(np.append(first, len(heads)))
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    # Ney, Essen and Kneser 1994: the discount that leaving one out estimates.
    discount = once / (once + 2 * twice) if once else 0.5
    return _Level(grams, counts, contexts, totals, followers, discount)


def _interpolate(level: _Level, grams: Keys, lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Discounted counts of `grams`, the mass taken off given to the `lower` order; unseen contexts keep the lower."""
    count = _look_up(level.grams, level.counts, grams)
    heads = grams >> np.uint64(_BITS)
    total = _look_up(level.contexts, level.totals, heads)
    followers = _look_up(level.contexts, level.followers, heads)
    safe = np.maximum(total, 1)
    discounted = (np.maximum(count - level.discount, 0) + level.discount * followers * lower) / safe
    return np.where(total > 0, discounted, lower)


def _look_up(keys: Keys, values: NDArray[np.int64], wanted: Keys) -> NDArray[np.int64]:
    """Value of each wanted key, 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def _grams(tokens: Keys, order: int) -> Keys:
    """(T - order + 1,) keys of all n-grams of a document."""
    count = max(len(tokens) - order + 1, 0)
    keys = np.zeros(count, np.uint64)
    for offset in range(order):
        keys = (keys << np.uint64(_BITS)) | tokens[offset : offset + count]
    return keys


def _key(tokens: Sequence[int]) -> np.uint64:
    key = 0
    for token in tokens:
        key = key << _BITS | token
    return np.uint64(key)
