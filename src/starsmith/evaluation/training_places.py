"""In how many places of the training text does a stretch of code stand, whatever its spacing?

Duplicates that were removed are not what a model saw: licence headers and idioms stand in many files that are no
near-duplicates. And a stretch of a held-out file that stands in a training file is no control for anything.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from starsmith.core.hashing import code_tokens, shingles

SHORTEST = 12  # code tokens; fewer stand everywhere and are not counted


def count_places(
    texts: Iterable[str], stretches: Sequence[tuple[str, tuple[bool, bool]]], advance: Callable[[], None]
) -> list[int | None]:
    """For each stretch the number of places in `texts` that have all its code tokens; None where it has too few.

    stretches  text, and whether a word goes on across its start and its end: such a part of a word is left out

    Token hashes are compared one by one: 64 bits each, of twelve or more in order, so a chance match is out of reach.
    """
    wanted = [_hashes(text, words) for text, words in stretches]
    heads = [int(shingles(hashes, SHORTEST)[0]) if len(hashes) >= SHORTEST else None for hashes in wanted]
    by_head: dict[int, list[int]] = {}
    for number, head in enumerate(heads):
        if head is not None:
            by_head.setdefault(head, []).append(number)
    known = np.array(sorted(by_head), np.uint64)
    counts = [0] * len(wanted)
    for text in texts:
        hashes = code_tokens(text.encode()).hashes
        for place, head in _candidates(shingles(hashes, SHORTEST), known):
            for number in by_head[head]:
                size = len(wanted[number])
                counts[number] += bool(np.array_equal(hashes[place : place + size], wanted[number]))
        advance()
    return [None if head is None else count for head, count in zip(heads, counts, strict=True)]


def _hashes(text: str, words: tuple[bool, bool]) -> NDArray[np.uint64]:
    hashes = code_tokens(text.encode()).hashes
    return hashes[int(words[0]) : len(hashes) - int(words[1])]


def _candidates(grams: NDArray[np.uint64], known: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """(place, shingle) of those that begin a stretch."""
    if not len(known) or not len(grams):
        return []
    found = np.minimum(np.searchsorted(known, grams), len(known) - 1)
    places = np.flatnonzero(known[found] == grams)
    return list(zip(places.tolist(), grams[places].tolist(), strict=True))
