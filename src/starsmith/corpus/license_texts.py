"""Licence texts and notices become SPDX ids.

A text is recognised by the share of a known licence's five-word shingles that it contains, so that line breaking,
comment marks and another holder change nothing, and a file that holds several licences yields them all. A short
notice ("licensed under the Apache License, Version 2.0") is recognised by its wording.
"""

import gzip
import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

LEAST_CONTAINMENT = 0.8  # of a licence's shingles in a text: titles, dates and small changes of wording differ
MISSING_COST = 2  # what a shingle that is not there weighs against one that is, when near variants compete
MOST_SHARED = 0.5  # of a licence's shingles with those already found, beyond which it is a variant or part of them
COMMONS_CLAUSE, PROPRIETARY = "LicenseRef-Commons-Clause", "LicenseRef-proprietary"

# What follows the terms: how to apply them (often left out), or, after the LGPL, the GPL that it adds to.
_AFTER_TERMS = ("END OF TERMS AND CONDITIONS", "\n\nGNU GENERAL PUBLIC LICENSE\nVersion 3,")
_DEPRECATED = re.compile(r"\+$|^GPL-.*-with-")  # these double current ids, or hold the text of an exception alone
_NOW = {"Nunit": "zlib-acknowledgement", "eCos-2.0": "GPL-2.0-or-later WITH eCos-exception-2.0"}  # of deprecated ids
_WITHIN = {"LGPL-3.0-only": "GPL-3.0-only"}  # a licence that adds to another, whose text often follows it
LONGEST_REMEMBERED = 16_384  # characters: most files of a source have one of few notices; bounds the memory
SHORTEST_REST = 4  # words between recognised texts that may be a notice

# Words of which licences use one or the other, for the same.
_SAME = (
    ("license", "licence licences licenses sublicence sublicense"),
    ("name", "names"),
    ("shall", "will"),
    ("disclaim", "disclaims"),
)
# Where a licence names its holder, whose name differs in every copy: what stands before, after, the most words between.
_HOLDERS = (
    ("as is and", "disclaim all", 20),
    ("in no event shall", "liable", 40),
    ("software is provided by", "as is", 30),
    ("name of", "be used to endorse", 30),
)

_MARKS = str.maketrans(dict.fromkeys("#*/;%!\"“”'‘’()", " "))  # of comments and quotations
_GPL = re.compile(
    r"\b(?:under|terms of)\b.{0,50}?\bgnu (?P<kind>lesser |library |affero )?(?:or lesser )?"
    r"(?:general public licen[cs]e|a?l?gpl)"
)
_VERSION = re.compile(r"\b(?:version|v\.?) ?(\d(?:\.\d)?)")
_OR_LATER = re.compile(r"\b(?:any|or) (?:\(at your option\) any )?(?:later|newer)\b|\bat your option\b")
_GPL_NAMES = {"": ("GPL", "1.0"), "lesser ": ("LGPL", "2.1"), "library ": ("LGPL", "2.0"), "affero ": ("AGPL", "1.0")}
_RESTRICTIONS = (  # a word without which it is not there, wording, id
    ("commons", re.compile(r"commons clause licen[cs]e condition"), COMMONS_CLAUSE),
    (
        "cop",
        re.compile(r"proprietary and confidential|unauthori[sz]ed copying of this file"),
        PROPRIETARY,
    ),
)
_UNDER = r"under (?:the )?(?:terms (?:and conditions )?of )?(?:the )?"
_V = r",? ?(?:version|v\.?|-)? ?"
_NOTICES = (
    (
        "apache",
        re.compile(rf"(?:{_UNDER}|license: )apache (?:software )?licen[cs]e{_V}2|apache-2\.0 licen[cs]e"),
        "Apache-2.0",
    ),
    (
        "mozilla",
        re.compile(r"(?:terms of|under) the mozilla public licen[cs]e,? ?(?:version|v\.?) ?(\d\.\d)"),
        r"MPL-\1",
    ),
    ("eclipse", re.compile(rf"(?:terms of|under) the eclipse public licen[cs]e{_V}(\d\.\d)"), r"EPL-\1"),
    ("possible", re.compile(r"to the extent possible under law.{0,200}?(?:dedicated|waived) all copyright"), "CC0-1.0"),
    ("mit", re.compile(rf"{_UNDER}(?:mit|expat)(?: x11|-style)? licen[cs]e"), "MIT"),
    ("bsd", re.compile(rf"{_UNDER}(?:3.clause|new|modified|revised) bsd licen[cs]e"), "BSD-3-Clause"),
    ("bsd", re.compile(rf"{_UNDER}(?:2.clause|simplified) bsd licen[cs]e"), "BSD-2-Clause"),
)
# Wording of an exception, the licence it belongs to, the exception, and for which licence it was written.
_EXCEPTIONS = (
    ("llvm", re.compile(r"with (?:the )?llvm.exceptions?|llvm exceptions to the apache"), "Apache", "LLVM-exception", "Apache-2.0"),
    ("independent modules", re.compile(r"link this library with independent modules"), "GPL", "Classpath-exception-2.0", "GPL-2.0-only"),
    ("gcc runtime", re.compile(r"gcc runtime library exception.{1,40}?version 3\.1"), "GPL", "GCC-exception-3.1", "GPL-3.0-only"),
    ("compiled version of this file", re.compile(r"unlimited permission to link the compiled version of this file"), "GPL", "GCC-exception-2.0", "GPL-2.0-only"),
    ("autoconf configure script", re.compile(r"autoconf configure script exception version 3\.0"), "GPL", "Autoconf-exception-3.0", "GPL-3.0-only"),
    ("output of autoconf", re.compile(r"configure scripts that are the output of autoconf"), "GPL", "Autoconf-exception-2.0", "GPL-2.0-only"),
    ("bison parser skeleton", re.compile(r"contains part or all of the bison parser skeleton"), "GPL", "Bison-exception-2.2", "GPL-2.0-only"),
    ("uses this font", re.compile(r"create a document which uses this font"), "GPL", "Font-exception-2.0", "GPL-2.0-only"),
    ("optional exception", re.compile(r"optional exception to the license"), "MIT", "fmt-exception", "MIT"),
)


