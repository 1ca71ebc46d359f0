"""Fingerprints of a text are looked up in an index, and each place found is compared with the text, token by token.

All in compiled code, on the mapped arrays: what it costs is the pages it touches. Two kinds of things come out.

alignments  query tokens [start, end) that are equal, one by one, to the tokens of a document from byte `place` to byte
            `last`, and cannot be made longer; each once, whatever number of fingerprints lies in it
grams       fingerprints in more than `max_places` places, of the corpus or of the query, of which a few are compared
            over their k tokens only: repetitive text would otherwise be compared with itself at every shift

Shapes: T code tokens and F fingerprints of the query, N entries of the index, D documents.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.core.hashing import BYTE_CLASSES, SPACE, WORD

_CLASSES = BYTE_CLASSES.copy()
_LOW_32 = np.uint64(0xFFFFFFFF)

# Columns of an alignment, and of a gram.
START, END, PLACE, LAST, DOCUMENT, FEWEST = range(6)
TOKEN, COUNT, SAMPLES = range(3)  # then (place, last) of each sample, -1 where fewer are equal


class Query(NamedTuple):
    """The text that is asked about."""

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]  # (T,)
    ends: NDArray[np.int64]  # (T,)
    chosen: NDArray[np.int64]  # (F,) the token at which each fingerprint begins
    hashes: NDArray[np.uint64]  # (F,)


class Index(NamedTuple):
    """The arrays of `provenance.fingerprints`."""

    directory: NDArray[np.uint64]
    remainders: NDArray[np.uint32]  # (N,)
    positions: NDArray[np.uint8]  # (N, bytes of a place)
    common: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]  # (D + 1,)
    removed: NDArray[np.bool_]  # (D,) documents that are withdrawn
    k: int
    window: int
    max_places: int
    samples: int  # places kept of a common fingerprint


@njit(cache=True, nogil=True)
def find(query: Query, index: Index) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(alignments, grams), a row for each; alignments in the order of their places, grams in that of the query."""
    firsts, totals = np.empty(len(query.hashes), np.int64), np.zeros(len(query.hashes), np.int64)
    is_gram = np.zeros(len(query.hashes), np.bool_)
    candidates, frequent, looked = 0, 0, 0
    if len(query.hashes) > index.max_places:
        _find_repeated(query.hashes, index.max_places, is_gram)
    for number in range(len(query.hashes)):
        if is_gram[number] and _is_next_near(query, number, looked + index.window):
            continue
        firsts[number], _, totals[number] = _look_up(query.hashes[number], index)
        looked = query.chosen[number]
        is_gram[number] |= totals[number] > index.max_places
        if is_gram[number]:
            frequent += int(totals[number] > 0)
        else:
            candidates += totals[number]
    grams = np.empty((frequent, SAMPLES + 2 * index.samples), np.int64)
    tokens, places = np.empty(candidates, np.int64), np.empty(candidates, np.int64)
    fewest = np.empty(candidates, np.int64)
    candidates, frequent = 0, 0
    for number in range(len(query.hashes)):
        token, first, total = query.chosen[number], firsts[number], totals[number]
        if total and is_gram[number]:
            frequent += _compare_common(query, index, token, total, first, grams[frequent])
        elif total:
            for entry in range(first, first + total):
                place = _place(index.positions, entry)
                if place < len(index.text):  # else the index is damaged
                    tokens[candidates], places[candidates], fewest[candidates] = token, place, total
                    candidates += 1
    order = np.argsort(places[:candidates], kind="mergesort")
    return _align(query, index, tokens[order], places[order], fewest[order]), grams[:frequent]


@njit(cache=True, nogil=True)
def _find_repeated(hashes: NDArray[np.uint64], most: int, repeated: NDArray[np.bool_]) -> None:
    """Mark what has come `most` times before."""
    order = np.argsort(hashes, kind="mergesort")
    for number in range(most, len(order)):
        repeated[order[number]] = hashes[order[number]] == hashes[order[number - most]]


