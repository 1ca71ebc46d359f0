"""The real StarCoder2 vocabulary against llama.cpp's reference encodings."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "starcoder2-tokenizer"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="SKIPPED: ../shared has no StarCoder2 vocabulary")


@cache
def vocabulary() -> Tokenizer:
    return Tokenizer.load(FOLDER)


def references() -> list[tuple[str, list[int]]]:
    texts = (FOLDER / "ggml-vocab-starcoder.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = (FOLDER / "ggml-vocab-starcoder.gguf.out").read_text().split("\n")
    return [(text, [int(token) for token in line.split()]) for text, line in zip(texts, lines, strict=True)]


def test_all_reference_encodings_are_reproduced() -> None:
    pairs = references()

    assert len(pairs) == 47
    assert [vocabulary().encode(text) for text, _ in pairs] == [ids for _, ids in pairs]


def test_its_special_tokens_are_the_ones_we_know() -> None:
    assert vocabulary().vocab_size == 49_152
    assert [vocabulary().encode_prompt(token) for token in SPECIAL_TOKENS] == [[number] for number in range(38)]


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "x", " ", "\n", "é", "def "]), max_size=12).map("".join))
def test_text_never_becomes_a_control_token(text: str) -> None:
    ids = vocabulary().encode(text)

    assert all(token_id >= 38 for token_id in ids)
    assert vocabulary().decode(ids) == text
