"""The known licences as sets of five-word shingles, and an index from a shingle to the licences that have it.

The index is built once, by tools/make_license_library.py, and shipped: reading it takes a tenth of the time that
hashing the texts takes, which each worker process would spend anew.
"""

import gzip
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

APPENDIX = "appendix of "  # before the names of what tells how to apply a licence, and grants nothing itself
INDEX = "data/licenses.npz"
LEAST_CONTAINMENT = 0.8  # of a licence's shingles in a text: titles, dates and small changes of wording differ
LEAST_BEYOND_SPDX = 0.9  # of those that SPDX does not have: many are a known licence but for a sentence
MOST_OWNERS = 4  # licences with one shingle, up to which it tells them from others

_TEXTS = ("data/licenses.json.gz", "data/licenses_beyond_spdx.json.gz")
# What follows the terms: how to apply them (often left out), or, after the LGPL, the GPL that it adds to.
_APPENDIX_MARK, _OTHER_LICENSE = "END OF TERMS AND CONDITIONS", "\n\nGNU GENERAL PUBLIC LICENSE\nVersion 3,"
_APPENDIX_TITLE = "How to Apply These Terms to Your New"  # of the GNU licences; Apache's is its notice and no more
_DEPRECATED = re.compile(r"\+$|^GPL-.*-with-")  # these double current ids, or hold the text of an exception alone

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
    ("name of", "not be used in", 30),
)


@dataclass(frozen=True)
class Library:
    """L licences, and an index from the K distinct shingles to the licences that have them."""

    names: list[str]
    sets: list[NDArray[np.int32]]  # of each licence: the numbers of its shingles, in its order
    times: list[NDArray[np.int32]]  # how often each has each of them
    lengths: NDArray[np.int64]  # (L,) shingles with repetitions of one that says the same far apart, 0 for others
    sizes: NDArray[np.int64]  # (L,)
    own: list[NDArray[np.int32]]  # of each beyond SPDX: the shingles that few others have; none of others
    least: NDArray[np.float64]  # (L,) share of its shingles from which on a licence stands in a text
    keys: NDArray[np.uint64]  # (K,)
    table: NDArray[np.int32]  # hash table of the keys' numbers
    starts: NDArray[np.int64]  # (K + 1,) key k is in licences owners[starts[k]:starts[k + 1]]
    owners: NDArray[np.int32]


@cache
def shipped() -> Library:
    """Every known licence, from the shipped index."""
    packed = resources.files("starsmith.corpus").joinpath(INDEX).read_bytes()
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        names = stored["names"].tobytes().decode().split("\n")
        numbers = np.cumsum(stored["steps"], dtype=np.int32)
        return _indexed(
            names,
            stored["sizes"].astype(np.int64),
            stored["keys"],
            numbers,
            stored["times"],
            stored["lengths"].astype(np.int64),
        )


def packed(found: Library) -> bytes:
    """A library as it is shipped; the same one gives the same bytes."""
    numbers = np.concatenate(found.sets)
    out = io.BytesIO()
    np.savez_compressed(
        out,
        names=np.frombuffer("\n".join(found.names).encode(), np.uint8),
        sizes=found.sizes.astype(np.int32),
        keys=found.keys,
        steps=np.diff(numbers, prepend=np.int32(0)),  # most follow one another, so that they pack well
        times=np.concatenate(found.times).astype(np.uint16),
        lengths=found.lengths.astype(np.int32),
    )
    return out.getvalue()


def build(texts: Mapping[str, str]) -> Library:
    """Index the texts; of equal ones the first stands for all, SPDX's before others and shorter names before longer."""
    from starsmith.corpus import license_kernels as kernels

    current = [name for name in texts if not _DEPRECATED.search(name) and f"{name}-only" not in texts]
    current.sort(key=lambda name: (name.startswith("LicenseRef-"), len(name), name))
    parts = {name: texts[name] if name.startswith("LicenseRef-") else terms(texts[name]) for name in current}
    parts |= {APPENDIX + name: end for name in current if _APPENDIX_TITLE in (end := _appendix(texts[name]))}
    found = [(name, *kernels.index(kernels.shingles(words(text.lower())))) for name, text in parts.items()]
    found = [one for one in found if len(one[1])]
    keys, _, numbers = kernels.index(np.concatenate([own for _, own, _, _ in found]))
    return _indexed(
        [name for name, *_ in found],
        np.array([len(own) for _, own, _, _ in found], np.int64),
        keys,
        numbers,
        np.concatenate([np.bincount(steps) for *_, steps in found]),
        np.array([_length(steps) for *_, steps in found], np.int64),
    )