def recognise(text: str) -> tuple[str, ...]:
    """SPDX ids of what stands in `text`: whole licences, the largest first, notices beside them, restrictions.

    A licence with an exception is one name: `Apache-2.0 WITH LLVM-exception`.
    """
    return _remembered(text) if len(text) <= LONGEST_REMEMBERED else _recognised(text)


@lru_cache(maxsize=2048)
def _remembered(text: str) -> tuple[str, ...]:
    return _recognised(text)


def _recognised(text: str) -> tuple[str, ...]:
    whole, rest = _whole_texts(text.lower())
    plain = " ".join(rest.translate(_MARKS).split())
    families = {_family(name) for name in whole}
    found = [*whole, *(name for name in _notices(plain) if _family(name) not in families)]
    restrictions = [name for cue, pattern, name in _RESTRICTIONS if cue in plain and pattern.search(plain)]
    return tuple(dict.fromkeys((*_with_exceptions(found, plain), *restrictions)))


def known_licenses() -> list[str]:
    """Ids of the licences whose texts are known."""
    return list(_library().names)


def _family(name: str) -> str:
    return name.partition("-")[0]


def _notices(plain: str) -> list[str]:
    """Ids named by wording; the notice of a GPL includes whether a later version may be chosen."""
    names = [
        found.expand(name) for cue, pattern, name in _NOTICES if cue in plain and (found := pattern.search(plain))
    ]
    if "gnu " in plain and (gpl := _GPL.search(plain)):
        family, earliest = _GPL_NAMES[gpl["kind"] or ""]
        around = plain[gpl.start() : gpl.end() + 250]
        version = _VERSION.search(around)
        number = (version[1] if "." in version[1] else f"{version[1]}.0") if version else earliest
        # Section 9 of the GPL: where no version is named, the recipient may choose any.
        names.append(f"{family}-{number}-{'or-later' if not version or _OR_LATER.search(around) else 'only'}")
    return names


def _with_exceptions(names: list[str], plain: str) -> list[str]:
    """The names, with the exceptions in the wording beside the licences that they belong to."""
    for cue, pattern, family, exception, written_for in _EXCEPTIONS:
        if cue in plain and pattern.search(plain):
            # A GPL without a version is what the exception's own text says of it.
            own = [name for name in names if _family(name) == family and name != "GPL-1.0-or-later"]
            others = [name for name in names if _family(name) != family]
            names = [*others, *(f"{name} WITH {exception}" for name in own or [written_for])]
    return names


