"""Which benchmark text stands in a file as it is, white space and the case of letters aside.

Only every `step`-th window of the file's normalised bytes is looked up. None is missed for that: of each text `step`
windows are known whose places follow one another, so that one of them is looked up wherever the text stands.

Shapes: N texts, M normalised bytes, W known windows.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.corpus.decontamination_text import word_at
from starsmith.corpus.known_hashes import KnownHashes, find, index, may_have, shift_of

WINDOW = 24  # normalised bytes that are looked up at a time: no text with fewer can be found
_LONGEST_STEP = 16  # a longer one has the bitmap of the known windows grow more than it spares hashes
_CANDIDATES = 400  # windows of a text, its first ones, of which some are chosen: of a longer text that is choice enough

_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_COUNTERS, _COUNTER_SHIFT = 1 << 20, np.uint64(64 - 20)


class ExactIndex(NamedTuple):
    """What `find_exact` looks up."""

    windows: KnownHashes
    texts: NDArray[np.int32]  # (W,) the text that a window is of
    offsets: NDArray[np.int32]  # (W,) and its place there
    bounds: NDArray[np.int64]  # (N + 1,) of each text
    joined: NDArray[np.uint8]  # all texts, normalised
    step: int


def index_exact(joined: NDArray[np.uint8], bounds: NDArray[np.int64], least_bytes: int) -> ExactIndex:
    """Index the normalised texts that have at least so many bytes."""
    step = min(_LONGEST_STEP, least_bytes - WINDOW + 1)
    texts = np.flatnonzero(np.diff(bounds) >= least_bytes)
    hashes, offsets = _rare_windows(joined, bounds, texts, step)
    order = np.argsort(hashes, kind="stable")
    owners = np.repeat(texts.astype(np.int32), step)
    return ExactIndex(index(hashes[order]), owners[order], offsets[order], bounds, joined.copy(), step)


@njit(cache=True, nogil=True)
def _rare_windows(
    joined: NDArray[np.uint8], bounds: NDArray[np.int64], texts: NDArray[np.int64], step: int
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """(N * step,) hashes and places of `step` windows of each text: those that the texts have least often."""
    counts = np.zeros(_COUNTERS, np.uint32)
    for text in texts:
        for place in range(bounds[text], min(bounds[text] + _CANDIDATES, bounds[text + 1] - WINDOW + 1)):
            counts[_hash(joined, np.uint64(place)) >> _COUNTER_SHIFT] += np.uint32(1)
    hashes, offsets = np.empty(len(texts) * step, np.uint64), np.empty(len(texts) * step, np.int32)
    for row in range(len(texts)):
        begin = bounds[texts[row]]
        end = min(begin + _CANDIDATES, bounds[texts[row] + 1] - WINDOW + 1)
        sums = np.zeros(end - begin + 1, np.int64)
        for place in range(begin, end):
            count = counts[_hash(joined, np.uint64(place)) >> _COUNTER_SHIFT]
            sums[place - begin + 1] = sums[place - begin] + np.int64(count)
        rarest = np.argmin(sums[step:] - sums[:-step])
        for number in range(step):
            offsets[row * step + number] = rarest + number
            hashes[row * step + number] = _hash(joined, np.uint64(begin + rarest + number))
    return hashes, offsets


@njit(cache=True, nogil=True)
def find_exact(normal: NDArray[np.uint8], index: ExactIndex) -> tuple[int, int, int]:
    """Number of the longest text that a file holds, its place there, and its size; number -1 when there is none."""
    coarse, fine, begins, keys, firsts = index.windows  # taken apart before the loops: each time costs something
    _, texts, offsets, bounds, joined, step = index
    shift, fine_shift = shift_of(len(coarse)), shift_of(len(fine))
    likely, count = np.empty(len(normal) // step + 1, np.int64), np.uint64(0)
    for place in range(0, len(normal) - WINDOW + 1, step):
        likely[count] = place  # overwritten by the next one unless it is likely
        count += np.uint64(may_have(coarse, shift, _hash(normal, np.uint64(place))))
    best, best_begin, best_size = -1, 0, 0
    for place in likely[:count]:
        value = _hash(normal, np.uint64(place))
        key = find(keys, begins, value) if may_have(fine, fine_shift, value) else -1
        if key < 0:
            continue
        for entry in range(firsts[key], firsts[key + 1]):
            text = texts[entry]
            begin, size = place - offsets[entry], bounds[text + 1] - bounds[text]
            if size > best_size and _equal(normal, begin, joined, bounds[text], size):
                best, best_begin, best_size = text, begin, size
    return best, best_begin, best_size


@njit(cache=True, nogil=True)
def _hash(text: NDArray[np.uint8], place: np.uint64) -> np.uint64:
    """Of the 24 bytes from `place`: its high bits depend on all of them."""
    value = word_at(text, place) * _FACTORS[0]
    value += (word_at(text, place + np.uint64(8)) ^ (value >> np.uint64(32))) * _FACTORS[1]
    value += (word_at(text, place + np.uint64(16)) ^ (value >> np.uint64(32))) * _FACTORS[2]
    return value ^ (value >> np.uint64(32))


@njit(cache=True, nogil=True)
def _equal(one: NDArray[np.uint8], begin: int, other: NDArray[np.uint8], start: int, size: int) -> bool:
    if begin < 0 or begin + size > len(one):
        return False
    for place in range(size):  # noqa: SIM110 numba has no generators here
        if one[begin + place] != other[start + place]:
            return False
    return True
