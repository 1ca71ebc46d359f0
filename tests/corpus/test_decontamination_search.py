"""The compiled searches of decontamination do what their plain versions do."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from starsmith.core.hashing import code_tokens
from starsmith.corpus import decontamination_text, known_hashes
from starsmith.corpus.decontamination import EXACT, DecontaminationConfig, Decontaminator
from starsmith.corpus.decontamination_guards import MOST_CHOSEN, index_near
from starsmith.corpus.decontamination_near import find_near, ngram_hashes
from starsmith.corpus.decontamination_text import DEFINING_WORDS, HIDDEN, KEYWORDS, read, token_end, word_hash

sources = st.text(alphabet="ab(.'\"1_ \n=é+", max_size=60) | st.lists(
    st.sampled_from(
        [
            "def ",
            "return ",
            "for ",
            "Value",
            "x",
            "y2",
            "(",
            ")",
            ".",
            "'",
            "in ",
            " ",
            "\n",
            "12",
            "ü",
            "-",
            "eightlet",
        ]
    ),
    max_size=40,
).map("".join)
codes = st.lists(st.sampled_from(["f(1)", "a.b", "if", "+", "==", "7", "while", "'s'", ",", "g("]), max_size=30)


def as_bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def plain_blind(content: bytes) -> list[bytes]:
    """The tokens with variables hidden, one after the other."""
    tokens = code_tokens(content)
    words = [content[start:end].lower() for start, end in zip(tokens.starts, tokens.ends, strict=True)]
    known = {**dict.fromkeys(KEYWORDS.lower().split(), "keyword"),
             **dict.fromkeys(DEFINING_WORDS.split(), "defining")}  # fmt: skip

    def kind(word: bytes) -> str:
        if not (word[0] >= 128 or chr(word[0]).isalnum() or word[:1] == b"_"):
            return "mark"
        return "number" if chr(word[0]).isdecimal() and word[0] < 128 else known.get(word.decode("latin-1"), "name")

    hidden = []
    for place, word in enumerate(words):
        before = words[place - 1] if place else b"\0"
        after = words[place + 1] if place + 1 < len(words) else b"\0"
        called = after == b"(" and kind(before) != "defining"
        beside = "name" in (kind(before) if place else "mark", kind(after) if after != b"\0" else "mark")
        is_variable = kind(word) == "name" and not called and before[:1] not in (b".", b"'", b'"') and not beside
        hidden.append(b"?" if is_variable else word)
    return hidden


def as_names(values: Sequence[Any]) -> list[int]:
    """Values numbered in the order in which they first appear: equal lists have equal patterns of equality."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def plain_near(file: list[bytes], texts: list[list[bytes]], ngram: int, least: int, share: float) -> float:
    """The largest share of a text's n-grams within twice its tokens, 0 if none is large enough."""

    def grams(words: list[bytes]) -> list[tuple[bytes, ...]]:
        return [tuple(words[place : place + ngram]) for place in range(len(words) - ngram + 1)]

    found, best = grams(file), 0.0
    for text in texts:
        wanted = set(grams(text))
        if not least <= len(wanted) <= MOST_CHOSEN:
            continue
        for place in range(len(found)):
            best = max(best, len(wanted & set(found[place : place + 2 * len(text) + 1])) / len(wanted))
    return best if best >= share else 0.0


@given(sources)
@example("def f(x): return x.y('z') + g(2) # some words")
@example("eightlet eightlett sixteen_letters_ sixteen_letters_1 x")
@example("\0a\x7fB\0")
def test_a_file_is_read_as_the_plain_rules_say(text: str) -> None:
    data = as_bytes(text)

    normal, values, starts = read(data)

    tokens = code_tokens(text.encode())
    assert normal.tobytes() == bytes(byte for byte in text.encode().lower() if byte > 32 and byte != 127)
    assert starts.tolist() == tokens.starts.tolist()
    assert [token_end(data, start) for start in starts] == tokens.ends.tolist()
    assert as_names(values.tolist()) == as_names(plain_blind(text.encode()))