def _whole_texts(lower: str) -> tuple[list[str], str]:
    """Licences of whose text at least `LEAST_CONTAINMENT` is there, and what is part of none of them.

    A licence whose shingles are mostly part of another that was found (BSD-2-Clause in BSD-3-Clause) is not named.
    """
    from starsmith.corpus import license_kernels as kernels

    library = _library()
    data = np.frombuffer(lower.encode("utf-8", "replace"), np.uint8)
    hashes, starts = kernels.words(data, _same(), *_copyright())
    words, which = kernels.without_holders(hashes, *_holders())
    numbers = kernels.find(kernels.shingles(words), library.keys, library.table)
    matched, present = kernels.count(numbers, library.starts, library.owners, len(library.names))
    likely = np.flatnonzero(matched >= LEAST_CONTAINMENT * library.sizes)
    if not len(likely):
        return [], lower
    cost = (MISSING_COST * (library.sizes - matched) - matched)[likely]
    taken = np.zeros_like(present)
    chosen = [
        library.names[number]
        for number in likely[np.argsort(cost, kind="stable")]
        if kernels.take(library.sets[number], present, taken, MOST_SHARED)
    ]
    inside = kernels.covered(numbers, taken, which, len(hashes))
    within = {_WITHIN.get(name) for name in chosen}
    return [_NOW.get(name, name) for name in chosen if name not in within], _rest(data, starts, inside)


def _rest(data: NDArray[np.uint8], starts: NDArray[np.int32], inside: NDArray[np.bool_]) -> str:
    """What stands between the words that are part of a recognised text."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], inside, [True])).astype(np.int8)))
    places = np.append(starts, len(data))
    pieces = [
        data[places[first] : places[last]].tobytes().decode("utf-8", "replace")
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        if last - first >= SHORTEST_REST
    ]
    return " \n ".join(pieces)


@dataclass(frozen=True)
class _Library:
    """L licences, and an index from the K distinct shingles to the licences that have them."""

    names: list[str]
    sets: list[NDArray[np.int32]]  # of each licence: the numbers of its shingles
    sizes: NDArray[np.int64]  # (L,)
    keys: NDArray[np.uint64]  # (K,)
    table: NDArray[np.int32]  # hash table of the keys' numbers
    starts: NDArray[np.int64]  # (K + 1,) key k is in licences owners[starts[k]:starts[k + 1]]
    owners: NDArray[np.int32]


@cache
def _library() -> _Library:
    from starsmith.corpus import license_kernels as kernels

    texts = _texts()
    current = [name for name in texts if not _DEPRECATED.search(name) and f"{name}-only" not in texts]
    current.sort(key=lambda name: (len(name), name))  # of equal texts the shortest name stands for all
    found = [kernels.unique(kernels.shingles(_words(_terms(texts[name]).lower()))) for name in current]
    names = [name for name, own in zip(current, found, strict=True) if len(own)]
    sets = [own for own in found if len(own)]
    sizes = np.array([len(own) for own in sets], np.int64)
    keys, table, numbers = kernels.index(np.concatenate(sets))
    starts, owners = kernels.owners(numbers, sizes, len(keys))
    return _Library(names, np.split(numbers, np.cumsum(sizes)[:-1]), sizes, keys, table, starts, owners)


def _terms(text: str) -> str:
    for mark in _AFTER_TERMS:
        text = text.partition(mark)[0]
    return text


def _texts() -> dict[str, str]:
    packed = resources.files("starsmith.corpus").joinpath("data/licenses.json.gz").read_bytes()
    texts: dict[str, str] = json.loads(gzip.decompress(packed))
    return texts


def _words(lower: str) -> NDArray[np.uint64]:
    """Hashes of the words of a text in lower case; punctuation and names of holders left out."""
    from starsmith.corpus import license_kernels as kernels

    return kernels.without_holders(_hashes(lower, _same()), *_holders())[0]


def _hashes(lower: str, same: NDArray[np.uint64]) -> NDArray[np.uint64]:
    from starsmith.corpus import license_kernels as kernels

    data = np.frombuffer(lower.encode("utf-8", "replace"), np.uint8)
    return kernels.words(data, same, *_copyright())[0]


@cache
def _copyright() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return np.frombuffer(b"portions ", np.uint8), np.frombuffer(b"copyright", np.uint8)


@cache
def _same() -> NDArray[np.uint64]:
    none = np.zeros((0, 2), np.uint64)
    pairs = [(word, _hashes(kept, none)[0]) for kept, others in _SAME for word in _hashes(others, none)]
    return np.array(pairs, np.uint64)


@cache
def _holders() -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """The arrays that `without_holders` takes."""
    sides = [[_hashes(pattern[side], _same()) for pattern in _HOLDERS] for side in (0, 1)]
    width = max(len(words) for side in sides for words in side)
    before, after = (np.array([np.pad(words, (0, width - len(words))) for words in side]) for side in sides)
    shape = [(len(first), len(last), most) for first, last, (*_, most) in zip(*sides, _HOLDERS, strict=True)]
    return before, after, np.array(shape, np.int64)
