"""Which benchmark text a file has a rewritten copy of: the share of the text's n-grams that stand close together in it.

Of each text some n-grams are chosen, and some of these are its guards: so many that a near copy, whatever else
it lacks, has several. A file is asked for the guards of all texts at once, and only a text of which enough are there
is compared. Nothing is missed for that.

Shapes: N texts, T tokens, G guards.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.corpus.known_hashes import KnownHashes, find, may_have, shift_of, those_of

_STRETCH = 2  # a near copy lies within so many times the tokens of the text
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MARKS, _MARK_SHIFT = 1 << 12, np.uint64(64 - 12)


class NearIndex(NamedTuple):
    """What `find_near` looks up."""

    guards: KnownHashes
    owners: NDArray[np.int32]  # (G,) the text that a guard is of
    wanted: NDArray[np.int32]  # (N,) guards that a near copy has at the least
    grams: NDArray[np.uint64]  # the chosen n-grams of each text, sorted
    bounds: NDArray[np.int64]  # (N + 1,) of each text among the n-grams
    lengths: NDArray[np.int32]  # (N,) tokens
    ngram: int
    least_share: float


@njit(cache=True, nogil=True)
def ngram_hashes(values: NDArray[np.uint64], ngram: int) -> NDArray[np.uint64]:
    """(max(T - ngram + 1, 0),) a hash of every `ngram` values."""
    hashes = np.empty(max(len(values) - ngram + 1, 0), np.uint64)
    leaving = _power(ngram)
    value = np.uint64(0)
    for place in range(len(values)):
        value = value * _BASE + values[place]
        if place >= ngram:
            value -= values[place - ngram] * leaving
        if place >= ngram - 1:
            hashes[place - ngram + 1] = value
    return hashes


@njit(cache=True, nogil=True)
def find_near(values: NDArray[np.uint64], index: NearIndex) -> tuple[int, float, int, int]:
    """Number of the text with the largest share of its n-grams in a file, that share, and its first and last token.

    `values` are the file's; the number is -1 when no text has the least share.
    """
    coarse, fine, begins, keys, firsts = index.guards  # taken apart before the loops: each time costs something
    likely = those_of(_likely(values, index.ngram, coarse), fine)
    guards, count = np.empty(len(likely), np.uint64), 0
    for value in likely:
        guard = find(keys, begins, value)
        if guard >= 0:
            guards[count] = guard
            count += 1
    texts = _guarded(guards[:count], firsts, index.owners, index.wanted)
    if len(texts) == 0:
        return -1, 0.0, 0, 0
    hashes = ngram_hashes(values, index.ngram)
    grams, bounds, lengths = index.grams, index.bounds, index.lengths
    best, best_share, first, last = -1, 0.0, 0, 0
    for text in texts:
        share, begin, end = _densest(hashes, grams[bounds[text] : bounds[text + 1]], lengths[text])
        if share >= index.least_share and share > best_share:
            best, best_share, first, last = text, share, begin, end
    return best, best_share, first, last + index.ngram - 1


@njit(cache=True, nogil=True)
def _likely(values: NDArray[np.uint64], ngram: int, coarse: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The n-grams that may be guards."""
    likely, count = np.empty(len(values) + 1, np.uint64), np.uint64(0)
    shift, leaving, value = shift_of(len(coarse)), _power(ngram), np.uint64(0)
    for place in range(min(ngram - 1, len(values))):
        value = value * _BASE + values[place]
    oldest = np.uint64(0)
    for place in range(np.uint64(max(len(values) - ngram + 1, 0))):
        value = value * _BASE + (values[place + np.uint64(ngram - 1)] - oldest * leaving)
        oldest = values[place]
        likely[count] = value  # overwritten by the next one unless it is likely
        count += np.uint64(may_have(coarse, shift, value))
    return likely[:count]


@njit(cache=True, nogil=True)
def _guarded(
    guards: NDArray[np.uint64], firsts: NDArray[np.int32], owners: NDArray[np.int32], wanted: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The texts, in order, that have as many different guards among these as a near copy of them would."""
    guards.sort()
    total = 0
    for guard in guards:
        total += firsts[guard + np.uint64(1)] - firsts[guard]
    entries, count = np.empty(total, np.uint64), 0
    for number in range(len(guards)):
        guard = guards[number]
        if number == 0 or guard != guards[number - 1]:
            for entry in range(firsts[guard], firsts[guard + np.uint64(1)]):
                entries[count] = owners[entry]
                count += 1
    entries = entries[:count]
    entries.sort()  # numbers without a sign, as everywhere: one sort to compile
    texts, found, run = np.empty(count, np.int64), 0, 0
    for number in range(count):
        run = run + 1 if number and entries[number] == entries[number - 1] else 1
        if run == wanted[entries[number]]:
            texts[found] = entries[number]
            found += 1
    return texts[:found]


@njit(cache=True, nogil=True)
def _densest(hashes: NDArray[np.uint64], grams: NDArray[np.uint64], length: int) -> tuple[float, int, int]:
    """The largest share of a text's n-grams within one stretch of the file, and its first and last n-gram."""
    marks = np.zeros(_MARKS, np.bool_)
    for gram in grams:
        marks[gram >> _MARK_SHIFT] = True
    at, local, count = np.empty(len(grams), np.int64), np.empty(len(grams), np.int64), 0
    for place in range(len(hashes)):
        if not marks[hashes[place] >> _MARK_SHIFT]:
            continue
        number = np.searchsorted(grams, hashes[place])
        if number == len(grams) or grams[number] != hashes[place]:
            continue
        if count == len(at):
            at, local = np.append(at, np.empty_like(at)), np.append(local, np.empty_like(local))
        at[count], local[count] = place, number
        count += 1
    inside = np.zeros(len(grams), np.int64)
    distinct, best, first, last, tail = 0, 0, 0, 0, 0
    for head in range(count):
        inside[local[head]] += 1
        distinct += inside[local[head]] == 1
        while at[head] - at[tail] > _STRETCH * length:
            inside[local[tail]] -= 1
            distinct -= inside[local[tail]] == 0
            tail += 1
        if distinct > best:
            best, first, last = distinct, at[tail], at[head]
    return best / len(grams), first, last


@njit(cache=True, nogil=True)
def _power(exponent: int) -> np.uint64:
    value = np.uint64(1)
    for _ in range(exponent):
        value *= _BASE
    return value
