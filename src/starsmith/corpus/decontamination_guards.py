"""Which n-grams of the benchmark texts a near copy is known by, and which of them a file is asked for first.

Of each text at most MOST_CHOSEN n-grams are chosen, boilerplate left out: those of the lowest hashes. That hash is one
of its own, so that a faster one to look them up by does not change which files are contaminated.

Shapes: N texts, T tokens, C chosen n-grams of all texts.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.corpus.decontamination_near import NearIndex, ngram_hashes
from starsmith.corpus.decontamination_text import HIDDEN, lower_at, read, token_end
from starsmith.corpus.known_hashes import index

MOST_CHOSEN = 64  # n-grams of a text that are looked for
_LEAST_GUARDS, _GUARDS_SHARE = 4, 4  # of a near copy: so many, or one in so many of the n-grams that it must have
_FEW = 4  # texts that may share a guard

_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_LAST = np.uint64(0xFFFFFFFFFFFFFFFF)
_COUNTERS, _COUNTER_SHIFT = 1 << 20, np.uint64(64 - 20)


def index_near(
    data: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    tasks: NDArray[np.int64],
    *,
    ngram: int,
    least_ngrams: int,
    least_share: float,
    most_tasks: int,
) -> NearIndex:
    """Index texts, one after the other in `data`, of numbered tasks."""
    grams, ranks, gram_bounds, lengths = _grams(data, bounds, ngram)
    shared = _shared_by_many(grams, np.repeat(tasks, np.diff(gram_bounds)), most_tasks)
    grams, gram_bounds = _choose(grams, ranks, gram_bounds, shared, least_ngrams)
    counts = _counts(grams, np.repeat(np.arange(len(lengths)), np.diff(gram_bounds)))
    hashes, owners, wanted = _guards(grams, counts, gram_bounds, least_share)
    order = np.argsort(hashes, kind="stable")
    _sort_each(grams, gram_bounds)
    return NearIndex(index(hashes[order]), owners[order], wanted, grams, gram_bounds, lengths, ngram, least_share)


@njit(cache=True, nogil=True)
def _grams(
    data: NDArray[np.uint8], bounds: NDArray[np.int64], ngram: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """The n-grams of each text by the hash to look them up and by that to choose them, their bounds, and its tokens."""
    grams, ranks = np.empty(len(data), np.uint64), np.empty(len(data), np.uint64)
    gram_bounds, lengths = np.zeros(len(bounds), np.int64), np.zeros(len(bounds) - 1, np.int32)
    count = 0
    for text in range(len(bounds) - 1):
        own = data[bounds[text] : bounds[text + 1]]
        _, values, starts = read(own)
        lengths[text] = len(values)
        hashes = ngram_hashes(values, ngram)
        grams[count : count + len(hashes)] = hashes
        _choosing(own, values, starts)
        ranks[count : count + len(hashes)] = ngram_hashes(values, ngram)
        count += len(hashes)
        gram_bounds[text + 1] = count
    return grams[:count], ranks[:count], gram_bounds, lengths


@njit(cache=True, nogil=True)
def _choosing(data: NDArray[np.uint8], values: NDArray[np.uint64], starts: NDArray[np.uint32]) -> None:
    """Put the FNV-1a hash of each token in place of its value, unless it is hidden."""
    for token in range(len(values)):
        if values[token] != HIDDEN:
            value = _FNV_START
            for place in range(starts[token], token_end(data, starts[token])):
                value = (value ^ np.uint64(lower_at(data, place))) * _FNV_PRIME
            values[token] = value


def _shared_by_many(grams: NDArray[np.uint64], tasks: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which n-grams stand in the texts of more than `most` tasks."""
    suspects = np.flatnonzero(_counts(grams, tasks) > most)  # all that do, and a few that do not
    order = np.lexsort((tasks[suspects], grams[suspects]))
    suspects = suspects[order]
    new_gram, new_task = (np.diff(column[suspects], prepend=column[:1]) != 0 for column in (grams, tasks))
    new_gram[:1] = True
    values, counts = np.unique(grams[suspects[new_gram | new_task]], return_counts=True)
    shared = np.zeros(len(grams), bool)
    shared[suspects] = np.isin(grams[suspects], values[counts > most])
    return shared


@njit(cache=True, nogil=True)
def _counts(grams: NDArray[np.uint64], groups: NDArray[np.int64]) -> NDArray[np.uint32]:
    """In how many groups each is, or more: some share a counter, and a group may come again."""
    counters, counts = np.zeros(_COUNTERS, np.uint32), np.empty(len(grams), np.uint32)
    last = np.full(_COUNTERS, -1, np.int64)
    for place in range(len(grams)):
        counter = grams[place] >> _COUNTER_SHIFT
        counters[counter] += np.uint32(last[counter] != groups[place])
        last[counter] = groups[place]
    for place in range(len(grams)):
        counts[place] = counters[grams[place] >> _COUNTER_SHIFT]
    return counts


