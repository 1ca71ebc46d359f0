"""All pairs of files that are alike, by exact Jaccard similarity: code of its own, for judging the package's.

Files meet in 64 bands of 4 values of a plain MinHash; of the pairs at 0.7 one in 40 million is missed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

WORDS = 5  # in a shingle
LEAST = 0.7  # Jaccard similarity of the pairs that are wanted
BANDS, ROWS = 64, 4
ALIKE_AT_LEAST = 0.55  # estimated; five standard deviations below 0.7, so that no pair above it is lost


@dataclass(frozen=True)
class Truth:
    """The sets of shingles of all files, and the pairs that are alike."""

    elements: NDArray[np.uint64]  # of all files, each file's sorted
    starts: NDArray[np.int64]  # (N + 1,)
    pairs: NDArray[np.int64]  # (P, 2)
    similarities: NDArray[np.float64]  # (P,)

    def similarities_of(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """(P,) of any pairs (P, 2) of files."""
        return _similarities(pairs, self.elements, self.starts)


def true_pairs(contents: Iterable[bytes]) -> Truth:
    """All pairs of files at LEAST or more."""
    sets = [_word_set(content) for content in contents]
    starts = np.concatenate([[0], np.cumsum([len(own) for own in sets])])
    elements = np.concatenate(sets)
    values = _minhash(elements, starts, _random(BANDS * ROWS, 1), _random(BANDS * ROWS, 2))
    bands = values.reshape(len(sets), BANDS, ROWS)
    keys = np.ascontiguousarray((bands * _random(ROWS, 3)).sum(axis=2, dtype=np.uint64).T)
    sizes = np.diff(starts)
    found = []
    for band in range(BANDS):
        order = np.argsort(keys[band], kind="stable")
        order = order[sizes[order] > 0]
        found.append(_meetings(order, keys, band, values, sizes))
    pairs = np.concatenate(found)
    similarities = _similarities(pairs, elements, starts)
    true = similarities >= LEAST
    return Truth(elements, starts, pairs[true], similarities[true])


def _random(count: int, seed: int) -> NDArray[np.uint64]:
    """Odd numbers."""
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64) | np.uint64(1)


def _word_set(content: bytes) -> NDArray[np.uint64]:
    return np.unique(_word_shingles(np.frombuffer(content, np.uint8), WORDS))


@njit(cache=True)
def _word_shingles(data: NDArray[np.uint8], words: int) -> NDArray[np.uint64]:
    """A hash of every `words` consecutive lower-cased [A-Za-z0-9_] words; not the package's."""
    found = np.empty(len(data) // 2 + 1, np.uint64)
    last = np.zeros(words, np.uint64)
    count, seen, value, inside = 0, 0, uint64(0), False
    for place in range(len(data) + 1):
        letter = data[place] if place < len(data) else np.uint8(32)
        if 65 <= letter <= 90:
            letter += np.uint8(32)
        if 97 <= letter <= 122 or 48 <= letter <= 57 or letter == 95:
            value = (value + uint64(letter) + uint64(1)) * uint64(0xD6E8FEB86659FD93)
            value ^= value >> uint64(32)
            inside = True
        elif inside:
            last[seen % words] = value
            seen += 1
            value, inside = uint64(0), False
            if seen >= words:
                total = uint64(0)
                for step in range(words):
                    total = (total ^ last[(seen + step) % words]) * uint64(0xFF51AFD7ED558CCD)
                    total ^= total >> uint64(29)
                found[count] = total * uint64(0xC4CEB9FE1A85EC53)
                count += 1
    return found[:count]


@njit(cache=True)
def _minhash(
    elements: NDArray[np.uint64], starts: NDArray[np.int64], factors: NDArray[np.uint64], shifts: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """(N, K) smallest (element * factor + shift), the upper half of it."""
    values = np.full((len(starts) - 1, len(factors)), uint64(2**32), np.uint64)
    for number in range(len(starts) - 1):
        own = values[number]
        for element in elements[starts[number] : starts[number + 1]]:
            for place in range(len(factors)):
                own[place] = min(own[place], (element * factors[place] + shifts[place]) >> uint64(32))
    return values


@njit(cache=True)
def _meetings(
    order: NDArray[np.int64], keys: NDArray[np.uint64], band: int, values: NDArray[np.uint64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(P, 2) pairs that meet in this band and in none before, of sizes and with an estimate that allow LEAST."""
    found = np.empty((1024, 2), np.int64)
    count, start = 0, 0
    while start < len(order):
        end = start + 1
        while end < len(order) and keys[band, order[end]] == keys[band, order[start]]:
            end += 1
        for here in range(start, end):
            for there in range(here + 1, end):
                one, other = order[here], order[there]
                if min(sizes[one], sizes[other]) < LEAST * max(sizes[one], sizes[other]):
                    continue
                if (values[one] == values[other]).mean() < ALIKE_AT_LEAST:
                    continue
                if (keys[:band, one] == keys[:band, other]).any():
                    continue
                if count == len(found):
                    found = np.concatenate((found, np.empty_like(found)))
                found[count, 0], found[count, 1] = one, other
                count += 1
        start = end
    return found[:count]


@njit(cache=True)
def _similarities(
    pairs: NDArray[np.int64], elements: NDArray[np.uint64], starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(P,) exact Jaccard similarity; 0 where both are empty."""
    found = np.zeros(len(pairs))
    for place in range(len(pairs)):
        one = elements[starts[pairs[place, 0]] : starts[pairs[place, 0] + 1]]
        other = elements[starts[pairs[place, 1]] : starts[pairs[place, 1] + 1]]
        here, there, shared = 0, 0, 0
        while here < len(one) and there < len(other):
            first, second = one[here], other[there]
            here += first <= second
            there += second <= first
            shared += first == second
        union = len(one) + len(other) - shared
        if union:
            found[place] = shared / union
    return found
