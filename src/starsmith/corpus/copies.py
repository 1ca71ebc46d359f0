"""How much of a file is copied from another: the share of its code tokens that lie in equal stretches of both.

A stretch has at least `MATCH_TOKENS` code tokens, so white space and line ends change nothing, and idioms of a line are
no copies. Hashes find the stretches; what reaches the threshold is compared on the text before it counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from starsmith.core.winnowing import Scan, scan
from starsmith.corpus import encoding

MATCH_TOKENS = 24
_TABLE = 2**20  # entries of a first look, of which a few thousand stretches fill one in a hundred


@dataclass(frozen=True)
class Original:
    """A file whose copies are looked for."""

    content: bytes = field(repr=False)
    threshold: float  # share of another file from which it is a copy

    def __reduce__(self) -> tuple[type["Original"], tuple[bytes, float]]:
        return Original, (self.content, self.threshold)  # without what was found out about it

    @cached_property
    def tokens(self) -> list[bytes]:
        """Its code tokens."""
        text = _as_utf8(self.content)
        return _words(text, _scan(text))

    @cached_property
    def stretches(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of its distinct stretches of MATCH_TOKENS, ascending, and the token at which each begins first."""
        return np.unique(_scan(_as_utf8(self.content)).hashes, return_index=True)

    def share_of(self, content: bytes) -> float:
        """The share of the code tokens of `content` that are copied from this file; 0 below the threshold."""
        text = _as_utf8(content)
        return self.share_of_scan(text, _scan(text))

    def share_of_scan(self, text: bytes, found: Scan) -> float:
        """The same, of a text whose tokens are known."""
        count = len(found.starts)
        if count < MATCH_TOKENS:
            return float(count > 0 and _words(text, found) == self.tokens)
        starts, places = self._meetings(found.hashes)
        if (share := _covered(starts, count)) < self.threshold:
            return 0.0
        words, own = _words(text, found), self.tokens
        equal = [
            words[start : start + MATCH_TOKENS] == own[place : place + MATCH_TOKENS]
            for start, place in zip(starts.tolist(), places.tolist(), strict=True)
        ]
        share = _covered(starts[np.array(equal, bool)], count)
        return share if share >= self.threshold else 0.0

    def _meetings(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tokens at which stretches begin that this file has too, there and here."""
        own, places = self.stretches
        if not len(own):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(own, hashes), len(own) - 1)
        found = np.flatnonzero(own[at] == hashes)
        return found, places[at[found]]


class Copies:
    """Several originals, so that a file is split into tokens once, and most files are held against none."""

    def __init__(self, originals: Sequence[tuple[str, Original]]) -> None:
        self._originals = originals
        self._table = np.zeros(_TABLE, np.bool_)
        for _, original in originals:
            self._table[_entries(original.stretches[0])] = True
        self._least = min(original.threshold for _, original in originals)
        self._shortest = min(len(original.tokens) for _, original in originals)

    def of(self, content: bytes) -> list[str]:
        """The names of the originals that a file is a copy of."""
        text = _as_utf8(content)
        found = _scan(text)
        if (count := len(found.starts)) < MATCH_TOKENS:
            may_be = count >= self._shortest
        else:  # a hash that another stretch shares makes the share too large, never too small
            may_be = _covered(np.flatnonzero(self._table[_entries(found.hashes)]), count) >= self._least
        if not may_be:
            return []
        return [name for name, original in self._originals if original.share_of_scan(text, found) > 0]


def _scan(text: bytes) -> Scan:
    """The tokens of a text, and the hash of every stretch."""
    return scan(text, MATCH_TOKENS, 1)


def _entries(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (hashes & np.uint64(_TABLE - 1)).view(np.int64)


def _covered(starts: NDArray[np.int64], count: int) -> float:
    """The share of `count` tokens that lie in a stretch."""
    change = np.zeros(count + 1, np.int64)
    change[starts] += 1
    change[starts + MATCH_TOKENS] -= 1
    return float(np.count_nonzero(np.cumsum(change[:-1]))) / count


def _words(text: bytes, found: Scan) -> list[bytes]:
    return [text[start:end] for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True)]


def _as_utf8(content: bytes) -> bytes:
    """The text in UTF-8 whatever its encoding, the bytes themselves where there is none."""
    if content.isascii():
        return content
    text = encoding.decode(content)
    return text.encode() if isinstance(text, str) else content