@njit(cache=True, nogil=True)
def _choose(
    grams: NDArray[np.uint64],
    ranks: NDArray[np.uint64],
    bounds: NDArray[np.int64],
    shared: NDArray[np.bool_],
    least: int,
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(C,) the first rare n-grams of each text that has at least so many, and the bounds of each."""
    chosen, chosen_bounds = np.empty((len(bounds) - 1) * MOST_CHOSEN, np.uint64), np.zeros(len(bounds), np.int64)
    enough = max(MOST_CHOSEN, least)
    count = 0
    for text in range(len(bounds) - 1):
        begin, end = bounds[text], bounds[text + 1]
        first = _first(ranks[begin:end], shared[begin:end], enough + enough // 2)
        if len(first) < enough:
            first = _first(ranks[begin:end], shared[begin:end], end - begin)
        if len(first) >= least:
            for place in first[:MOST_CHOSEN]:
                chosen[count] = grams[begin + place]
                count += 1
        chosen_bounds[text + 1] = count
    return chosen[:count].copy(), chosen_bounds


@njit(cache=True, nogil=True)
def _first(ranks: NDArray[np.uint64], shared: NDArray[np.bool_], about: int) -> NDArray[np.int64]:
    """Places of the rare n-grams among `about` so many of the lowest ranks, each once, in order of rank.

    Ranks are hashes, so that so many of them lie below a bound that their number alone gives.
    """
    bound = _LAST if about >= len(ranks) else _LAST // np.uint64(len(ranks)) * np.uint64(about)
    low_bits = np.uint64(1)
    while low_bits < len(ranks):
        low_bits *= np.uint64(2)
    low_bits -= np.uint64(1)  # of a rank: they give way to its place, so that one sort orders both
    keyed, count = np.empty(len(ranks), np.uint64), 0
    for place in range(len(ranks)):
        if ranks[place] <= bound and not shared[place]:
            keyed[count] = (ranks[place] & ~low_bits) | np.uint64(place)
            count += 1
    keyed[:count].sort()
    places, distinct = np.empty(count, np.int64), 0
    for key in keyed[:count]:
        places[distinct] = np.int64(key & low_bits)
        if distinct == 0 or ranks[places[distinct]] != ranks[places[distinct - 1]]:
            distinct += 1
    return places[:distinct]


@njit(cache=True, nogil=True)
def _guards(
    grams: NDArray[np.uint64], counts: NDArray[np.uint32], bounds: NDArray[np.int64], least_share: float
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    """The guards, the text of each, and (N,) how many of a text's guards a near copy has.

    The guards are n-grams that a few texts share, which makes them fewer, and otherwise rare ones.
    A near copy has `needed` of the text's n-grams, so it lacks at most the others, be all of them guards or not.
    """
    hashes, owners = np.empty(len(grams), np.uint64), np.empty(len(grams), np.int32)
    wanted = np.zeros(len(bounds) - 1, np.int32)
    keyed = np.empty(MOST_CHOSEN, np.uint64)
    count = 0
    for text in range(len(bounds) - 1):
        first, size = bounds[text], bounds[text + 1] - bounds[text]
        if size == 0:
            continue
        needed = _needed(size, least_share)
        wanted[text] = min(needed, max(_LEAST_GUARDS, needed // _GUARDS_SHARE))
        for place in range(size):
            texts = np.int64(counts[first + place])
            order = _FEW - texts if texts <= _FEW else texts  # few texts: the more of them, the better
            keyed[place] = order * MOST_CHOSEN + place
        keyed[:size].sort()
        for key in keyed[: size - needed + wanted[text]]:
            hashes[count], owners[count] = grams[first + np.int64(key % np.uint64(MOST_CHOSEN))], text
            count += 1
    return hashes[:count].copy(), owners[:count].copy(), wanted


@njit(cache=True, nogil=True)
def _needed(size: int, least_share: float) -> int:
    """The fewest n-grams that are the least share of `size`."""
    needed = max(1, int(least_share * size) - 1)
    while needed / size < least_share:
        needed += 1
    return needed


@njit(cache=True, nogil=True)
def _sort_each(grams: NDArray[np.uint64], bounds: NDArray[np.int64]) -> None:
    for text in range(len(bounds) - 1):
        grams[bounds[text] : bounds[text + 1]].sort()
