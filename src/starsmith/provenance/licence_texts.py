"""Is a stretch of text the wording of a licence? The words of SPDX's licence texts, as a shipped set of fingerprints.

A licence stands in many files, in comments of every style, and says nothing about where code comes from. So only its
words count, in lower case: comment marks, quotes and line breaks are nothing. `tools/make_licence_fingerprints.py`
makes the set from the texts that the corpus package ships.

Shapes: T code tokens, W words.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.core.hashing import BYTE_CLASSES, WORD
from starsmith.core.winnowing import mixed

DATA = "data/licence_fingerprints.npy"
SHINGLE_WORDS = 8  # two licences share as many, other texts hardly ever
WINDOW = 4  # shingles of which one is stored: all of 11 words in a row are found

_CLASSES = BYTE_CLASSES.copy()
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Wording(NamedTuple):
    """What the words of a stretch say."""

    share: float  # of its words that are a licence's wording
    longest_rest: int  # code tokens in a row that are not
    distinct: int  # different words that say something, as far as they were counted


class Known(NamedTuple):
    """A set of fingerprints."""

    fingerprints: NDArray[np.uint32]  # ascending
    begins: NDArray[np.int32]  # (65537,) where those with each upper half begin


@cache
def shipped() -> Known:
    """The shipped set."""
    with resources.files("starsmith.provenance").joinpath(DATA).open("rb") as file:
        fingerprints: NDArray[np.uint32] = np.load(file, allow_pickle=False)
    begins = np.searchsorted(fingerprints >> np.uint32(16), np.arange((1 << 16) + 1)).astype(np.int32)
    return Known(fingerprints, begins)


@njit(cache=True, nogil=True)
def shingles_of(content: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint32]:
    """(max(W - 7, 0),) hashes of eight words each."""
    hashes, count = np.empty(len(starts), np.uint64), 0
    for token in range(len(starts)):
        if _CLASSES[content[starts[token]]] == WORD:
            hashes[count] = _word_hash(content, starts[token], ends[token])
            count += 1
    shingles = np.empty(max(count - SHINGLE_WORDS + 1, 0), np.uint32)
    for first in range(len(shingles)):
        shingles[first] = _shingle(hashes, first)
    return shingles


@njit(cache=True, nogil=True)
def _word_hash(content: NDArray[np.uint8], start: int, end: int) -> np.uint64:
    """Of a word, whatever the case of its letters."""
    value = np.uint64(end - start)
    for place in range(start, end):
        byte = content[place]
        value = (value ^ np.uint64(byte + 32 if 65 <= byte <= 90 else byte)) * _FACTOR
    return mixed(value)


@njit(cache=True, nogil=True)
def _shingle(hashes: NDArray[np.uint64], first: int) -> np.uint32:
    value = np.uint64(0)
    for word in range(first, first + SHINGLE_WORDS):
        value = value * _FACTOR + hashes[word]
    return np.uint32(mixed(value) >> np.uint64(32))


@njit(cache=True, nogil=True)
def wording(
    content: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    known: Known,
    most_distinct: int,
    most_rest: int,
) -> Wording:
    """Compare the tokens of a stretch with the set, and count its different words up to `most_distinct`.

    It is no longer read than until `most_rest` tokens in a row are no wording: then it is none, and its share is 0.
    """
    hashes, words = np.empty(len(starts), np.uint64), np.empty(len(starts), np.int64)
    seen, distinct = np.empty(most_distinct + 1, np.uint64), 0
    count, covered, reached, longest, word = 0, 0, -1, 0, 0  # reached: the last token that is wording
    for token in range(len(starts)):
        if _CLASSES[content[starts[token]]] != WORD:
            continue
        hashes[count], words[count] = _word_hash(content, starts[token], ends[token]), token
        if distinct < most_distinct and _says_something(content, starts[token], ends[token]):
            distinct = _add(seen, distinct, hashes[count])
        count += 1
        first = count - SHINGLE_WORDS
        if first < 0:
            continue
        if _has(known, _shingle(hashes, first)):
            covered += count - max(first, word)
            word = count
            longest = max(longest, words[first] - reached - 1)
            reached = token
        elif words[first] - reached > most_rest and distinct == most_distinct:
            return Wording(0.0, most_rest, distinct)
    longest = max(longest, len(starts) - reached - 1)
    return Wording(covered / max(count, 1), longest, distinct)


@njit(cache=True, nogil=True)
def _add(seen: NDArray[np.uint64], count: int, value: np.uint64) -> int:
    """Put a value among the first `count` unless it is there; how many there are then."""
    seen[count] = value
    same = 0
    while seen[same] != value:
        same += 1
    return max(count, same + 1)


@njit(cache=True, nogil=True)
def _says_something(content: NDArray[np.uint8], start: int, end: int) -> bool:
    """Not a number, a single letter (of an alphabet in a table), nor signs: U+0080-00BF, U+2000-2BFF, U+1F000-1FFFF."""
    first, second = content[start], content[start + 1] if end - start > 1 else 0
    if 48 <= first <= 57 or end - start < 2 or first == 0xC2:
        return False
    return not ((first == 0xE2 and second < 0xB0) or (first == 0xF0 and second == 0x9F))


@njit(cache=True, nogil=True)
def _has(known: Known, shingle: np.uint32) -> bool:
    half = shingle >> np.uint32(16)
    for at in range(known.begins[half], known.begins[half + 1]):  # noqa: SIM110 numba has no generators here
        if known.fingerprints[at] == shingle:
            return True
    return False
