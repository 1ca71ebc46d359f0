"""What is done to every byte and every word of a text, compiled: words, names of holders left out, shingles, counts.

Plain versions stand in tests/corpus/test_licenses.py.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

SHINGLE_WORDS = 5
LONGEST_TAG = 120  # bytes from < to >, beyond which it is no tag
_PRIME, _BASE, _FINAL = np.uint64(0x100000001B3), np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_OFFSET = np.uint64(0xCBF29CE484222325)


@njit(cache=True, nogil=True)
def _is_word(byte: np.uint8) -> bool:
    return bool((97 <= byte <= 122) or (48 <= byte <= 57) or byte >= 128)


@njit(cache=True, nogil=True)
def _separator(data: NDArray[np.uint8], at: int) -> int:
    """How many bytes at `at` are no part of a word: ASCII, the signs of Latin-1, dashes and quotes; 0 within a word."""
    byte = data[at]
    if not _is_word(byte):
        return 1
    if byte == 0xC2:
        return min(2, len(data) - at)
    if byte == 0xE2 and at + 1 < len(data) and data[at + 1] == 0x80:
        return min(3, len(data) - at)
    return 0


@njit(cache=True, nogil=True)
def _follows(data: NDArray[np.uint8], at: int, word: NDArray[np.uint8]) -> bool:
    if at + len(word) > len(data):
        return False
    for step in range(len(word)):  # noqa: SIM110
        if data[at + step] != word[step]:
            return False
    return True


@njit(cache=True, nogil=True)
def _names_holder(data: NDArray[np.uint8], at: int) -> bool:
    """Whether what follows the word copyright says whose it is: (c), a sign, a year, a place to fill in, by."""
    while at < len(data) and (data[at] == 32 or data[at] == 9 or data[at] == 58):  # a colon too
        at += 1
    if at + 2 >= len(data):
        return False
    byte = data[at]
    if byte == 40:  # (
        return bool(data[at + 1] == 99 and data[at + 2] == 41)
    if byte == 0xC2:
        return bool(data[at + 1] == 0xA9)
    if byte == 60 or byte == 91 or byte == 123:  # < [ {
        return True
    if byte == 98 and data[at + 1] == 121:  # by
        return not _is_word(data[at + 2])
    if at + 3 >= len(data):
        return False
    digits = True
    for step in range(4):
        digits = digits and 48 <= data[at + step] <= 57
    year = byte == 121 and data[at + 1] == 101 and data[at + 2] == 97 and data[at + 3] == 114
    return bool(digits or year)


@njit(cache=True, nogil=True)
def _holder_line(data: NDArray[np.uint8], at: int, portions: NDArray[np.uint8], holder: NDArray[np.uint8]) -> bool:
    """Whether the line that starts at `at` is one of a copyright holder, which differs in every copy."""
    while at < len(data) and data[at] != 10 and not _is_word(data[at]):
        if data[at] == 40 and _names_holder(data, at):  # (c) 2020 Somebody
            return True
        at += 1
    if at < len(data) and data[at] == 0xC2 and at + 1 < len(data) and data[at + 1] == 0xA9:
        return True
    if _follows(data, at, portions):
        at += len(portions)
    return _follows(data, at, holder) and _names_holder(data, at + len(holder))


@njit(cache=True, nogil=True)
def _tag_end(data: NDArray[np.uint8], at: int) -> int:
    """Where what starts with the < at `at` ends: a tag, an address, a place to fill in; `at` for none of them."""
    for end in range(at + 1, min(at + LONGEST_TAG, len(data))):
        if data[end] == 62:
            return end + 1
        if data[end] == 60:
            return at
    return at


@njit(cache=True, nogil=True)
def words(
    data: NDArray[np.uint8],
    same: NDArray[np.uint64],
    portions: NDArray[np.uint8],
    holder: NDArray[np.uint8],
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Hash and first byte of every word of at least two letters or digits in lower-case UTF-8.

    same      (S, 2) a word's hash, and that of the word that stands for it
    portions  the bytes of `portions `, and `holder` those of `copyright`: kernels take no strings
    """
    found, starts = np.empty(len(data) // 2 + 1, np.uint64), np.empty(len(data) // 2 + 1, np.int32)
    count, at, line = 0, 0, True
    while at < len(data):
        if line and _holder_line(data, at, portions, holder):
            while at < len(data) and data[at] != 10:
                at += 1
            line = False
            continue
        line = False
        skipped = _separator(data, at)
        if skipped:
            line = data[at] == 10
            at = max(at + skipped, _tag_end(data, at) if data[at] == 60 else 0)
            continue
        start, value = at, _OFFSET
        while at < len(data) and not _separator(data, at):
            value = (value ^ np.uint64(data[at])) * _PRIME
            at += 1
        if at - start >= 2:
            for row in range(len(same)):
                if same[row, 0] == value:
                    value = same[row, 1]
                    break
            found[count], starts[count] = value, start
            count += 1
    return found[:count], starts[:count]


@njit(cache=True, nogil=True)
def _equal(values: NDArray[np.uint64], at: int, wanted: NDArray[np.uint64], length: int) -> bool:
    if at < 0 or at + length > len(values):
        return False
    for step in range(length):  # noqa: SIM110
        if values[at + step] != wanted[step]:
            return False
    return True


@njit(cache=True, nogil=True)
def _next(values: NDArray[np.uint64], at: int, wanted: NDArray[np.uint64], shape: NDArray[np.int64]) -> int:
    """Where the words after a holder's name stand, -1 when they are not near."""
    for end in range(at, min(at + shape[2] + 1, len(values))):
        if _equal(values, end, wanted, shape[1]):
            return end
    return -1


@njit(cache=True, nogil=True)
def without_holders(
    values: NDArray[np.uint64], before: NDArray[np.uint64], after: NDArray[np.uint64], shape: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The words, and which they were, without those between what stands before and after a holder's name.

    before, after  (P, W) words of each pattern, filled up with zeros
    shape          (P, 3) words before, words after, the most words between
    """
    found, which = np.empty(len(values), np.uint64), np.empty(len(values), np.int32)
    count, at = 0, 0
    while at < len(values):
        found[count], which[count] = values[at], at
        count += 1
        at += 1
        for row in range(len(shape)):
            length = shape[row, 0]
            if found[count - 1] == before[row, length - 1] and _equal(
                found[:count], count - length, before[row], length
            ):
                end = _next(values, at, after[row], shape[row])
                if end >= 0:
                    at = end
                    break
    return found[:count], which[:count]


@njit(cache=True, nogil=True)
def shingles(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(max(W - 4, 0),) a hash for every five consecutive words, never 0."""
    found = np.empty(max(len(values) - SHINGLE_WORDS + 1, 0), np.uint64)
    for at in range(len(found)):
        value = np.uint64(0)
        for step in range(SHINGLE_WORDS):
            value = (value + values[at + step]) * _BASE
        value = (value ^ (value >> np.uint64(32))) * _FINAL
        found[at] = (value ^ (value >> np.uint64(29))) | np.uint64(1)
    return found


@njit(cache=True, nogil=True)
def index(values: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    """The K distinct values in the order in which they come, an open hash table of their numbers, each one's number."""
    size = 4
    while size < 2 * len(values):
        size *= 2
    table, mask = np.full(size, -1, np.int32), np.uint64(size - 1)
    keys, numbers = np.empty(len(values), np.uint64), np.empty(len(values), np.int32)
    count = 0
    for at in range(len(values)):
        place = (values[at] >> np.uint64(1)) & mask
        while table[place] >= 0 and keys[table[place]] != values[at]:
            place = (place + np.uint64(1)) & mask
        if table[place] < 0:
            table[place] = count
            keys[count] = values[at]
            count += 1
        numbers[at] = table[place]
    return keys[:count].copy(), table, numbers


@njit(cache=True, nogil=True)
def owners(
    numbers: NDArray[np.int32], sizes: NDArray[np.int64], keys: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Starts (K + 1,) and owners: key k is in the sets owners[starts[k]:starts[k + 1]], `sizes` cutting `numbers`."""
    starts, found = np.zeros(keys + 1, np.int64), np.empty(len(numbers), np.int32)
    for number in numbers:
        starts[number + 1] += 1
    starts = np.cumsum(starts)
    next_place = starts[:-1].copy()
    at = 0
    for owner in range(len(sizes)):
        for number in numbers[at : at + sizes[owner]]:
            found[next_place[number]] = owner
            next_place[number] += 1
        at += sizes[owner]
    return starts, found


@njit(cache=True, nogil=True)
def find(own: NDArray[np.uint64], keys: NDArray[np.uint64], table: NDArray[np.int32]) -> NDArray[np.int32]:
    """(S,) the number of each shingle among the keys, or -1."""
    numbers = np.full(len(own), -1, np.int32)
    mask = np.uint64(len(table) - 1)
    for at in range(len(own)):
        place = (own[at] >> np.uint64(1)) & mask
        while table[place] >= 0:
            if keys[table[place]] == own[at]:
                numbers[at] = table[place]
                break
            place = (place + np.uint64(1)) & mask
    return numbers


@njit(cache=True, nogil=True)
def count(
    ordered: NDArray[np.int32], starts: NDArray[np.int64], owners: NDArray[np.int32], licenses: int
) -> NDArray[np.int64]:
    """(L,) how many distinct shingles of each licence are among the numbers in rising order."""
    matched = np.zeros(licenses, np.int64)
    for at in range(len(ordered)):
        if ordered[at] >= 0 and (at == 0 or ordered[at] != ordered[at - 1]):
            for place in range(starts[ordered[at]], starts[ordered[at] + 1]):
                matched[owners[place]] += 1
    return matched
