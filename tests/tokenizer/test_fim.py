"""The infilling format: nothing of a file is lost, and control tokens come from us alone."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starsmith.core.errors import ArtifactError
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import (
    END_OF_TEXT,
    FIM_MIDDLE,
    FIM_PREFIX,
    FIM_SUFFIX,
    SPECIAL_TOKENS,
    Tokenizer,
    split_at_controls,
)

TEXTS = st.text(max_size=300) | st.lists(
    st.sampled_from(["    ", "\n", "\r\n", "self.", "<fim_middle>", "é", "漢字", "🙂", "x1", "\t", "return "]),
    max_size=60,
).map("".join)


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return _load(tokenizer_directory)


@cache
def _load(directory: Path) -> Tokenizer:
    return Tokenizer.load(directory)


@given(text=TEXTS)
def test_text_survives_encoding_and_never_becomes_a_control_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)

    assert tokenizer.decode(ids) == text
    assert all(token_id >= len(SPECIAL_TOKENS) for token_id in ids)


# A document as the corpus makes it: texts, which may spell control tokens out, and control tokens between them.
MARKED = st.tuples(
    st.lists(TEXTS, min_size=1, max_size=6), st.lists(st.integers(0, len(SPECIAL_TOKENS) - 1), min_size=5, max_size=5)
)


def joined(pieces: list[str], ids: list[int]) -> tuple[str, list[int]]:
    """The text and its control offsets."""
    text, controls = pieces[0], []
    for piece, control in zip(pieces[1:], ids, strict=False):
        controls.append(len(text))
        text += SPECIAL_TOKENS[control] + piece
    return text, controls


@given(document=MARKED)
def test_a_text_is_split_at_its_control_tokens_and_nowhere_else(document: tuple[list[str], list[int]]) -> None:
    pieces, ids = document
    text, controls = joined(pieces, ids)

    assert split_at_controls(text, controls) == (pieces, ids[: len(controls)])


@given(document=MARKED)
def test_control_tokens_get_ids_where_the_record_says_so_and_text_none(
    tokenizer: Tokenizer, document: tuple[list[str], list[int]]
) -> None:
    pieces, ids = document
    text, controls = joined(pieces, ids)

    encoded = tokenizer.encode_marked(text, controls)

    assert [number for number in encoded if number < len(SPECIAL_TOKENS)] == ids[: len(controls)]
    assert tokenizer.decode(encoded) == "".join(pieces)
    assert tokenizer.encode_marked(text, []) == tokenizer.encode(text)


@pytest.mark.parametrize(("text", "offset"), [("x <EMAIL>", 0), ("<email>", 0), ("<EMAIL", 0), ("", 3), ("<KEY>", 9)])
def test_an_offset_at_which_no_control_token_stands_is_refused(text: str, offset: int) -> None:
    with pytest.raises(ArtifactError, match=f"at character {offset}") as caught:
        split_at_controls(text, [offset])

    assert "corpus build" in caught.value.hint


@given(text=TEXTS, seed=st.integers(0, 2**32))
@settings(max_examples=300)
def test_the_three_parts_of_a_cut_join_to_the_document(tokenizer: Tokenizer, text: str, seed: int) -> None:
    ids = tokenizer.encode(text)

    cut = fim.cut_at_characters(tokenizer, ids, np.random.default_rng(seed))

    assert tokenizer.decode(cut.prefix + cut.middle + cut.suffix) == text
    for part in (cut.prefix, cut.middle, cut.suffix):
        tokenizer.decode_bytes(part).decode()  # raises where a cut fell inside a character


def test_cuts_fall_inside_tokens_as_well_as_between_them(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("    return_value = alpha_beta(gamma)\n" * 4)
    borders = set(np.cumsum([0] + [len(tokenizer.decode_bytes([token_id])) for token_id in ids]).tolist())
    random = np.random.default_rng(0)

    at = [len(tokenizer.decode_bytes(fim.cut_at_characters(tokenizer, ids, random).prefix)) for _ in range(200)]

    inside = sum(position not in borders for position in at)
    assert 20 < inside < 180


@given(document=MARKED, seed=st.integers(0, 2**32))
def test_a_cut_loses_no_control_token(tokenizer: Tokenizer, document: tuple[list[str], list[int]], seed: int) -> None:
    ids = tokenizer.encode_marked(*joined(*document))

    cut = fim.cut_at_characters(tokenizer, ids, np.random.default_rng(seed))

    parts = cut.prefix + cut.middle + cut.suffix
    assert tokenizer.decode(parts) == tokenizer.decode(ids)
    special = range(len(SPECIAL_TOKENS))
    assert [number for number in parts if number in special] == [number for number in ids if number in special]


def test_both_layouts_are_starcoder2s() -> None:
    cut = fim.Cut([101], [102, 103], [104])

    assert fim.example(cut, "psm") == [FIM_PREFIX, 101, FIM_SUFFIX, 104, FIM_MIDDLE, 102, 103, END_OF_TEXT]
    assert fim.example(cut, "spm") == [FIM_PREFIX, FIM_SUFFIX, 104, FIM_MIDDLE, 101, 102, 103, END_OF_TEXT]


def test_a_serving_prompt_keeps_what_is_nearest_to_the_cursor(tokenizer: Tokenizer) -> None:
    prefix, suffix = "alpha\n" * 200 + "near_before = ", "near_after()\n" + "omega\n" * 200

    ids = fim.infill_prompt(tokenizer, prefix, suffix, budget_tokens=64)

    assert len(ids) == 64
    before, after = (tokenizer.decode(part) for part in _parts(ids))
    assert prefix.endswith(before)
    assert before.endswith("near_before = ")
    assert suffix.startswith(after)
    assert after.startswith("near_after()")


@pytest.mark.slow
@given(prefix=TEXTS, suffix=TEXTS, budget=st.integers(0, 200))
def test_a_serving_prompt_never_exceeds_its_budget(tokenizer: Tokenizer, prefix: str, suffix: str, budget: int) -> None:
    ids = fim.infill_prompt(tokenizer, prefix, suffix, budget_tokens=budget)

    assert len(ids) <= max(budget, 3)


def _parts(ids: list[int]) -> tuple[list[int], list[int]]:
    middle = ids.index(FIM_SUFFIX)
    return ids[1:middle], ids[middle + 1 : -1]
