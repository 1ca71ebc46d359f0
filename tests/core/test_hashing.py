"""Tokens, shingles and winnowing against plain versions that work on one item at a time."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from starsmith.core.hashing import TOKEN, code_tokens, mix, shingles, winnow

pytestmark = pytest.mark.slow  # tries thousands of texts

MASK = 2**64 - 1

steady = settings(derandomize=True, deadline=None)
contents = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(alphabet="ab_1 \t\n=(é", max_size=60).map(str.encode),
)


def plain_tokens(content: bytes) -> list[tuple[int, int]]:
    """Where the tokens begin and end, one byte after the other."""
    spans: list[tuple[int, int]] = []
    in_word = False
    for position, byte in enumerate(content):
        is_word = byte >= 128 or chr(byte).isalnum() or byte == ord("_")
        is_space = byte <= 32 or byte == 127
        if is_word and in_word:
            spans[-1] = (spans[-1][0], position + 1)
        elif not is_space:
            spans.append((position, position + 1))
        in_word = is_word
    return spans


def plain_winnow(hashes: Sequence[int], window: int) -> list[int]:
    """The rightmost minimum of every window."""
    width = min(window, len(hashes))
    chosen = set()
    for first in range(len(hashes) - width + 1 if hashes else 0):
        part = list(hashes[first : first + width])
        chosen.add(first + max(place for place, value in enumerate(part) if value == min(part)))
    return sorted(chosen)


def plain_mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def plain_hash(values: Sequence[int]) -> int:
    """Polynomial hash of mixed values, its length added, mixed."""
    base = 0x9E3779B97F4A7C15
    total = sum(plain_mix(value) * base**power for power, value in enumerate(values))
    return plain_mix((total + len(values)) & MASK)


@steady
@given(contents)
@example(b"")
@example(b"x")
@example(b"def f(x):\r\n\treturn x_1+1\x7f# gr\xc3\xb6\xc3\x9fe")
def test_tokens_are_runs_of_word_bytes_and_single_punctuation_bytes(content: bytes) -> None:
    tokens = code_tokens(content)

    assert list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)) == plain_tokens(content)


@steady
@given(contents)
def test_the_pattern_finds_the_same_tokens(content: bytes) -> None:
    assert [found.span() for found in TOKEN.finditer(content)] == plain_tokens(content)


@steady
@given(contents)
def test_a_token_hash_is_the_plain_hash_of_its_bytes(content: bytes) -> None:
    tokens = code_tokens(content)

    expected = [plain_hash([byte + 1 for byte in content[start:end]]) for start, end in plain_tokens(content)]
    assert tokens.hashes.tolist() == expected


@steady
@given(st.lists(st.integers(0, MASK), max_size=40), st.integers(1, 12))
def test_a_shingle_is_the_plain_hash_of_k_tokens(values: list[int], k: int) -> None:
    found = shingles(np.array(values, np.uint64), k)

    assert found.tolist() == [plain_hash(values[first : first + k]) for first in range(len(values) - k + 1)]


@steady
@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 12))
def test_winnowing_takes_the_rightmost_minimum_of_every_window(values: list[int], window: int) -> None:
    assert winnow(np.array(values, np.uint64), window).tolist() == plain_winnow(values, window)


@steady
@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=30))
def test_texts_that_share_the_guaranteed_length_share_a_fingerprint(first: list[str], second: list[str]) -> None:
    k, window = 3, 4
    stretch = k + window - 1
    shared = {tuple(first[at : at + stretch]) for at in range(len(first) - stretch + 1)} & {
        tuple(second[at : at + stretch]) for at in range(len(second) - stretch + 1)
    }

    chosen = []
    for words in (first, second):
        hashes = shingles(code_tokens(" ".join(words).encode()).hashes, k)
        chosen.append({tuple(words[at : at + k]) for at in winnow(hashes, window).tolist()})

    for words in shared:
        parts = {words[at : at + k] for at in range(window)}
        assert parts & chosen[0] & chosen[1]


def test_equal_tokens_have_equal_hashes_wherever_they_stand() -> None:
    tokens = code_tokens(b"name = other(name) + name * 2")

    assert len({int(tokens.hashes[place]) for place in (0, 4, 7)}) == 1
    assert len(set(tokens.hashes.tolist())) == len({b"name", b"=", b"other", b"(", b")", b"+", b"*", b"2"})


def test_a_text_in_other_white_space_has_the_same_tokens() -> None:
    first = code_tokens(b"def f(x):\n    return x + 1\n")
    second = code_tokens(b"def f ( x ) :\r\n\r\n\treturn x+1")

    assert first.hashes.tolist() == second.hashes.tolist()


def test_the_hash_of_100_000_names_has_no_collision_and_its_bits_are_even() -> None:
    hashes = code_tokens(" ".join(f"name{number}" for number in range(100_000)).encode()).hashes

    assert len(np.unique(hashes)) == 100_000
    ones = np.unpackbits(hashes.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert (abs(ones - 0.5) < 0.01).all()


def test_mix_is_splitmix64() -> None:
    state, outputs = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        outputs.append(state)

    # The published test vector of splitmix64 for this seed.
    assert mix(np.array(outputs, np.uint64)).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