def terms(text: str) -> str:
    """A licence's text without what follows its terms."""
    return text.partition(_APPENDIX_MARK)[0].partition(_OTHER_LICENSE)[0]


def texts() -> dict[str, str]:
    """Id -> text: those of SPDX, then what is beyond its list."""
    found: dict[str, str] = {}
    for path in _TEXTS:
        found |= json.loads(gzip.decompress(resources.files("starsmith.corpus").joinpath(path).read_bytes()))
    return found


def words(lower: str) -> NDArray[np.uint64]:
    """Hashes of the words of a text in lower case; punctuation and names of holders left out."""
    from starsmith.corpus import license_kernels as kernels

    return kernels.without_holders(hashes(lower, same())[0], *holders())[0]


def hashes(lower: str, one_for_other: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Hash and first byte of every word of a text in lower case."""
    from starsmith.corpus import license_kernels as kernels

    return kernels.words(np.frombuffer(lower.encode("utf-8", "replace"), np.uint8), one_for_other, *_copyright())


@cache
def same() -> NDArray[np.uint64]:
    """(S, 2) a word's hash, and that of the word that stands for it."""
    none = np.zeros((0, 2), np.uint64)
    pairs = [(word, hashes(kept, none)[0][0]) for kept, others in _SAME for word in hashes(others, none)[0]]
    return np.array(pairs, np.uint64)


@cache
def holders() -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """The arrays that `without_holders` takes."""
    sides = [
        [hashes(before, same())[0] for before, _, _ in _HOLDERS],
        [hashes(after, same())[0] for _, after, _ in _HOLDERS],
    ]
    width = max(len(found) for side in sides for found in side)
    before, after = (np.array([np.pad(found, (0, width - len(found))) for found in side]) for side in sides)
    shape = [(len(first), len(last), most) for first, last, (*_, most) in zip(*sides, _HOLDERS, strict=True)]
    return before, after, np.array(shape, np.int64)


def _indexed(
    names: list[str],
    sizes: NDArray[np.int64],
    keys: NDArray[np.uint64],
    numbers: NDArray[np.int32],
    times: NDArray[np.integer],
    lengths: NDArray[np.int64],
) -> Library:
    """The library with these distinct shingles and, licence after licence, their numbers."""
    from starsmith.corpus import license_kernels as kernels

    _, table, _ = kernels.index(keys)
    starts, owners = kernels.owners(numbers, sizes, len(keys))
    ends = np.cumsum(sizes).tolist()
    cuts = [slice(end - size, end) for end, size in zip(ends, sizes.tolist(), strict=True)]
    counts = times.astype(np.int32)
    sets, each = [numbers[cut] for cut in cuts], [counts[cut] for cut in cuts]
    beyond = [name.startswith("LicenseRef-") for name in names]
    least = np.where(beyond, LEAST_BEYOND_SPDX, LEAST_CONTAINMENT)
    rare = np.diff(starts) <= MOST_OWNERS
    own = [one[rare[one]] if is_beyond else one[:0] for one, is_beyond in zip(sets, beyond, strict=True)]
    return Library(names, sets, each, lengths, sizes, own, least, keys, table, starts, owners)


def _length(steps: NDArray[np.int32]) -> int:
    """Of a licence's shingles, each by its number: how many there are when some come again far away, else 0."""
    return len(steps) if (np.diff(steps) < -(int(steps.max()) + 1) // 2).any() else 0


def _appendix(text: str) -> str:
    return text.partition(_APPENDIX_MARK)[2]


@cache
def _copyright() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return np.frombuffer(b"portions ", np.uint8), np.frombuffer(b"copyright", np.uint8)
