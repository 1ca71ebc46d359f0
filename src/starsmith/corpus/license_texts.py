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
from itertools import islice
from operator import itemgetter

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
LONGEST_NAME = 40  # characters of a file that holds a licence's name and nothing else
MOST_NOTICES = 20  # of one wording that are looked at in one file
SHORTEST_REST = 4  # words between recognised texts that may be a notice

# Words of which licences use one or the other, for the same.
_SAME = (
    ("license", "licence licences licenses"),
    ("sublicense", "sublicence"),
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
_OR_LATER = re.compile(r"\b(?:any|or) (?:later|newer)\b|\bat your option\b")
_GPL_VERSIONS = {"GPL": ("1.0", "2.0", "3.0"), "LGPL": ("2.0", "2.1", "3.0"), "AGPL": ("1.0", "3.0")}
_GPL_NAMES = {"": ("GPL", "1.0"), "lesser ": ("LGPL", "2.1"), "library ": ("LGPL", "2.0"), "affero ": ("AGPL", "1.0")}
_RESTRICTIONS = (  # a word without which it is not there, wording, id
    ("commons", re.compile(r"commons clause licen[cs]e condition"), COMMONS_CLAUSE),
    ("confidential", re.compile(r"proprietary and confidential"), PROPRIETARY),
    ("end user", re.compile(r"(?:under|to|by) the .{0,60}?end user licen[cs]e agreement"), PROPRIETARY),
    ("unauthori", re.compile(r"unauthori[sz]ed copying of this file"), PROPRIETARY),
)
_UNDER = r"under (?:the )?(?:terms (?:and conditions )?of )?(?:the )?"
_V = r",? ?(?:version|v\.?|-)? ?"
_NOTICES = (
    (
        "apache",
        re.compile(
            rf"(?:{_UNDER}|license: )apache (?:software )?licen[cs]e{_V}2|apache-2\.0 licen[cs]e"
            r"|apache licen[cs]e, version 2\.0 https?: www\.apache\.org"
        ),
        "Apache-2.0",
    ),
    (
        "mozilla",
        re.compile(r"(?:terms of|under) the mozilla public licen[cs]e,? ?(?:version|v\.?) ?([12]\.[01])"),
        r"MPL-\1",
    ),
    ("eclipse", re.compile(rf"(?:terms of|under) the eclipse public licen[cs]e{_V}([12]\.0)"), r"EPL-\1"),
    ("creativecommons", re.compile(r"creativecommons.org licenses by ([1-4]\.[05])"), r"CC-BY-\1"),
    ("creativecommons", re.compile(r"creativecommons.org licenses by-sa ([1-4]\.[05])"), r"CC-BY-SA-\1"),
    ("possible", re.compile(r"to the extent possible under law.{0,200}?(?:dedicated|waived) all copyright"), "CC0-1.0"),
    ("mit", re.compile(rf"{_UNDER}(?:mit|expat)(?: x11|-style)? licen[cs]e"), "MIT"),
    ("bsd", re.compile(rf"{_UNDER}(?:3.clause|new|modified|revised) bsd licen[cs]e"), "BSD-3-Clause"),
    ("bsd", re.compile(rf"{_UNDER}(?:2.clause|simplified) bsd licen[cs]e"), "BSD-2-Clause"),
)
_DECLARED = re.compile(r"\blicen[cs]e: ([a-z0-9.+-]+)")  # License: MIT
_NAMED_ALONE = {
    **dict.fromkeys(("apache 2.0", "apache-2.0", "apache license 2.0", "apache license, version 2.0"), "Apache-2.0"),
    **dict.fromkeys(("mit", "mit license", "the mit license"), "MIT"),
    **dict.fromkeys(("bsd-3-clause", "bsd 3-clause license"), "BSD-3-Clause"),
    **dict.fromkeys(("bsd-2-clause", "bsd 2-clause license"), "BSD-2-Clause"),
    **dict.fromkeys(("isc", "isc license"), "ISC"),
    "unlicense": "Unlicense",
    "mpl-2.0": "MPL-2.0",
}
# A word and the wording of an exception, the licence it belongs to, its id, and the licence when none is named beside.
_EXCEPTIONS = (
    (
        "llvm",
        re.compile(r"with (?:the )?llvm.exceptions?|llvm exceptions to the apache"),
        "Apache",
        "LLVM-exception",
        "",
    ),
    (
        "independent modules",
        re.compile(r"link this library with independent modules"),
        "GPL",
        "Classpath-exception-2.0",
        "GPL-2.0-only",
    ),
    (
        "gcc runtime",
        re.compile(r"gcc runtime library exception.{1,40}?version 3\.1"),
        "GPL",
        "GCC-exception-3.1",
        "GPL-3.0-only",
    ),
    (
        "compiled version of this file",
        re.compile(r"unlimited permission to link the compiled version of this file"),
        "GPL",
        "GCC-exception-2.0",
        "GPL-2.0-only",
    ),
    (
        "autoconf configure script",
        re.compile(r"autoconf configure script exception version 3\.0"),
        "GPL",
        "Autoconf-exception-3.0",
        "GPL-3.0-only",
    ),
    (
        "output of autoconf",
        re.compile(r"configure scripts that are the output of autoconf"),
        "GPL",
        "Autoconf-exception-2.0",
        "GPL-2.0-only",
    ),
    (
        "bison parser skeleton",
        re.compile(r"contains part or all of the bison parser skeleton"),
        "GPL",
        "Bison-exception-2.2",
        "GPL-2.0-only",
    ),
    (
        "uses this font",
        re.compile(r"create a document which uses this font"),
        "GPL",
        "Font-exception-2.0",
        "GPL-2.0-only",
    ),
    ("optional exception", re.compile(r"optional exception to the license"), "MIT", "fmt-exception", ""),
)


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
    if len(text) <= LONGEST_NAME and (name := _NAMED_ALONE.get(text.strip().lower())):
        return (name,)
    whole, rest = _whole_texts(text.lower())
    plain = " ".join(rest.translate(_MARKS).split())
    families = {_family(name) for name in (*whole, *(_WITHIN[name] for name in whole if name in _WITHIN))}
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
        found.expand(name)
        for cue, pattern, name in _NOTICES
        if cue in plain
        for found in islice(pattern.finditer(plain), MOST_NOTICES)
    ]
    if ": " in plain:
        by_lower = _by_lower()
        written = (found[1].rstrip(".") for found in islice(_DECLARED.finditer(plain), MOST_NOTICES))
        names += [by_lower[name] for name in written if name in by_lower]
    if "gnu " in plain:
        names += [_gpl(plain, found) for found in islice(_GPL.finditer(plain), MOST_NOTICES)]
    return names


