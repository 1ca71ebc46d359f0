"""Windows: the ids of the whole text, cut where typing does not move the cut."""

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.inference.windows import Windows
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer

SOURCE = Path(argparse.__file__).read_text(encoding="utf-8")
LAYOUTS: tuple[fim.PromptLayout, ...] = ("psm", "spm", "anchored")
TEXTS = st.text(max_size=200) | st.lists(
    st.sampled_from(["    ", "\n", "\r\n", "\r", " ", "self.", "\t", "é", "漢", "\x1c", "\u2028", "x1", "n't ", "):"]),
    max_size=60,
).map("".join)  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return _load(tokenizer_directory)


@cache
def _load(directory: Path) -> Tokenizer:
    return Tokenizer.load(directory)


def typed_prompts(
    tokenizer: Tokenizer, layout: fim.PromptLayout, *, room: int, lines_sent: int | None = None
) -> Iterator[list[int]]:
    """The prompts of somebody who types three stretches of a real file, key by key."""
    windows = Windows(tokenizer)
    for start in (9_000, 30_000, 60_000):
        end = SOURCE.index("\n", start + 250)
        for cursor in range(start, end):
            prefix, suffix = SOURCE[:cursor], SOURCE[end:]
            if lines_sent is not None:
                prefix = "\n".join(prefix.split("\n")[-lines_sent:])
                suffix = "\n".join(suffix.split("\n")[:lines_sent])
            around = windows.around(prefix, suffix, room, layout)
            yield fim.prompt(around.prefix, around.suffix, layout, typed=around.typed)


def recomputed(prompts: Iterator[list[int]]) -> list[int]:
    """For each prompt, the tokens behind those that it shares with the one before; at least one is computed."""
    costs, before = [], next(prompts)
    for prompt in prompts:
        shared = next(
            (n for n, pair in enumerate(zip(before, prompt, strict=False)) if pair[0] != pair[1]), len(before)
        )
        costs.append(len(prompt) - min(shared, len(prompt) - 1))
        before = prompt
    return costs


@given(text=TEXTS)
def test_pieces_make_up_the_ids_of_the_whole_text(tokenizer: Tokenizer, text: str) -> None:
    windows = Windows(tokenizer)

    assert windows.encode(text) == tokenizer.encode(text)
    assert windows.end_of(text, 10_000) == tokenizer.encode(text)


def test_a_real_file_has_the_ids_that_training_gave_it(tokenizer: Tokenizer) -> None:
    assert Windows(tokenizer).encode(SOURCE) == tokenizer.encode(SOURCE)


@given(prefix=TEXTS, suffix=TEXTS, layout=st.sampled_from(LAYOUTS))
def test_a_prompt_with_room_has_the_whole_file_in_it(
    tokenizer: Tokenizer, prefix: str, suffix: str, layout: fim.PromptLayout
) -> None:
    around = Windows(tokenizer).around(prefix, suffix, 2_000, layout)

    assert tokenizer.decode([*around.prefix, *around.typed]) == prefix
    assert tokenizer.decode(around.suffix) == suffix


@given(prefix=TEXTS, suffix=TEXTS, layout=st.sampled_from(LAYOUTS), room=st.integers(-3, 120))
def test_a_prompt_without_room_keeps_what_is_nearest_to_the_cursor(
    tokenizer: Tokenizer, prefix: str, suffix: str, layout: fim.PromptLayout, room: int
) -> None:
    around = Windows(tokenizer).around(prefix, suffix, room, layout)

    assert len(around.prefix) + len(around.typed) + len(around.suffix) <= max(room, 0)
    before = tokenizer.decode_bytes([*around.prefix, *around.typed])
    assert prefix.encode().endswith(before)
    assert suffix.encode().startswith(tokenizer.decode_bytes(around.suffix))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["spm", "anchored"])
@pytest.mark.parametrize("lines_sent", [None, 20])
def test_a_key_has_three_tokens_computed_at_the_median(
    tokenizer: Tokenizer, layout: fim.PromptLayout, lines_sent: int | None
) -> None:
    costs = recomputed(typed_prompts(tokenizer, layout, room=1_000, lines_sent=lines_sent))

    assert len(costs) > 700
    assert median(costs) <= 3


@pytest.mark.slow
def test_the_layout_of_editors_rarely_has_a_whole_prompt_read_again(tokenizer: Tokenizer) -> None:
    editor = recomputed(typed_prompts(tokenizer, "spm", room=1_000))
    plain = recomputed(typed_prompts(tokenizer, "psm", room=1_000))

    assert sum(cost > 10 for cost in editor) < len(editor) / 50
    assert sum(editor) < sum(plain) / 10


def test_a_window_uses_most_of_its_room(tokenizer: Tokenizer) -> None:
    around = Windows(tokenizer).around(SOURCE[:50_000], SOURCE[50_000:], 1_000, "spm")

    assert 500 <= len(around.prefix) <= 750
    assert 150 <= len(around.suffix) <= 250


