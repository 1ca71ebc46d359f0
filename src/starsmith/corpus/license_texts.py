"""Licence texts and notices become SPDX ids.

A text is recognised by the share of a known licence's five-word shingles that it contains, so that line breaking,
comment marks and another holder change nothing, and a file that holds several licences yields them all. What is not
part of a known text is read for notices ("licensed under the Apache License, Version 2.0").
"""

import re
from functools import lru_cache
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from starsmith.corpus import license_library, license_notices
from starsmith.corpus.license_library import APPENDIX, LEAST_CONTAINMENT, Library

MISSING_COST = 2  # what a shingle that is not there weighs against one that is, when near variants compete
MOST_SHARED = 0.5  # of a licence's shingles with those already found, beyond which it is a variant or part of them
LONGEST_REMEMBERED = 16_384  # characters: most files of a source have one of few notices; bounds the memory
SHORTEST_REST = 4  # words between recognised texts that may be a notice
WORDS_BEFORE = 4  # words of the text before that are read with it: `may be used under the terms of the` GNU LGPL

_NOW = {"Nunit": "zlib-acknowledgement", "eCos-2.0": "GPL-2.0-or-later WITH eCos-exception-2.0"}  # of deprecated ids
_WITHIN = {"LGPL-3.0-only": "GPL-3.0-only"}  # a licence that adds to another, whose text often follows it
# What a variant adds, where that is a smaller part of it than a holder's name can be.
_ADDED = {"X11-distribute-modifications-variant": re.compile(r"distribute\W+with\W+modifications")}


def recognise(text: str) -> tuple[str, ...]:
    """SPDX ids of what stands in `text`: whole licences, the largest first, notices beside them, restrictions.

    A licence with an exception is one name: `Apache-2.0 WITH LLVM-exception`.
    """
    return _remembered(text) if len(text) <= LONGEST_REMEMBERED else recognise_anew(text)


@lru_cache(maxsize=2048)
def _remembered(text: str) -> tuple[str, ...]:
    return recognise_anew(text)


def recognise_anew(text: str) -> tuple[str, ...]:
    """The same, whatever was asked before."""
    if name := license_notices.named_alone(text):
        return (name,)
    whole, rest = whole_texts(text.lower(), license_library.shipped())
    within = [_WITHIN[name] for name in whole if name in _WITHIN]
    return license_notices.beside(whole, rest, within)


def recognise_file(text: str) -> tuple[str, ...]:
    """The same for a file whose name says that it holds a licence: there a short text may name it in any words."""
    return recognise(text) or license_notices.mentioned(text)


def known_licenses() -> list[str]:
    """Ids of the licences whose texts are known."""
    return [name for name in license_library.shipped().names if not name.startswith(APPENDIX)]


def whole_texts(lower: str, library: Library) -> tuple[list[str], str]:
    """Licences of whose text enough is there, and what is part of none of them.

    Where two could stand (BSD-2-Clause within BSD-3-Clause), the one is named of which more is there and less missing.
    """
    from starsmith.corpus import license_kernels as kernels
    from starsmith.corpus import license_places

    hashes, starts = license_library.hashes(lower, license_library.same())
    words, which = kernels.without_holders(hashes, *license_library.holders())
    numbers = kernels.find(kernels.shingles(words), library.keys, library.table)
    places = np.argsort(numbers, kind="stable")
    ordered = numbers[places]
    matched = kernels.count(ordered, library.starts, library.owners, len(library.names))
    likely = np.flatnonzero(matched >= library.least * library.sizes)
    if not len(likely):
        return [], lower
    times = [
        (MISSING_COST * (library.sizes[number] - bounds[2]) - bounds[2], number, bounds)
        for number in likely
        if _has_own_words(library.own[number], ordered)
        and ((added := _ADDED.get(library.names[number])) is None or added.search(lower))
        for bounds in license_places.occurrences(
            library.sets[number], ordered, places, library.least[number], library.lengths[number]
        )
    ]
    taken = np.zeros(len(places), np.bool_)
    chosen = [
        library.names[number]
        for _, number, bounds in sorted(times, key=itemgetter(0))
        if license_places.take(library.sets[number], library.times[number], ordered, places, bounds, taken, MOST_SHARED)
    ]
    within = {_WITHIN.get(name) for name in chosen}
    granted = (name for name in chosen if name not in within and not name.startswith(APPENDIX))
    names = dict.fromkeys(_NOW.get(name, name) for name in granted)
    return list(names), _rest(lower, starts, license_places.covered(taken, which, len(hashes)))


def _has_own_words(own: NDArray[np.int32], ordered: NDArray[np.int32]) -> bool:
    """Whether most shingles that tell a licence from others are there: of some, most is a disclaimer that many have."""
    if not len(own):
        return True
    at = np.minimum(np.searchsorted(ordered, own), len(ordered) - 1)
    return bool((ordered[at] == own).mean() >= LEAST_CONTAINMENT)


def _rest(lower: str, starts: NDArray[np.int32], inside: NDArray[np.bool_]) -> str:
    """What stands between the words that are part of a recognised text."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], inside, [True])).astype(np.int8)))
    data = lower.encode("utf-8", "replace")
    places = np.append(starts, len(data))
    pieces = [
        data[places[max(first - WORDS_BEFORE, 0)] : places[last]].decode("utf-8", "replace")
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        if last - first >= SHORTEST_REST
    ]
    return " \n ".join(pieces)