@given(st.text(alphabet="ab(.1 =", max_size=60), st.integers(1, 5))
def test_equal_n_grams_have_equal_hashes(text: str, ngram: int) -> None:
    hashes = ngram_hashes(read(as_bytes(text))[1], ngram)

    words = plain_blind(text.encode())
    assert as_names(hashes.tolist()) == as_names(
        [tuple(words[first : first + ngram]) for first in range(len(words) - ngram + 1)]
    )


@pytest.mark.parametrize("word", ["call", "eightlet", "ninelette", "sixteen_letters_", "seventeen_letters"])
def test_a_word_has_the_hash_that_the_plain_version_gives(word: str) -> None:
    values = read(as_bytes(f"{word.upper()}("))[1]

    assert values[0] == word_hash(word.encode()) != HIDDEN


def test_every_keyword_has_a_slot_of_its_own() -> None:
    words = {word.lower() for word in f"{KEYWORDS} {DEFINING_WORDS}".split()}

    assert np.count_nonzero(decontamination_text._KEYWORD_SLOTS) == len(words)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.lists(st.integers(0, 2**64 - 1), max_size=5))
def test_known_hashes_are_found_and_no_others(values: list[int], others: list[int]) -> None:
    ordered = np.sort(np.array(values, np.uint64))

    known = known_hashes.index(ordered)

    asked = np.array([*values, *others], np.uint64)
    passed = known_hashes.those_of(known_hashes.those_of(asked, known.coarse), known.fine)
    assert set(values) <= set(passed.tolist())
    for value in asked:
        place = known_hashes.find(known.keys, known.begins, value)
        assert (place >= 0) == (int(value) in values)
        if place >= 0:
            assert set(ordered[known.firsts[place] : known.firsts[place + 1]].tolist()) == {int(value)}


@pytest.mark.slow
@given(st.lists(codes, min_size=1, max_size=4), codes, codes, st.data())
def test_the_near_search_is_the_plain_one(
    texts: list[list[str]], before: list[str], after: list[str], data: st.DataObject
) -> None:
    copy = list(data.draw(st.sampled_from(texts)))
    for _ in range(data.draw(st.integers(0, 4))):
        if copy:
            copy[data.draw(st.integers(0, len(copy) - 1))] = data.draw(st.sampled_from(["-", "h(2)", ""]))
    file, contents = " ".join([*before, *copy, *after]), [" ".join(text) for text in texts]
    bounds = np.cumsum([0, *(len(text) for text in contents)])
    settings = {"ngram": 3, "least_ngrams": 4, "least_share": 0.65, "most_tasks": 99}

    found = index_near(as_bytes("".join(contents)), bounds, np.arange(len(texts)), **settings)
    number, share, _, _ = find_near(read(as_bytes(file))[1], found)

    wanted = plain_near(plain_blind(file.encode()), [plain_blind(text.encode()) for text in contents], 3, 4, 0.65)
    assert (number >= 0) == (wanted > 0)
    assert math.isclose(share, wanted)


def test_guards_are_wanted_of_every_text_and_no_more_than_a_near_copy_must_have() -> None:
    texts = ["".join(f"call_{number}({place}) + " for place in range(5 + number)) for number in range(40)]
    data, bounds = as_bytes("".join(texts)), np.cumsum([0, *map(len, texts)])

    found = index_near(data, bounds, np.arange(40), ngram=10, least_ngrams=20, least_share=0.65, most_tasks=24)

    sizes, guards = np.diff(found.bounds), np.bincount(found.owners, minlength=40)
    assert sizes.max() == MOST_CHOSEN
    assert (guards <= sizes).all()
    assert (found.wanted[sizes > 0] >= 1).all()
    assert (sizes - guards + found.wanted <= np.ceil(0.65 * sizes)).all()


def test_a_long_text_is_known_by_the_n_grams_of_the_lowest_hashes_alone() -> None:
    text = "".join(f"call_{number}({number * 7919}) + " for number in range(500))

    found = Decontaminator([("bench", "0", "solution", text)], DecontaminationConfig())
    match, half = found.check(f"x = 1\n{text}"), found.check(text[: len(text) // 2])

    assert match is not None
    assert match.kind == EXACT
    assert half is None
