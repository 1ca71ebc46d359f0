"""On real code, the long matches are exactly those that a suffix array of the same tokens finds (pydivsufsort)."""

import random
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydivsufsort
import pytest
from numba import njit
from numpy.typing import NDArray

from starsmith.core.hashing import TOKEN
from starsmith.provenance.attribution import Attributor
from starsmith.provenance.fingerprints import FingerprintTable
from starsmith.provenance.index import IndexConfig, write_index
from worlds import batch_of, source_file

CORPUS_BYTES = 20_000_000
BETWEEN, END = b"\n", b"\x01\n"  # before and after each token; after a document: no token of a query is equal to it
EVERY_PLACE = 10**9  # more places than any fingerprint has, so that nothing is common


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Python files of the installation, the same order every time."""
    paths = sorted(path for name in ("stdlib", "purelib") for path in Path(sysconfig.get_path(name)).rglob("*.py"))
    random.Random(0).shuffle(paths)
    texts, size = [], 0
    for path in paths:
        content = path.read_bytes()
        if len(content) < 200_000 and content.isascii():
            texts.append(content.decode())
            size += len(content)
        if size > 1.05 * CORPUS_BYTES:
            return texts
    raise AssertionError(f"only {size:,} bytes of Python are installed, wanted {1.05 * CORPUS_BYTES:,.0f}")


def split(files: Sequence[str]) -> tuple[list[str], list[str]]:
    size, number = 0, 0
    while size < CORPUS_BYTES:
        size += len(files[number])
        number += 1
    return list(files[:number]), list(files[number:])


def queries(corpus: Sequence[str], unseen: Sequence[str]) -> Iterator[str]:
    """Pieces of other files, and pieces of the corpus of which a word is changed here and there."""
    draw = random.Random(1)
    for text in unseen[:150]:
        yield text[:8000]
    for _ in range(150):
        text = draw.choice(corpus)
        start = draw.randrange(max(len(text) - 6000, 1))
        words = text[start : start + 6000].split(" ")
        for _ in range(len(words) // 80):
            words[draw.randrange(len(words))] = "changed"
        yield "   ".join(words)


@njit
def longest_equal(text: NDArray[np.uint8], array: NDArray[np.int32], query: NDArray[np.uint8], start: int) -> int:
    """Bytes from `start` of the query on that stand somewhere in the text, by binary search in its suffix array."""
    low, high, best = 0, len(array), 0
    while low < high:
        middle = (low + high) // 2
        place, same = array[middle], 0
        while start + same < len(query) and place + same < len(text) and query[start + same] == text[place + same]:
            same += 1
        best = max(best, same)
        if start + same == len(query):
            return best
        if place + same == len(text) or text[place + same] < query[start + same]:
            low = middle + 1
        else:
            high = middle
    return best


def expected(
    text: NDArray[np.uint8], array: NDArray[np.int32], tokens: Sequence[bytes], shortest: int
) -> set[tuple[int, int]]:
    """Maximal runs of tokens that stand in the text."""
    query = np.frombuffer(BETWEEN + b"".join(token + BETWEEN for token in tokens), np.uint8)
    begins = np.cumsum([0, *(len(token) + 1 for token in tokens)])  # of what is between, before each token and behind
    found, reached = set(), 0
    for number in range(len(tokens)):
        length = longest_equal(text, array, query, int(begins[number]))
        end = int(np.searchsorted(begins, begins[number] + length - 1, side="right")) - 1
        if end > reached:
            if end - number >= shortest:
                found.add((number, end))
            reached = end
    return found


@pytest.mark.slow
def test_long_matches_are_those_of_a_suffix_array(files: list[str], tmp_path: Path) -> None:
    corpus, unseen = split(files)
    settings = IndexConfig(max_places=EVERY_PLACE)
    write_index([batch_of([source_file("f.py", text) for text in corpus])], tmp_path, settings, lambda _: None)
    attributor = Attributor(FingerprintTable(tmp_path), max_places=EVERY_PLACE)
    joined = BETWEEN + b"".join(
        b"".join(token + BETWEEN for token in TOKEN.findall(content.encode())) + END for content in corpus
    )
    array = pydivsufsort.divsufsort(joined)
    text = np.frombuffer(joined, np.uint8)

    total = 0
    for query in queries(corpus, unseen):
        content = query.encode()
        wanted = expected(text, array, TOKEN.findall(content), attributor.guaranteed_tokens)
        found = attributor.find(attributor.scan(content), content)
        spans = {(one.start, one.end) for one in found if one.end - one.start >= attributor.guaranteed_tokens}
        assert spans == wanted
        total += len(wanted)
    assert total > 500