@njit(cache=True, nogil=True)
def _is_next_near(query: Query, number: int, reach: int) -> bool:
    """Whether the next fingerprint is the same and begins at token `reach` or before: it covers as much."""
    following = number + 1
    return (
        following < len(query.hashes)
        and query.hashes[following] == query.hashes[number]
        and query.chosen[following] <= reach
    )


@njit(cache=True, nogil=True)
def _look_up(value: np.uint64, index: Index) -> tuple[int, int, int]:
    """The entries [first, last) of a fingerprint, and how many places it has in the corpus."""
    bits = np.uint64(0)
    while (1 << bits) < len(index.directory) - 1:
        bits += np.uint64(1)
    key = value >> (np.uint64(32) - bits)
    bucket, remainder = np.int64(value >> (np.uint64(64) - bits)), np.uint32(key & _LOW_32)
    first, end = int(index.directory[bucket]), int(index.directory[bucket + 1])
    while first < end and index.remainders[first] < remainder:
        first += 1
    last = first
    while last < end and index.remainders[last] == remainder:
        last += 1
    if last - first == index.samples:
        at = np.searchsorted(index.common, key)
        if at < len(index.common) and index.common[at] == key:
            return first, last, int(index.counts[at])
    return first, last, last - first


@njit(cache=True, nogil=True)
def _place(positions: NDArray[np.uint8], entry: int) -> int:
    value = 0
    for byte in range(positions.shape[1]):
        value |= int(positions[entry, byte]) << (8 * byte)
    return value


@njit(cache=True, nogil=True)
def _compare_common(query: Query, index: Index, token: int, total: int, first: int, row: NDArray[np.int64]) -> int:
    """Fill the row of a gram; returns 1, or 0 when no place that is kept is equal."""
    row[TOKEN], row[COUNT] = token, total
    row[SAMPLES:] = -1
    equal = 0
    for entry in range(first, first + min(index.samples, total)):
        place = _place(index.positions, entry)
        if place >= len(index.text):  # the index is damaged
            continue
        document = _document(index.offsets, place)
        end, last = _forward(query, index, token, place, index.offsets[document + 1], token + index.k)
        if end == token + index.k:
            if not index.removed[document]:
                row[SAMPLES + 2 * equal], row[SAMPLES + 2 * equal + 1] = place, last
            equal += 1
    return 1 if equal else 0


