"""The similarity sketch: equal to its plain definition, unbiased, and without a 32-bit overflow."""

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from starsmith.corpus.sketch import (
    BANDS,
    ROWS,
    SHINGLE_WORDS,
    band_keys,
    jaccard,
    keys_of,
    shingle_set,
    similarity_sketch,
    word_shingles,
)

pytestmark = pytest.mark.slow

MASK = 2**64 - 1
STEP = 0x9E3779B97F4A7C15
SIZE = BANDS * ROWS

TEXTS = st.text(alphabet="aB_1 \n.é漢İ", max_size=80)


def mix(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
    return value ^ (value >> 31)


def plain_words(text: bytes) -> list[bytes]:
    ascii_lower = bytes(byte | 0x20 if 65 <= byte <= 90 else byte for byte in text)
    return re.findall(rb"[a-z0-9_\x80-\xff]+", ascii_lower)


def plain_shingles(text: bytes, words: int) -> list[int]:
    hashes = []
    for word in plain_words(text):
        value = 0
        for byte in word:
            letter = int.from_bytes(hashlib.sha256(bytes([byte])).digest()[:8], "little")
            value = (value << 5 & MASK | value >> 59) ^ letter
        hashes.append(value)
    found = []
    for start in range(len(hashes) - words + 1):
        total = 0
        for value in hashes[start : start + words]:
            total = (total * STEP + value) & MASK
        found.append(mix(total))
    return found


def plain_sketch(elements: list[int], size: int) -> list[int]:
    """Dahlgaard, Knudsen, Thorup 2017, figure 1: the first half throws into random bins, the rest into one each."""
    values = [MASK] * size
    for turn in range(2 * size):
        for element in elements:
            drawn = mix(element + (turn + 1) * STEP & MASK)
            place = (drawn >> 32) * size >> 32 if turn < size else turn - size
            values[place] = min(values[place], turn << 52 | drawn & 2**52 - 1)
        if MASK not in values or not elements:
            break
    return values


def elements_of(seed: int, count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def pair(seed: int, union: int, similarity: float) -> tuple[NDArray[np.uint64], NDArray[np.uint64], float]:
    """Two sets of about that Jaccard similarity, and the similarity itself."""
    elements = elements_of(seed, union)
    shared = round(union * similarity)
    middle = shared + (union - shared) // 2
    one, other = elements[:middle], np.concatenate((elements[:shared], elements[middle:]))
    return one, other, shared / union


@given(text=TEXTS, words=st.integers(1, 6))
def test_shingles_are_those_of_the_plain_definition(text: str, words: int) -> None:
    content = text.encode()

    found, count = word_shingles(np.frombuffer(content, np.uint8), words)

    assert found.dtype == np.uint64
    assert found.tolist() == plain_shingles(content, words)
    assert count == len(plain_words(content))


@given(elements=st.lists(st.integers(0, MASK), max_size=40), size=st.integers(1, 24))
def test_a_sketch_is_that_of_the_plain_definition(elements: list[int], size: int) -> None:
    found = similarity_sketch(np.array(elements, np.uint64), size)

    assert found.dtype == np.uint64
    assert found.tolist() == plain_sketch(elements, size)


def test_a_sketch_of_full_size_is_that_of_the_plain_definition() -> None:
    elements = elements_of(1, 30)

    assert similarity_sketch(elements, SIZE).tolist() == plain_sketch(elements.tolist(), SIZE)


@given(elements=st.lists(st.integers(0, MASK), min_size=1, max_size=30))
def test_order_and_repetition_make_no_difference(elements: list[int]) -> None:
    once = similarity_sketch(np.array(sorted(set(elements)), np.uint64), 16)

    assert similarity_sketch(np.array([*elements, *reversed(elements)], np.uint64), 16).tolist() == once.tolist()


@pytest.mark.parametrize("union", [40, 300, 2_500])
@pytest.mark.parametrize("similarity", [0.1, 0.5, 0.7, 0.9])
def test_the_share_of_equal_values_estimates_jaccard_without_bias(union: int, similarity: float) -> None:
    errors = []
    for seed in range(200):
        one, other, true = pair(seed, union, similarity)
        sketches = [similarity_sketch(elements, SIZE) for elements in (one, other)]
        errors.append(float((sketches[0] == sketches[1]).mean()) - true)

    # MinHash with 250 values has a standard deviation of 0.032 at most, its mean over 200 pairs one of 0.0023.
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.04


def test_two_random_files_never_meet() -> None:
    # A kernel that overflows at 32 bits makes equal values of many, and everything a duplicate of everything.
    for seed in range(20):
        sketches = [similarity_sketch(elements_of(number, 5_000), SIZE) for number in (seed, 1_000 + seed)]
        keys = [band_keys(sketch, BANDS, ROWS) for sketch in sketches]
        assert not np.intersect1d(*keys).size
        assert (sketches[0] == sketches[1]).mean() < 0.02


def test_hashes_use_all_their_bits() -> None:
    values = np.concatenate([similarity_sketch(elements_of(seed, 20_000), SIZE) for seed in range(20)])
    keys = np.concatenate(
        [band_keys(similarity_sketch(elements_of(seed, 500), SIZE), BANDS, ROWS) for seed in range(60)]
    )

    shares = [float((keys >> np.uint64(bit) & np.uint64(1)).mean()) for bit in range(64)]
    assert len(np.unique(values)) == len(values)
    assert all(0.42 < share < 0.58 for share in shares)


def test_equal_values_of_different_bands_are_different_keys() -> None:
    keys = band_keys(np.full(SIZE, 7, np.uint64), BANDS, ROWS)

    assert len(np.unique(keys)) == BANDS


def test_pairs_at_the_papers_threshold_are_found_half_of_the_time() -> None:
    def meets(seed: int, similarity: float) -> bool:
        one, other, _ = pair(seed, 400, similarity)
        keys = [band_keys(similarity_sketch(elements, SIZE), BANDS, ROWS) for elements in (one, other)]
        return bool((keys[0] == keys[1]).any())

    found = {similarity: sum(meets(seed, similarity) for seed in range(150)) / 150 for similarity in (0.3, 0.7, 0.9)}

    assert found[0.3] < 0.02
    assert 0.4 < found[0.7] < 0.65  # 1 - (1 - 0.7**10)**25 = 0.51
    assert found[0.9] > 0.98


@given(
    one=st.lists(st.integers(0, 30), max_size=20, unique=True),
    other=st.lists(st.integers(0, 30), max_size=20, unique=True),
)
def test_jaccard_is_that_of_sets(one: list[int], other: list[int]) -> None:
    found = jaccard(np.array(sorted(one), np.uint32), np.array(sorted(other), np.uint32))

    union = set(one) | set(other)
    assert found == (len(set(one) & set(other)) / len(union) if union else 0.0)


def test_a_shingle_set_is_sorted_and_distinct() -> None:
    found = shingle_set(b"a b c d e f " * 20)

    assert found.dtype == np.uint32
    assert found.tolist() == sorted(set(found.tolist()))
    assert len(found) == 6


def test_case_spacing_and_punctuation_are_no_difference() -> None:
    assert keys_of(b"def Total(x):\n\treturn x + One", words=5, bands=4, rows=2)[0].tolist() == (
        keys_of(b"DEF total x return -- X, one\r\n", words=5, bands=4, rows=2)[0].tolist()
    )


def test_a_text_of_few_words_has_no_key() -> None:
    assert len(keys_of(b"one two three four", words=SHINGLE_WORDS, bands=BANDS, rows=ROWS)[0]) == 0
    assert len(keys_of(b"", words=SHINGLE_WORDS, bands=BANDS, rows=ROWS)[0]) == 0
    assert len(keys_of(b"one two three four five", words=SHINGLE_WORDS, bands=BANDS, rows=ROWS)[0]) == BANDS
