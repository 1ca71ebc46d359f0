"""A text becomes its set of five-word shingles, and the set a sketch in which equal values estimate Jaccard similarity.

Words are those of the paper (Lozhkov et al. 2024, section 3.1): runs of letters, digits and `_`, lower-cased; here
every byte of a non-ASCII character counts as a letter. In place of 250 permutations each value of the sketch comes
from Fast Similarity Sketching (Dahlgaard, Knudsen, Thorup, FOCS 2017, arXiv 1704.04370): as unbiased as MinHash and
at least as concentrated, for n + t log t hash values where MinHash computes n t.

Kernels are plain functions on arrays. Sums and products are modulo 2**64: numba would make a signed number of a
mixture, so every constant is a typed one.
"""

import hashlib

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

SHINGLE_WORDS = 5
BANDS, ROWS = 25, 10  # of the paper: 250 values, half of the pairs at 0.7 found

_STEP = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial over words, and between rounds
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # splitmix64
_EMPTY, _LOW = np.uint64(2**64 - 1), np.uint64(2**52 - 1)


def _letters() -> NDArray[np.uint64]:
    """(256,) a number for each byte of a word, the same for both cases of a letter; 0 for what stands between words."""
    table = np.zeros(256, np.uint64)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum() or byte == ord("_"):
            folded = byte | 0x20 if byte < 128 and chr(byte).isalpha() else byte
            table[byte] = int.from_bytes(hashlib.sha256(bytes((folded,))).digest()[:8], "little")
    return table


_LETTERS = _letters()


@njit(cache=True, nogil=True, inline="always")
def _mix(value: np.uint64) -> np.uint64:
    """The splitmix64 finaliser (Steele, Lea, Flood 2014)."""
    value = (value ^ (value >> uint64(30))) * _MIX_1
    value = (value ^ (value >> uint64(27))) * _MIX_2
    return value ^ (value >> uint64(31))


@njit(cache=True, nogil=True)
def word_shingles(data: NDArray[np.uint8], words: int) -> tuple[NDArray[np.uint64], int]:
    """(max(W - words + 1, 0),) a 64-bit hash of every `words` consecutive words of (B,) bytes, in order, and W.

    No branch depends on where a word ends: a wrong guess at every third byte would cost as much as all the rest. The
    hash of a word rotates and adds a random number for each letter (Cohen 1997), which takes fewer steps one after
    another than FNV's product; that of a shingle mixes what this leaves alike.
    """
    found = np.empty(len(data) // 2 + 1, np.uint64)  # first the hashes of the words, then over them the shingles
    count, value, inside = np.int64(0), uint64(0), uint64(0)
    for place in range(len(data)):
        letter = _LETTERS[data[place]]
        here = uint64(letter != uint64(0))
        found[count] = value
        count += np.int64(inside & (here ^ uint64(1)))
        value = ((value << uint64(5)) | (value >> uint64(59))) ^ letter if here else uint64(0)
        inside = here
    found[count] = value
    count += np.int64(inside)
    shingles = max(count - np.int64(words) + np.int64(1), np.int64(0))
    for place in range(shingles):
        total = uint64(0)
        for step in range(words):
            total = total * _STEP + found[place + step]
        found[place] = _mix(total)
    return found[:shingles], int(count)


@njit(cache=True, nogil=True)
def similarity_sketch(elements: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """(size,) values of the set of `elements` (repetitions change nothing); two sets agree in a share J of them.

    Round r < size throws every element into a random bin; round size + r throws all into bin r. A bin keeps the
    smallest (round, hash). The first round after which no bin is empty is the last, so a large set takes one or two.
    """
    values = np.full(size, _EMPTY, np.uint64)
    empty = size
    for turn in range(2 * size):
        base = uint64(turn) << uint64(52)  # the round goes before the hash
        salt = uint64(turn + 1) * _STEP
        for element in elements:
            drawn = _mix(element + salt)
            place = np.int64(turn - size)
            if turn < size:
                place = np.int64(((drawn >> uint64(32)) * uint64(size)) >> uint64(32))
            value = base | (drawn & _LOW)  # within a bin these bits are as random as any
            if value < values[place]:
                if values[place] == _EMPTY:
                    empty -= 1
                values[place] = value
        if empty == 0 or len(elements) == 0:
            break
    return values


@njit(cache=True, nogil=True)
def band_keys(sketch: NDArray[np.uint64], bands: int, rows: int) -> NDArray[np.uint64]:
    """(bands,) one hash for the `rows` values of each band, different for equal values of another band."""
    keys = np.empty(bands, np.uint64)
    for band in range(bands):
        key = uint64(band + 1) * _STEP
        for row in range(rows):
            key = _mix(key ^ sketch[band * rows + row])
        keys[band] = key
    return keys


@njit(cache=True, nogil=True)
def jaccard(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Jaccard similarity of two sorted sets without repetitions; 0.0 for two empty ones."""
    here, there, shared = 0, 0, 0
    while here < len(one) and there < len(other):
        first, second = one[here], other[there]
        here += first <= second
        there += second <= first
        shared += first == second
    union = len(one) + len(other) - shared
    return shared / union if union else 0.0


def shingle_set(content: bytes | memoryview, words: int = SHINGLE_WORDS) -> NDArray[np.uint32]:
    """Sorted distinct shingles of a text in UTF-8, 32 bits of each: half the memory, wrong once in 1e6 at a million."""
    elements, _ = word_shingles(np.frombuffer(content, np.uint8), words)
    values = (elements >> np.uint64(32)).astype(np.uint32)
    values.sort()  # faster than np.unique, which hashes first
    fresh = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    return values[fresh]


def keys_of(content: bytes, *, words: int, bands: int, rows: int) -> tuple[NDArray[np.uint64], int]:
    """(bands,) keys under which near-duplicates of a text meet, () for one of fewer than `words` words; its words."""
    keys, count = _keys(np.frombuffer(content, np.uint8), words, bands, rows)
    return keys, int(count)


def word_count(content: bytes) -> int:
    """Words of a text, as its shingles have them."""
    return int(word_shingles(np.frombuffer(content, np.uint8), 1)[1])


@njit(cache=True, nogil=True)
def _keys(data: NDArray[np.uint8], words: int, bands: int, rows: int) -> tuple[NDArray[np.uint64], int]:
    elements, count = word_shingles(data, words)
    if len(elements) == 0:
        return np.zeros(0, np.uint64), count
    return band_keys(similarity_sketch(elements, bands * rows), bands, rows), count