@njit(cache=True, nogil=True)
def _align(
    query: Query, index: Index, tokens: NDArray[np.int64], places: NDArray[np.int64], fewest: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Extend each candidate, in the order of places, that no alignment before it goes through."""
    rows = np.empty((len(tokens), 6), np.int64)
    done = np.zeros(len(tokens), np.bool_)
    count = 0
    for number in range(len(tokens)):
        if done[number]:
            continue
        token, place = tokens[number], places[number]
        document = _document(index.offsets, place)
        if index.removed[document]:
            continue
        row = rows[count]
        end, last = _forward(query, index, token, place, index.offsets[document + 1], len(query.starts))
        if end - token < index.k:
            continue  # another text with the same hash
        row[START], row[PLACE] = _backward(query, index, token, place, index.offsets[document])
        row[END], row[LAST], row[DOCUMENT] = end, last, document
        row[FEWEST] = _mark(query, index, number, end, last, tokens, places, fewest, done)
        count += 1
    return rows[:count].copy()


@njit(cache=True, nogil=True)
def _mark(
    query: Query,
    index: Index,
    number: int,
    end: int,
    last: int,
    tokens: NDArray[np.int64],
    places: NDArray[np.int64],
    fewest: NDArray[np.int64],
    done: NDArray[np.bool_],
) -> int:
    """Mark the candidates that the alignment from `number` on goes through; the places of the rarest of them."""
    least, place, ahead = int(fewest[number]), int(places[number]), number + 1
    for token in range(tokens[number], end):
        if token > tokens[number]:
            while _CLASSES[index.text[place]] == SPACE:
                place += 1
        while ahead < len(places) and places[ahead] < place:
            ahead += 1
        at = ahead
        while at < len(places) and places[at] == place:
            if tokens[at] == token:
                done[at] = True
                least = min(least, int(fewest[at]))
            at += 1
        if ahead == len(places) or places[ahead] >= last:
            break
        place += query.ends[token] - query.starts[token]
    return least


@njit(cache=True, nogil=True)
def _document(offsets: NDArray[np.int64], place: int) -> int:
    return int(np.searchsorted(offsets, place, side="right")) - 1


@njit(cache=True, nogil=True)
def _forward(query: Query, index: Index, token: int, place: int, high: int, stop: int) -> tuple[int, int]:
    """(the first token from `token` on, below `stop`, that is unequal; the byte after the last equal one)."""
    content, text = query.content, index.text
    last = place
    while token < stop:
        while place < high and _CLASSES[text[place]] == SPACE:
            place += 1
        start, size = query.starts[token], query.ends[token] - query.starts[token]
        if place + size > high:
            break
        same = 0
        while same < size and content[start + same] == text[place + same]:
            same += 1
        if same < size:
            break
        place += size
        if _CLASSES[content[start]] == WORD and place < high and _CLASSES[text[place]] == WORD:
            break  # a longer word
        token, last = token + 1, place
    return token, last


@njit(cache=True, nogil=True)
def _backward(query: Query, index: Index, token: int, place: int, low: int) -> tuple[int, int]:
    """(the first token, and its place, from which on all are equal up to `token`, which begins at `place`)."""
    content, text = query.content, index.text
    first = place
    while token:
        while place > low and _CLASSES[text[place - 1]] == SPACE:
            place -= 1
        start, size = query.starts[token - 1], query.ends[token - 1] - query.starts[token - 1]
        if place - size < low:
            break
        place -= size
        same = size
        while same and content[start + same - 1] == text[place + same - 1]:
            same -= 1
        if same:
            break
        if _CLASSES[content[start]] == WORD and place > low and _CLASSES[text[place - 1]] == WORD:
            break
        token, first = token - 1, place
    return token, first


@njit(cache=True, nogil=True)
def lines_of(text: NDArray[np.uint8], low: int, first: int, last: int) -> tuple[int, int]:
    """Numbers, from 1, of the lines that hold bytes [first, last) of the document that begins at byte `low`."""
    before, within = 0, 0
    for place in range(low, first):
        before += int(text[place] == 10)
    for place in range(first, last):
        within += int(text[place] == 10)
    return before + 1, before + within + 1


@njit(cache=True, nogil=True)
def joined(query: Query, index: Index, grams: NDArray[np.int64]) -> NDArray[np.int64]:
    """(R, 4) runs of grams that follow each other within a window: start, end, places of the rarest, its number.

    Within a window, because that is how far apart those of one copy can be. The ends of a run are moved outwards as
    far as one of the places kept is equal.
    """
    runs = np.empty((len(grams), 4), np.int64)
    count, number = 0, 0
    while number < len(grams):
        run, before = runs[count], number
        run[0], run[2], run[3] = grams[number, TOKEN], grams[number, COUNT], number
        while number + 1 < len(grams) and grams[number + 1, TOKEN] - grams[number, TOKEN] <= index.window:
            number += 1
            if grams[number, COUNT] < run[2]:
                run[2], run[3] = grams[number, COUNT], number
        run[1] = grams[number, TOKEN] + index.k
        for sample in grams[number, SAMPLES::2]:
            if sample >= 0:
                high = index.offsets[_document(index.offsets, sample) + 1]
                reached, _ = _forward(query, index, grams[number, TOKEN], sample, high, len(query.starts))
                run[1] = max(run[1], reached)
        for sample in grams[before, SAMPLES::2]:
            if sample >= 0:
                low = index.offsets[_document(index.offsets, sample)]
                reached, _ = _backward(query, index, grams[before, TOKEN], sample, low)
                run[0] = min(run[0], reached)
        count, number = count + 1, number + 1
    return runs[:count].copy()
