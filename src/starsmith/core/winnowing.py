"""Winnowed fingerprints of many texts in one pass: what `core.hashing` defines, at the speed of a whole corpus.

`code_tokens`, `shingles` and `winnow` of `core.hashing` give the same in NumPy, array by array, and take thirty times
as long; a test holds the two equal. Here each byte is looked at once: tokens, shingles and the window's minimum roll.

Shapes: B bytes, T code tokens, F fingerprints.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.core.hashing import BASE, BYTE_CLASSES, INVERSE, SPACE, WORD, mix

_BYTES = mix(np.arange(1, 257, dtype=np.uint64))  # (256,) of each byte, as `code_tokens` mixes it
_CLASSES = BYTE_CLASSES.copy()
_B, _I = np.uint64(BASE), np.uint64(INVERSE)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


class Scan(NamedTuple):
    """A text as tokens, and its fingerprints."""

    starts: NDArray[np.int64]  # (T,) byte offset of each token
    ends: NDArray[np.int64]  # (T,) byte offset after each token
    chosen: NDArray[np.int64]  # (F,) the token at which each fingerprint begins, ascending
    hashes: NDArray[np.uint64]  # (F,)


def scan(content: bytes, k: int, window: int) -> Scan:
    """Tokens and winnowed fingerprints of one text."""
    data = np.frombuffer(content, np.uint8)
    starts, ends = np.empty(len(data), np.int64), np.empty(len(data), np.int64)
    chosen, hashes = np.empty(len(data), np.int64), np.empty(len(data), np.uint64)
    tokens, count = _scan(data, 0, len(data), k, window, starts, ends, chosen, hashes, 0)
    return Scan(starts[:tokens], ends[:tokens], chosen[:count], hashes[:count])


def fingerprints(
    data: NDArray[np.uint8], bounds: NDArray[np.int64], k: int, window: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(F,) fingerprints of the texts data[bounds[i]:bounds[i + 1]] and the bytes of `data` at which they begin."""
    size = int(bounds[-1] - bounds[0]) if len(bounds) else 0
    hashes, places = np.empty(size, np.uint64), np.empty(size, np.int64)
    longest = int(np.diff(bounds).max(initial=0))
    count = _fingerprints(
        data, bounds, k, window, np.empty(longest, np.int64), np.empty(longest, np.int64), hashes, places
    )
    return hashes[:count].copy(), places[:count].copy()


@njit(cache=True, nogil=True)
def _fingerprints(
    data: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    k: int,
    window: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    places: NDArray[np.int64],
) -> int:
    count = 0
    for number in range(len(bounds) - 1):
        before = count
        _, count = _scan(data, bounds[number], bounds[number + 1], k, window, starts, ends, places, hashes, count)
        for entry in range(before, count):
            places[entry] = starts[places[entry]]
    return count


@njit(cache=True, nogil=True)
def mixed(value: np.uint64) -> np.uint64:
    """`core.hashing.mix` of one value."""
    value = (value ^ (value >> _S30)) * _M1
    value = (value ^ (value >> _S27)) * _M2
    return value ^ (value >> _S31)


@njit(cache=True, nogil=True)
def _read_token(data: NDArray[np.uint8], place: int, high: int) -> tuple[int, np.uint64]:
    """The byte after the token that begins at `place`, and its hash as a shingle takes it in."""
    start, value = place, _BYTES[data[place]]
    place += 1
    if _CLASSES[data[start]] == WORD:
        factor = _B
        while place < high and _CLASSES[data[place]] == WORD:
            value += _BYTES[data[place]] * factor
            factor *= _B
            place += 1
    return place, mixed(mixed(value + np.uint64(place - start)))


@njit(cache=True, nogil=True)
def _least(recent: NDArray[np.uint64], mask: int, current: int, window: int) -> int:
    """The shingle with the least hash among the last `window`, the rightmost on ties."""
    least = current
    for back in range(current - 1, current - window, -1):
        if recent[back & mask] < recent[least & mask]:
            least = back
    return least


@njit(cache=True, nogil=True)
def _scan(
    data: NDArray[np.uint8],
    low: int,
    high: int,
    k: int,
    window: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    chosen: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    count: int,
) -> tuple[int, int]:
    """Fill the arrays for data[low:high], fingerprints from entry `count` on; (tokens, entries used so far)."""
    inside = np.empty(k, np.uint64)  # ring: the mixed hashes of the last k tokens
    mask = 1
    while mask < window:
        mask *= 2
    recent = np.empty(mask, np.uint64)  # ring: the last shingles, `window` at least; a power of two spares divisions
    mask -= 1
    highest = np.uint64(1)
    for _ in range(k - 1):
        highest *= _B
    rolled, power = np.uint64(0), np.uint64(1)
    tokens, slot, shingles, least, told = 0, 0, 0, -1, -1
    place = low
    while place < high:
        if _CLASSES[data[place]] == SPACE:
            place += 1
            continue
        starts[tokens] = place
        place, value = _read_token(data, place, high)
        ends[tokens] = place
        tokens += 1
        if tokens <= k:
            rolled += value * power
            power *= _B
        else:
            rolled = (rolled - inside[slot]) * _I + value * highest
        inside[slot] = value
        slot = slot + 1 if slot + 1 < k else 0
        if tokens < k:
            continue
        shingle = mixed(rolled + np.uint64(k))
        current = shingles
        recent[current & mask] = shingle
        shingles += 1
        if 0 <= least <= current - window:  # out of the window
            least = _least(recent, mask, current, window)
        elif least < 0 or shingle <= recent[least & mask]:
            least = current  # the rightmost on ties
        if current >= window - 1 and least != told:
            chosen[count], hashes[count] = least, recent[least & mask]
            count += 1
            told = least
    if 0 < shingles < window:
        chosen[count], hashes[count] = least, recent[least & mask]
        count += 1
    return tokens, count
