"""Lexer-free code tokens, their shingles and winnowed fingerprints: one definition for duplicates and provenance.

A code token is a run of `[A-Za-z0-9_]` and bytes >= 128, or one punctuation byte; whitespace is nothing. So the
tokens of a text do not change with its indentation, line ends or spacing, in any language, without a lexer.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

TOKEN = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[!-/:-@\[-^`{-~]")  # the same tokens one by one, where few are wanted

SPACE, WORD, PUNCTUATION = 0, 1, 2  # what a byte is to a code token: nothing, part of a word, one by itself
BASE = np.uint64(0x9E3779B97F4A7C15 | 1)  # odd, hence invertible modulo 2**64
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))


def _byte_classes() -> NDArray[np.uint8]:
    classes = np.full(256, PUNCTUATION, np.uint8)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum() or byte == ord("_"):
            classes[byte] = WORD
        elif byte <= 32 or byte == 127:
            classes[byte] = SPACE
    return classes


BYTE_CLASSES = _byte_classes()  # (256,)


@dataclass(frozen=True)
class CodeTokens:
    """The code tokens of one text of B bytes."""

    starts: NDArray[np.int64]  # (T,) byte offset of each token
    ends: NDArray[np.int64]  # (T,) byte offset after each token
    hashes: NDArray[np.uint64]  # (T,) equal tokens have equal hashes

    def __len__(self) -> int:
        return len(self.starts)


def code_tokens(content: bytes) -> CodeTokens:
    """Split `content` into code tokens and hash each."""
    data = np.frombuffer(content, np.uint8)
    classes = BYTE_CLASSES[data]
    in_word = classes == WORD
    before = np.concatenate(([False], in_word[:-1])) if len(data) else in_word
    after = np.concatenate((in_word[1:], [False])) if len(data) else in_word
    punctuation = classes == PUNCTUATION
    starts = np.flatnonzero((in_word & ~before) | punctuation)
    ends = np.flatnonzero((in_word & ~after) | punctuation) + 1
    return CodeTokens(starts, ends, _span_hashes(data.astype(np.uint64) + np.uint64(1), starts, ends))


def shingles(tokens: NDArray[np.uint64], k: int) -> NDArray[np.uint64]:
    """(max(T - k + 1, 0),) one 64-bit hash for every k consecutive tokens."""
    count = max(len(tokens) - k + 1, 0)
    first = np.arange(count, dtype=np.int64)
    return _span_hashes(tokens, first, first + k)


def winnow(hashes: NDArray[np.uint64], window: int) -> NDArray[np.int64]:
    """Positions of the minimum of every `window` consecutive hashes, the rightmost on ties, each once.

    Winnowing (Schleimer, Wilkerson, Aiken, SIGMOD 2003): two texts that share `window + k - 1` tokens share at
    least one selected shingle of k, because the choice depends on nothing outside the window. A text shorter than
    one window still gets its minimum.
    """
    if len(hashes) == 0:
        return np.zeros(0, np.int64)
    width = min(window, len(hashes))
    rows = sliding_window_view(hashes, width)[:, ::-1]
    return np.unique(np.arange(len(rows)) + width - 1 - rows.argmin(axis=1))


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser (Steele, Lea, Flood 2014): spreads a weak 64-bit hash evenly."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _span_hashes(values: NDArray[np.uint64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Polynomial hash of values[start:end] modulo 2**64 for every span, from one prefix sum.

    With H(i) = sum of values[j] * BASE**j below i, a span's hash is (H(end) - H(start)) * BASE**-start: it depends
    on the span alone. Equal hashes are a candidate, not a proof; users of it compare the text.
    """
    with np.errstate(over="ignore"):
        powers = _powers(BASE, len(values))
        prefix = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mix(values) * powers, dtype=np.uint64)))
        lengths = (ends - starts).astype(np.uint64)
        return mix((prefix[ends] - prefix[starts]) * _powers(INVERSE, len(values))[starts] + lengths)


def _powers(base: np.uint64, count: int) -> NDArray[np.uint64]:
    """(count,) base**0, base**1, ... modulo 2**64."""
    powers = np.full(max(count, 1), base, np.uint64)
    powers[0] = 1
    with np.errstate(over="ignore"):
        return np.multiply.accumulate(powers)[:count] if count else powers[:0]
