"""The infilling format: nothing of a file is lost, and control tokens come from us alone."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starsmith.core.errors import ArtifactError
from starsmith.tokenizer import cuts, fim
from starsmith.tokenizer.bpe import (
    END_OF_TEXT,
    FIM_MIDDLE,
    FIM_PREFIX,
    FIM_SUFFIX,
    SPECIAL_TOKENS,
    Tokenizer,
    split_at_controls,
)
from worlds import function_text

pytestmark = pytest.mark.slow

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


LAYOUTS: tuple[fim.Layout, ...] = ("psm", "spm")
SHARE = st.floats(0, 1, exclude_max=True)
CUT = st.tuples(st.sampled_from([cuts.CHARACTER, cuts.LINE]), SHARE, SHARE, SHARE)


def cut_of(tokenizer: Tokenizer, ids: list[int], how: tuple[str, float, float, float]) -> tuple[fim.Text, fim.Cut]:
    text = fim.Text.of(tokenizer, ids)
    span = cuts.choose(text.content, kind=how[0], language="", shares=how[1:])
    return text, fim.cut(tokenizer, [text], [span])[0]


def whole(cut: fim.Cut) -> list[int]:
    ids: list[int] = fim.join([cut.prefix, cut.middle, cut.suffix]).tolist()
    return ids


def parts_of(cut: fim.Cut) -> list[list[int]]:
    return [list(part) for part in (cut.prefix, cut.middle, cut.suffix)]


@given(text=TEXTS, how=CUT)
@settings(max_examples=300)
def test_the_three_parts_of_a_cut_join_to_the_document(
    tokenizer: Tokenizer, text: str, how: tuple[str, float, float, float]
) -> None:
    _, cut = cut_of(tokenizer, tokenizer.encode(text), how)

    parts = parts_of(cut)
    assert tokenizer.decode_bytes(whole(cut)) == text.encode()
    for part in parts:
        tokenizer.decode_bytes(part).decode()  # raises where a cut fell inside a character
        assert all(token_id >= len(SPECIAL_TOKENS) for token_id in part)


@given(texts=st.lists(TEXTS, max_size=5), how=CUT)
def test_texts_cut_together_are_cut_as_each_alone(
    tokenizer: Tokenizer, texts: list[str], how: tuple[str, float, float, float]
) -> None:
    read = [fim.Text.of(tokenizer, tokenizer.encode(text)) for text in texts]
    spans = [cuts.choose(text.content, kind=how[0], language="", shares=how[1:]) for text in read]

    together = fim.cut(tokenizer, read, spans)

    alone = [fim.cut(tokenizer, [text], [span])[0] for text, span in zip(read, spans, strict=True)]
    assert [parts_of(cut) for cut in together] == [parts_of(cut) for cut in alone]


REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "starcoder2-tokenizer"
SCRIPTS = [
    "def f():\n",
    "naïve = 'é'\r\n",
    "# 漢字かな\n",
    "שלום",
    "नमस्ते",
    "🙂🏽👩‍👩‍👧",
    "λ→∀",
    "\t\t",
    "    ",
    "1234",
    "привет",
    "\n\n",
]


@pytest.mark.skipif(not REAL.is_dir(), reason="SKIPPED: ../shared has no StarCoder2 vocabulary")
@given(text=st.lists(st.sampled_from(SCRIPTS), max_size=40).map("".join), how=CUT)
def test_with_starcoder2s_vocabulary_too_the_parts_join_to_the_document(
    text: str, how: tuple[str, float, float, float]
) -> None:
    real = _load(REAL)

    _, cut = cut_of(real, real.encode(text), how)

    assert real.decode_bytes(whole(cut)) == text.encode()
    for part in parts_of(cut):
        real.decode_bytes(part).decode()  # raises where a cut fell inside a character


def test_nearly_all_cuts_are_what_encoding_the_parts_anew_gives(tokenizer: Tokenizer) -> None:
    document = "".join(function_text(seed) for seed in range(6))
    text = fim.Text.of(tokenizer, tokenizer.encode(document))
    random = np.random.default_rng(0)
    spans = [cuts.at_characters(text.content, random.random(2).tolist()) for _ in range(300)]

    found = fim.cut(tokenizer, [text] * len(spans), spans)

    plain = [tokenizer.encode_batch([document[:a], document[a:b], document[b:]]) for a, b in spans]
    same = sum(parts_of(cut) == parts for cut, parts in zip(found, plain, strict=True))
    assert same / len(spans) > 0.95


def test_cuts_fall_inside_tokens_as_well_as_between_them(tokenizer: Tokenizer) -> None:
    text = fim.Text.of(tokenizer, tokenizer.encode("    return_value = alpha_beta(gamma)\n" * 4))
    random = np.random.default_rng(0)

    spans = [cuts.at_characters(text.content, random.random(2).tolist()) for _ in range(200)]

    inside = sum(start not in text.offsets for start, _ in spans)
    assert 20 < inside < 180


@given(document=MARKED, how=CUT)
def test_a_cut_loses_no_control_token(
    tokenizer: Tokenizer, document: tuple[list[str], list[int]], how: tuple[str, float, float, float]
) -> None:
    ids = tokenizer.encode_marked(*joined(*document))

    _, cut = cut_of(tokenizer, ids, how)

    parts = whole(cut)
    assert tokenizer.decode_bytes(parts) == tokenizer.decode_bytes(ids)
    special = range(len(SPECIAL_TOKENS))
    assert [number for number in parts if number in special] == [number for number in ids if number in special]


@given(text=TEXTS, first=st.integers(0, 3), last=st.integers(0, 3), how=CUT)
def test_a_stretch_that_begins_or_ends_inside_a_character_loses_no_byte(
    tokenizer: Tokenizer, text: str, first: int, last: int, how: tuple[str, float, float, float]
) -> None:
    ids = tokenizer.encode("漢字" + text + "🙂é")
    ids = ids[first : len(ids) - last]

    _, cut = cut_of(tokenizer, ids, how)

    assert tokenizer.decode_bytes(whole(cut)) == tokenizer.decode_bytes(ids)


@given(text=TEXTS, how=CUT)
def test_a_cut_between_tokens_adds_none(tokenizer: Tokenizer, text: str, how: tuple[str, float, float, float]) -> None:
    ids = tokenizer.encode(text)
    read = fim.Text.of(tokenizer, ids)

    cut = fim.cut_between_tokens(read, cuts.choose(read.content, kind=how[0], language="", shares=how[1:]))

    assert whole(cut) == ids


@given(before=st.integers(0, 9), after=st.integers(0, 9), tokens=st.integers(0, 20))
def test_a_cut_is_shortened_at_its_outer_ends(before: int, after: int, tokens: int) -> None:
    cut = fim.Cut(list(range(before)), [100, 101], list(range(200, 200 + after)))

    shorter = fim.shorten(cut, tokens)

    if tokens > before + after:
        assert shorter is None
    else:
        assert shorter is not None
        assert list(shorter.middle) == [100, 101]
        assert len(shorter.prefix) + len(shorter.suffix) == before + after - tokens
        assert list(shorter.prefix) == list(range(before))[before - len(shorter.prefix) :]
        assert list(shorter.suffix) == list(range(200, 200 + after))[: len(shorter.suffix)]


def test_both_layouts_are_starcoder2s() -> None:
    cut = fim.Cut([101], [102, 103], [104])

    assert fim.example(cut, "psm").tolist() == [FIM_PREFIX, 101, FIM_SUFFIX, 104, FIM_MIDDLE, 102, 103, END_OF_TEXT]
    assert fim.example(cut, "spm").tolist() == [FIM_PREFIX, FIM_SUFFIX, 104, FIM_MIDDLE, 101, 102, 103, END_OF_TEXT]


def test_a_path_leads_the_prefix_in_both_layouts() -> None:
    cut = fim.Cut([101], [102], [103])

    psm, spm = (fim.join(fim.arrange(cut, layout, path=[7])).tolist() for layout in LAYOUTS)

    assert psm == [FIM_PREFIX, 7, 101, FIM_SUFFIX, 103, FIM_MIDDLE, 102]
    assert spm == [FIM_PREFIX, FIM_SUFFIX, 103, FIM_MIDDLE, 7, 101, 102]


def test_a_prompt_begins_as_the_example_it_was_learnt_from(tokenizer: Tokenizer) -> None:
    prefix, middle, suffix = "def f(x):\n    return ", "x + 1", "\n"
    text = fim.Text.of(tokenizer, tokenizer.encode(prefix + middle + suffix))
    span = (len(prefix), len(prefix) + len(middle))

    learnt = fim.example(fim.cut(tokenizer, [text], [span])[0], "psm").tolist()

    asked = fim.infill_prompt(tokenizer, prefix, suffix, budget_tokens=100)
    assert learnt[: len(asked)] == asked
    assert tokenizer.decode(learnt[len(asked) :]) == middle
    assert learnt[-1] == END_OF_TEXT


def repository_prompt(tokenizer: Tokenizer, budget: int) -> list[int]:
    return fim.repository_prompt(
        tokenizer,
        "owner/project",
        [("far.py", "far = 1\n" * 30), ("near.py", "near = 2\n")],
        cursor=("own.py", "before = ", "\nafter = 4\n"),
        budget_tokens=budget,
    )


def test_a_repository_prompt_is_the_papers(tokenizer: Tokenizer) -> None:
    ids = repository_prompt(tokenizer, 2000)

    text = "".join(SPECIAL_TOKENS[one] if one < len(SPECIAL_TOKENS) else tokenizer.decode([one]) for one in ids)
    assert text == (
        "<repo_name>owner/project<file_sep>far.py\n" + "far = 1\n" * 30 + "<file_sep>near.py\nnear = 2\n"
        "<file_sep><fim_prefix>own.py\nbefore = <fim_suffix>\nafter = 4\n<fim_middle>"
    )


def test_a_repository_prompt_leaves_out_the_files_that_are_farthest(tokenizer: Tokenizer) -> None:
    ids = repository_prompt(tokenizer, 100)

    assert len(ids) <= 100
    assert "near = 2" in tokenizer.decode(ids)
    assert "far = 1" not in tokenizer.decode(ids)


@pytest.mark.parametrize("budget", range(0, 60, 5))
def test_a_repository_prompt_never_exceeds_its_budget(tokenizer: Tokenizer, budget: int) -> None:
    assert len(repository_prompt(tokenizer, budget)) <= max(budget, 3)


def test_a_serving_prompt_keeps_what_is_nearest_to_the_cursor(tokenizer: Tokenizer) -> None:
    prefix, suffix = "alpha\n" * 200 + "near_before = ", "near_after()\n" + "omega\n" * 200

    ids = fim.infill_prompt(tokenizer, prefix, suffix, budget_tokens=64)

    assert len(ids) == 64
    before, after = (tokenizer.decode(part) for part in _parts(ids))
    assert prefix.endswith(before)
    assert before.endswith("near_before = ")
    assert suffix.startswith(after)
    assert after.startswith("near_after()")


@given(prefix=TEXTS, suffix=TEXTS, budget=st.integers(0, 200))
def test_a_serving_prompt_never_exceeds_its_budget(tokenizer: Tokenizer, prefix: str, suffix: str, budget: int) -> None:
    ids = fim.infill_prompt(tokenizer, prefix, suffix, budget_tokens=budget)

    assert len(ids) <= max(budget, 3)


def _parts(ids: list[int]) -> tuple[list[int], list[int]]:
    middle = ids.index(FIM_SUFFIX)
    return ids[1:middle], ids[middle + 1 : -1]
