"""Drafts: what followed the same tokens before."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.inference.drafting import (
    GRAM,
    Deferred,
    PromptLookup,
    RepositoryDrafts,
    drafter_of,
)
from starsmith.tokenizer.bpe import FILE_SEP, FIM_MIDDLE, Tokenizer

IDS = st.lists(st.integers(40, 44), max_size=80)


@pytest.fixture
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


def test_what_followed_the_last_tokens_before_is_guessed() -> None:
    assert PromptLookup().propose([50, 51, 52, 53, 54, 60, 50, 51], 3) == [52, 53, 54]


def test_the_place_with_the_longest_match_is_taken_and_of_equal_ones_the_last() -> None:
    longest = [49, 50, 51, 70, 99, 50, 51, 71, 98, 49, 50, 51]
    latest = [97, 50, 51, 70, 99, 50, 51, 71, 98, 50, 51]

    assert PromptLookup().propose(longest, 1) == [70]
    assert PromptLookup().propose(latest, 1) == [71]


def test_what_was_never_seen_has_no_guess() -> None:
    assert not PromptLookup().propose([50, 51, 52, 53], 4)
    assert not PromptLookup().propose([], 4)
    assert not PromptLookup().propose([50, 51, 50, 51], 0)


def test_a_guess_never_reaches_over_a_control_token() -> None:
    assert PromptLookup().propose([50, 51, 52, FIM_MIDDLE, 53, 50, 51], 4) == [52]
    assert not PromptLookup().propose([50, FIM_MIDDLE, 52, 53, 51, FIM_MIDDLE], 4)


def test_the_suffix_is_looked_in_too_as_the_prompt_has_it_in_front() -> None:
    suffix, prefix = [70, 71, 72, 73], [80, 81, 70, 71]

    assert PromptLookup().propose([1, 3, *suffix, FIM_MIDDLE, *prefix], 2) == [72, 73]


def test_what_was_suggested_before_can_be_looked_in() -> None:
    assert PromptLookup([60, 61, 62, 63]).propose([50, 60, 61], 2) == [62, 63]


@given(start=IDS, written=IDS, limit=st.integers(1, 8))
def test_asking_at_every_token_gives_the_same_as_asking_once(start: list[int], written: list[int], limit: int) -> None:
    growing, ids = PromptLookup(), list(start)
    growing.propose(ids, limit)
    for token in written:
        ids.append(token)

        assert growing.propose(ids, limit) == PromptLookup().propose(ids, limit)


@given(ids=IDS, limit=st.integers(1, 8))
def test_guesses_stand_behind_an_equal_run_in_the_text(ids: list[int], limit: int) -> None:
    guesses = list(PromptLookup().propose(ids, limit))

    assert len(guesses) <= limit
    run = [*ids[-2:], *guesses]
    starts = range(len(ids) - len(run) + 1)
    assert not guesses or any(ids[start : start + len(run)] == run for start in starts)


def test_a_repository_knows_what_follows_a_run_of_its_tokens() -> None:
    drafts = RepositoryDrafts(np.array([50, 51, 52, 53, 54, 55, FILE_SEP, 60, 61], np.int32))

    assert drafts([99, 50, 51, 52, 53], 8) == [54, 55]
    assert not drafts([50, 51, 52, 99], 8)
    assert not drafts([51, 52, 53], 8)
    assert not RepositoryDrafts(np.zeros(0, np.int32))([50, 51, 52, 53], 8)


@given(ids=st.lists(st.integers(40, 42), min_size=GRAM, max_size=200), start=st.integers(0, 100))
def test_a_repository_finds_every_run_that_it_has(ids: list[int], start: int) -> None:
    start = min(start, len(ids) - GRAM)
    drafts = RepositoryDrafts(np.array(ids, np.int32))

    guesses = drafts(ids[start : start + GRAM], 1)

    followers = {
        ids[place + GRAM] for place in range(len(ids) - GRAM) if ids[place : place + GRAM] == ids[start : start + GRAM]
    }
    assert not guesses or guesses[0] in followers
    assert guesses or start + GRAM == len(ids) or not followers or ids[-GRAM:] == ids[start : start + GRAM]


def test_a_folder_is_read_without_what_is_no_source(tokenizer: Tokenizer, tmp_path: Path) -> None:
    text = "def first_function(value):\n    return value + 1\n"
    (tmp_path / "a.py").write_text(text)
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config.py").write_text("hidden = 1\n")
    (tmp_path / "large.py").write_text("x = 1\n" * 100_000)
    ids = tokenizer.encode(text)

    drafts = RepositoryDrafts.read(tokenizer, [tmp_path])

    assert len(drafts) == len(ids) + 1
    assert drafts(ids[:GRAM], 5) == ids[GRAM : GRAM + 5]


def test_a_folder_takes_no_more_memory_than_it_may(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.py").write_text("value = other + 1\n" * 50)

    assert len(RepositoryDrafts.read(tokenizer, [tmp_path], most_tokens=100)) == 100


def test_a_lookup_that_is_not_ready_has_no_guesses() -> None:
    go = Event()

    def prepare() -> RepositoryDrafts:
        go.wait()
        return RepositoryDrafts(np.array([50, 51, 52, 53, 54], np.int32))

    deferred = Deferred(prepare)
    early = deferred([50, 51, 52, 53], 1)
    go.set()
    deferred.wait()

    assert not early
    assert deferred([50, 51, 52, 53], 1) == [54]


def test_a_long_match_in_the_file_goes_before_the_repository_and_a_short_one_after() -> None:
    def guess(ids: list[int], found: list[int]) -> list[int]:
        return list(drafter_of(lambda ids, limit: found).propose(ids, 1))

    assert guess([50, 51, 52, 53, 54, 60, 50, 51, 52, 53], [77]) == [54]
    assert guess([52, 53, 54, 60, 52, 53], [77]) == [77]
    assert guess([52, 53, 54, 60, 52, 53], []) == [54]