@cache
def _by_lower() -> dict[str, str]:
    return {name.lower(): name for name in _library().names}


def _gpl(plain: str, found: re.Match[str]) -> str:
    family, earliest = _GPL_NAMES[found["kind"] or ""]
    around = plain[found.start() : found.end() + 250]
    version = _VERSION.search(around)
    number = (version[1] if "." in version[1] else f"{version[1]}.0") if version else ""
    if number not in _GPL_VERSIONS[family]:
        # Section 9 of the GPL: where no version is named, the recipient may choose any.
        return f"{family}-{earliest}-or-later"
    return f"{family}-{number}-{'or-later' if _OR_LATER.search(around) else 'only'}"


def _with_exceptions(names: list[str], plain: str) -> list[str]:
    """The names, with the exceptions in the wording beside the licences that they belong to."""
    for cue, pattern, family, exception, written_for in _EXCEPTIONS:
        if cue in plain and pattern.search(plain):
            # A GPL without a version is what the exception's own text says of it.
            own = [name for name in names if _family(name) == family and name != "GPL-1.0-or-later"]
            others = [name for name in names if _family(name) != family]
            names = [*others, *(f"{name} WITH {exception}" for name in own or filter(None, [written_for]))]
    return names


def _whole_texts(lower: str) -> tuple[list[str], str]:
    """Licences of whose text at least `LEAST_CONTAINMENT` is there, and what is part of none of them.

    Where two could stand (BSD-2-Clause within BSD-3-Clause), the one is named of which more is there and less missing.
    """
    from starsmith.corpus import license_kernels as kernels

    library = _library()
    data = np.frombuffer(lower.encode("utf-8", "replace"), np.uint8)
    hashes, starts = kernels.words(data, _same(), *_copyright())
    words, which = kernels.without_holders(hashes, *_holders())
    numbers = kernels.find(kernels.shingles(words), library.keys, library.table)
    places = np.argsort(numbers, kind="stable")
    ordered = numbers[places]
    matched = kernels.count(ordered, library.starts, library.owners, len(library.names))
    likely = np.flatnonzero(matched >= LEAST_CONTAINMENT * library.sizes)
    if not len(likely):
        return [], lower
    times = [
        (MISSING_COST * (library.sizes[number] - bounds[2]) - bounds[2], number, bounds)
        for number in likely
        for bounds in kernels.occurrences(
            library.sets[number], ordered, places, LEAST_CONTAINMENT, library.repeats[number]
        )
    ]
    taken = np.zeros(len(places), np.bool_)
    chosen = [
        library.names[number]
        for _, number, bounds in sorted(times, key=itemgetter(0))
        if kernels.take(library.sets[number], library.times[number], ordered, places, bounds, taken, MOST_SHARED)
    ]
    within = {_WITHIN.get(name) for name in chosen}
    names = dict.fromkeys(_NOW.get(name, name) for name in chosen if name not in within)
    return list(names), _rest(data, starts, kernels.covered(taken, which, len(hashes)))


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
    sets: list[NDArray[np.int32]]  # of each licence: the numbers of its shingles, in its order
    times: list[NDArray[np.int32]]  # how often each has each of them
    repeats: list[bool]  # whether a licence says the same in places that are far from each other
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
    found = [kernels.index(kernels.shingles(_words(_terms(texts[name]).lower()))) for name in current]
    names = [name for name, (own, *_) in zip(current, found, strict=True) if len(own)]
    sets = [own for own, *_ in found if len(own)]
    repeats = [bool((np.diff(steps) < -(len(own) // 2)).any()) for own, _, steps in found if len(own)]
    times = [np.bincount(steps).astype(np.int32) for own, _, steps in found if len(own)]
    sizes = np.array([len(own) for own in sets], np.int64)
    keys, table, numbers = kernels.index(np.concatenate(sets))
    starts, owners = kernels.owners(numbers, sizes, len(keys))
    return _Library(names, np.split(numbers, np.cumsum(sizes)[:-1]), times, repeats, sizes, keys, table, starts, owners)


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
    sides = [
        [_hashes(before, _same()) for before, _, _ in _HOLDERS],
        [_hashes(after, _same()) for _, after, _ in _HOLDERS],
    ]
    width = max(len(words) for side in sides for words in side)
    before, after = (np.array([np.pad(words, (0, width - len(words))) for words in side]) for side in sides)
    shape = [(len(first), len(last), most) for first, last, (*_, most) in zip(*sides, _HOLDERS, strict=True)]
    return before, after, np.array(shape, np.int64)
