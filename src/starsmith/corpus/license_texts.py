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
_AFTER_TERMS = (
    "END OF TERMS AND CONDITIONS",
    "                    GNU GENERAL PUBLIC LICENSE\n                       Version 3,",
)
_DEPRECATED = re.compile(r"\+$|^GPL-.*-with-")  # these double current ids, or hold the text of an exception alone

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

_COMMENT_MARKS = re.compile(r"[\s#*/;%!\"“”'‘’]+")
_GPL = re.compile(
    r"\b(?:under|terms of)\b.{0,50}?\bgnu (?P<kind>lesser |library |affero )?(?:or lesser )?"
    r"(?:general public licen[cs]e|a?l?gpl)"
)
_VERSION = re.compile(r"\b(?:version|v\.?) ?(\d(?:\.\d)?)")
_OR_LATER = re.compile(r"\b(?:any|or) (?:\(at your option\) any )?(?:later|newer)\b|\bat your option\b")
_GPL_NAMES = {"": ("GPL", "1.0"), "lesser ": ("LGPL", "2.1"), "library ": ("LGPL", "2.0"), "affero ": ("AGPL", "1.0")}
_RESTRICTIONS = (
    (re.compile(r"commons clause licen[cs]e condition"), COMMONS_CLAUSE),
    (re.compile(r"proprietary and confidential|unauthori[sz]ed copying of this file"), PROPRIETARY),
)
_NOTICES = (
    (re.compile(r"under (?:the terms of )?the apache (?:software )?licen[cs]e,? ?(?:version|v\.?) ?2"), "Apache-2.0"),
    (re.compile(r"terms of the mozilla public licen[cs]e,? ?(?:version|v\.?) ?(\d\.\d)"), r"MPL-\1"),
    (re.compile(r"(?:terms of|under) the eclipse public licen[cs]e,? ?(?:-|version|v\.?) ?(\d\.\d)"), r"EPL-\1"),
    (re.compile(r"to the extent possible under law.{0,200}?(?:dedicated|waived) all copyright"), "CC0-1.0"),
    (re.compile(r"under (?:the terms of )?the (?:mit|expat) licen[cs]e"), "MIT"),
    (re.compile(r"under (?:the terms of )?the (?:3.clause|new|modified|revised) bsd licen[cs]e"), "BSD-3-Clause"),
    (re.compile(r"under (?:the terms of )?the (?:2.clause|simplified) bsd licen[cs]e"), "BSD-2-Clause"),
)


@lru_cache(maxsize=4096)
def recognise(text: str) -> tuple[str, ...]:
    """SPDX ids of what stands in `text`: whole licences, the largest first, or else notices; and restrictions."""
    plain = _COMMENT_MARKS.sub(" ", text.lower())
    found = _whole_texts(text) or tuple(_notices(plain))
    return (*found, *(name for pattern, name in _RESTRICTIONS if pattern.search(plain)))


def known_licenses() -> list[str]:
    """Ids of the licences whose texts are known."""
    return list(_library().names)


def _notices(plain: str) -> list[str]:
    """Ids named by wording; the notice of a GPL includes whether a later version may be chosen."""
    names = [found.expand(name) for pattern, name in _NOTICES if (found := pattern.search(plain))]
    if gpl := _GPL.search(plain):
        family, earliest = _GPL_NAMES[gpl["kind"] or ""]
        around = plain[gpl.start() : gpl.end() + 250]
        version = _VERSION.search(around)
        number = (version[1] if "." in version[1] else f"{version[1]}.0") if version else earliest
        # Section 9 of the GPL: where no version is named, the recipient may choose any.
        names.append(f"{family}-{number}-{'or-later' if not version or _OR_LATER.search(around) else 'only'}")
    return names


def _whole_texts(text: str) -> tuple[str, ...]:
    """Licences of whose text at least `LEAST_CONTAINMENT` is there.

    A licence whose shingles are mostly part of another that was found (BSD-2-Clause in BSD-3-Clause) is not named.
    """
    from starsmith.corpus import license_kernels as kernels

    library = _library()
    matched, present = kernels.count(
        kernels.shingles(_words(text)), library.keys, library.table, library.starts, library.owners, len(library.names)
    )
    order = np.argsort(MISSING_COST * (library.sizes - matched) - matched, kind="stable")
    likely = order[(matched >= LEAST_CONTAINMENT * library.sizes)[order]]
    return tuple(library.names[number] for number in likely if kernels.take(library.sets[number], present, MOST_SHARED))


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
    found = [np.unique(kernels.shingles(_words(_AFTER_TERMS.split(texts[name])[0]))) for name in current]
    names = [name for name, own in zip(current, found, strict=True) if len(own)]
    sets = [own for own in found if len(own)]
    sizes = np.array([len(own) for own in sets], np.int64)
    keys, numbers = np.unique(np.concatenate(sets), return_inverse=True)
    owners = np.repeat(np.arange(len(sets), dtype=np.int32), sizes)[np.argsort(numbers, kind="stable")]
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(numbers))))
    return _Library(
        names,
        np.split(numbers.astype(np.int32), np.cumsum(sizes)[:-1]),
        sizes,
        keys,
        kernels.fill_table(keys, 1 << (2 * len(keys)).bit_length()),
        starts,
        owners,
    )


def _texts() -> dict[str, str]:
    packed = resources.files("starsmith.corpus").joinpath("data/licenses.json.gz").read_bytes()
    texts: dict[str, str] = json.loads(gzip.decompress(packed))
    return texts


def _words(text: str) -> NDArray[np.uint64]:
    """Hashes of the words of a text; case, punctuation and names of holders left out."""
    from starsmith.corpus import license_kernels as kernels

    return kernels.without_holders(_hashes(text, _same()), *_holders())


def _hashes(text: str, same: NDArray[np.uint64]) -> NDArray[np.uint64]:
    from starsmith.corpus import license_kernels as kernels

    data = np.frombuffer(text.lower().encode("utf-8", "replace"), np.uint8)
    return kernels.words(data, same, *_copyright())


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