def test_a_short_prefix_leaves_its_room_to_the_suffix_in_steps(tokenizer: Tokenizer) -> None:
    windows = Windows(tokenizer)
    prefixes = ["x", "x = 1", "x = 1\ny = 2\n"]

    suffixes = {tuple(windows.around(prefix, SOURCE, 800, "spm").suffix) for prefix in prefixes}

    assert len(suffixes) == 1
    assert 500 < len(suffixes.pop()) <= 700


def test_one_endless_line_is_cut_to_its_end(tokenizer: Tokenizer) -> None:
    line = "".join(f"{number}," for number in range(20_000))

    ids = Windows(tokenizer).end_of(line, 300)

    assert 150 < len(ids) <= 300
    assert line.endswith(tokenizer.decode(ids))


def test_an_edit_far_above_the_window_does_not_move_it(tokenizer: Tokenizer) -> None:
    windows = Windows(tokenizer)
    prefix = SOURCE[:50_000]

    before = windows.around(prefix, "", 500, "spm")
    after = windows.around("import sys\n\n" + prefix, "", 500, "spm")

    assert before == after


class Recording(Tokenizer):
    """The given tokenizer, and all that it was asked to encode."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.encoded: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        return self._tokenizer.encode(text)


def test_what_was_encoded_is_not_encoded_again(tokenizer: Tokenizer) -> None:
    recording = Recording(tokenizer)
    windows = Windows(recording)
    windows.around(SOURCE[:50_000], SOURCE[50_400:], 1_000, "spm")
    recording.encoded.clear()

    windows.around(SOURCE[:50_001], SOURCE[50_400:], 1_000, "spm")

    assert len(recording.encoded) <= 2


def test_a_window_costs_no_more_in_a_longer_file(tokenizer: Tokenizer) -> None:
    costs = []
    for copies in (1, 20):
        recording = Recording(tokenizer)
        Windows(recording).around(SOURCE * copies, SOURCE * copies, 500, "spm")
        costs.append(sum(map(len, recording.encoded)))

    assert costs[0] == costs[1] < 10_000


# What is rendered elsewhere, and the anchored layout.


def test_an_anchored_prompt_begins_its_middle_with_what_is_typed_of_the_line(tokenizer: Tokenizer) -> None:
    around = Windows(tokenizer).around("a = 1\n    retur", "\nb", 100, "anchored")

    ids = fim.prompt(around.prefix, around.suffix, "anchored", typed=around.typed)

    encode = tokenizer.encode
    assert ids == [
        FIM_PREFIX, *encode("a = 1\n    "), FIM_SUFFIX, *encode("\nb"), FIM_MIDDLE, *encode("retur"),
    ]  # fmt: skip


@given(budget=st.integers(0, 80), layout=st.sampled_from(LAYOUTS), typed=st.integers(0, 20))
def test_a_rendered_infill_is_shortened_around_its_control_tokens(
    budget: int, layout: fim.PromptLayout, typed: int
) -> None:
    prefix, suffix = list(range(100, 130)), list(range(200, 230))
    middle = list(range(300, 300 + typed)) if layout == "anchored" else []
    whole = [5, 50, 6, 51, 52, 6, 53, 6, *fim.prompt(prefix, suffix, layout, typed=middle)]

    short = fim.shorten_prompt(whole, budget)

    assert len(short) <= max(budget, 4)  # the file's separator stays, too
    inside = short[short.index(FIM_PREFIX) :]
    assert [token for token in inside if token < 38] == [token for token in whole if 0 < token < 4]
    kept = [token for token in inside if token >= 38]
    before = [token for token in kept if 100 <= token < 130]
    after = [token for token in kept if 200 <= token < 230]
    assert before == prefix[len(prefix) - len(before) :]
    assert after == suffix[: len(after)]


def test_the_oldest_files_of_a_rendered_prompt_go_first() -> None:
    whole = [5, 50, 6, 51, 52, 6, 53, 6, FIM_PREFIX, 60, FIM_SUFFIX, 61, FIM_MIDDLE]

    assert fim.shorten_prompt(whole, 12) == [5, 50, 6, 53, 6, FIM_PREFIX, 60, FIM_SUFFIX, 61, FIM_MIDDLE]
    assert fim.shorten_prompt(whole, 7) == [6, FIM_PREFIX, 60, FIM_SUFFIX, 61, FIM_MIDDLE]


def test_any_other_prompt_keeps_the_control_token_that_its_rest_stands_behind() -> None:
    assert fim.shorten_prompt([0, 50, 51, 6, 52, 53, 54], 3) == [6, 53, 54]
    assert fim.shorten_prompt([50, 51, 52, 53], 3) == [51, 52, 53]
