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

from starsmith.core.hashing import code_tokens, shingles

SHINGLE_WORDS = 5
LEAST_CONTAINMENT = 0.8  # of a licence's shingles in a text: titles, dates and small changes of wording differ
MISSING_COST = 2  # what a shingle that is not there weighs against one that is, when near variants compete
MOST_SHARED = 0.5  # of a licence's shingles with those already found, beyond which it is a variant or part of them
COMMONS_CLAUSE, PROPRIETARY = "LicenseRef-Commons-Clause", "LicenseRef-proprietary"

# What follows the terms: how to apply them (often left out), or, after the LGPL, the GPL that it adds to.
_AFTER_TERMS = re.compile(r"END OF TERMS AND CONDITIONS|(?<=.)\n\s*GNU GENERAL PUBLIC LICENSE\s+Version 3,")
_DEPRECATED = re.compile(r"\+$|^GPL-.*-with-")  # these double current ids, or hold the text of an exception alone

_COPYRIGHT_LINE = re.compile(r"(?im)^\W*(?:portions )?copyright\s*(?:\(c\)|©|[<\[{]|\d{4}|year\b|by\b).*$")
_WORD = re.compile(r"[^\W_]{2,}")  # labels such as (a) and 1. are no words
# Where a licence names its holder, whose name differs in every copy.
_HOLDERS = (
    (re.compile(r"as is and .{1,100}? disclaims? all"), "as is and holder disclaims all"),
    (re.compile(r"in no event (?:shall|will) .{1,200}? be (?:held )?liable"), "in no event shall holder be liable"),
    (re.compile(r"software is provided by .{1,150}? as is"), "software is provided by holder as is"),
    (
        re.compile(r"(?:neither )?the names? of .{1,150}? (?:may|must|can|shall)(?: not)? be used to endorse"),
        "the name of holder may not be used to endorse",
    ),
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
    library = _library()
    own = _text_shingles(text)
    matched = library.count(own)
    order = np.argsort(MISSING_COST * (library.sizes - matched) - matched, kind="stable")
    names: list[str] = []
    taken: NDArray[np.uint64] = np.zeros(0, np.uint64)
    for number in order[(matched >= LEAST_CONTAINMENT * library.sizes)[order]]:
        present = np.intersect1d(library.sets[number], own, assume_unique=True)
        if np.isin(present, taken).mean() < MOST_SHARED:
            names.append(library.names[number])
            taken = np.union1d(taken, present)
    return tuple(names)


@dataclass(frozen=True)
class _Library:
    """L licences, and an index from the K distinct shingles to the licences that have them."""

    names: list[str]
    sets: list[NDArray[np.uint64]]  # of each licence, sorted
    sizes: NDArray[np.int64]  # (L,)
    keys: NDArray[np.uint64]  # (K,) sorted
    starts: NDArray[np.int64]  # (K + 1,) key k is in licences owners[starts[k]:starts[k + 1]]
    owners: NDArray[np.int64]

    def count(self, own: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(L,) how many of each licence's shingles are in the sorted set `own`."""
        places = np.searchsorted(self.keys, own)
        known = places < len(self.keys)
        known[known] = self.keys[places[known]] == own[known]
        owners = [self.owners[self.starts[key] : self.starts[key + 1]] for key in places[known]]
        merged = np.concatenate(owners) if owners else np.zeros(0, np.int64)
        return np.bincount(merged, minlength=len(self.names)).astype(np.int64)


@cache
def _library() -> _Library:
    packed = resources.files("starsmith.corpus").joinpath("data/licenses.json.gz").read_bytes()
    texts: dict[str, str] = json.loads(gzip.decompress(packed))
    current = [name for name in texts if not _DEPRECATED.search(name) and f"{name}-only" not in texts]
    sets = {}
    for name in sorted(current, key=lambda name: (len(name), name)):  # of equal texts the shortest name stands for all
        own = _text_shingles(_AFTER_TERMS.split(texts[name])[0])
        if len(own):
            sets[name] = own
    sizes = np.array([len(own) for own in sets.values()], np.int64)
    owners = np.repeat(np.arange(len(sets)), sizes)
    merged = np.concatenate(list(sets.values()))
    order = np.argsort(merged, kind="stable")
    keys, starts = np.unique(merged[order], return_index=True)
    return _Library(list(sets), list(sets.values()), sizes, keys, np.append(starts, len(merged)), owners[order])


def _text_shingles(text: str) -> NDArray[np.uint64]:
    """Distinct hashes of every five consecutive words, sorted; case, punctuation and names of holders left out."""
    words = " ".join(_WORD.findall(_COPYRIGHT_LINE.sub("", text).lower().replace("licence", "license")))
    for pattern, plain in _HOLDERS:
        words = pattern.sub(plain, words)
    return np.unique(shingles(code_tokens(words.encode()).hashes, SHINGLE_WORDS))
