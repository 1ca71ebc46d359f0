"""A sorted set of hashes that is asked about every byte or token of a corpus: nearly always the answer is no.

Two bits in a bitmap answer that, first in a coarse one, which the cache next to the processor holds, then in a fine
one, which is larger. What passes both is looked up in the sorted hashes, by its high bits first.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_FINER = 8
_BUCKETS, _HIGH = 1 << 18, np.uint64(64 - 18)
_SPREAD = np.uint64(0xE4B06CE60741C7A9)  # odd: a product's high bits depend on all bits


class KnownHashes(NamedTuple):
    """What `find` looks up; the entries of hash h are firsts[h] to firsts[h + 1] of whatever is sorted with them."""

    coarse: NDArray[np.uint64]  # a power of two of words, and at least 4 bits a hash
    fine: NDArray[np.uint64]  # so much larger that about one hash in two hundred passes that is not among the keys
    begins: NDArray[np.int32]  # (2**18 + 1,) where the hashes with each 18 high bits begin
    keys: NDArray[np.uint64]  # (H,) sorted
    firsts: NDArray[np.int32]  # (H + 1,)


def index(ordered: NDArray[np.uint64]) -> KnownHashes:
    """The distinct values of a sorted array."""
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    firsts = np.append(np.flatnonzero(is_first), len(ordered)).astype(np.int32)
    keys = ordered[is_first]
    words = 1 << 10
    while words * 16 < len(keys):
        words *= 2
    begins = _begins(keys)
    return KnownHashes(_bitmap(keys, words), _bitmap(keys, _FINER * words), begins, keys, firsts)


@njit(cache=True, nogil=True)
def _begins(keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    begins, place = np.empty(_BUCKETS + 1, np.int32), 0
    for bucket in range(_BUCKETS + 1):
        while place < len(keys) and np.int64(keys[place] >> _HIGH) < bucket:
            place += 1
        begins[bucket] = place
    return begins


@njit(cache=True, nogil=True)
def _bitmap(keys: NDArray[np.uint64], words: int) -> NDArray[np.uint64]:
    """A Bloom filter of two bits a hash, both in one word, so that a look costs one access to memory."""
    bits = np.zeros(words, np.uint64)
    for key in keys:
        spread = key * _SPREAD
        bits[spread >> shift_of(words)] |= _two_bits(spread)
    return bits


@njit(cache=True, nogil=True)
def shift_of(words: int) -> np.uint64:
    """How far a hash is shifted to number one of `words` words."""
    shift = 64
    while words > 1:
        words //= 2
        shift -= 1
    return np.uint64(shift)


@njit(cache=True, nogil=True)
def may_have(bits: NDArray[np.uint64], shift: np.uint64, value: np.uint64) -> bool:
    """False for nearly all values that are not among the hashes; `shift` is the one of len(bits)."""
    spread = value * _SPREAD
    marks = _two_bits(spread)
    return bool(bits[spread >> shift] & marks == marks)


@njit(cache=True, nogil=True)
def those_of(values: NDArray[np.uint64], bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The values that may be among the hashes of a bitmap."""
    passed, count, shift = np.empty(len(values) + 1, np.uint64), np.uint64(0), shift_of(len(bits))
    for value in values:
        passed[count] = value  # overwritten by the next one unless it passes: no branch
        count += np.uint64(may_have(bits, shift, value))
    return passed[:count]


@njit(cache=True, nogil=True)
def find(keys: NDArray[np.uint64], begins: NDArray[np.int32], value: np.uint64) -> int:
    """Place of `value` among the sorted keys, or -1."""
    high_bits = value >> _HIGH
    low, high = begins[high_bits], begins[high_bits + np.uint64(1)]
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low if low < len(keys) and keys[low] == value else -1


@njit(cache=True, nogil=True)
def _two_bits(spread: np.uint64) -> np.uint64:
    one = np.uint64(1)
    return (one << ((spread >> np.uint64(20)) & np.uint64(63))) | (one << ((spread >> np.uint64(26)) & np.uint64(63)))
