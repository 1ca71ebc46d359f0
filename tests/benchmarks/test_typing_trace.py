"""The person who types in the keystroke benchmark: the file is whole at the end, and every key is a small change."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typists import trace

pytestmark = pytest.mark.slow

TEXT = Path(pytest.__file__).read_text(encoding="utf-8")  # a real file


@given(text=st.text(alphabet="ab (:\n\t", max_size=200), seed=st.integers(0, 1000))
def test_at_the_end_the_file_is_what_it_was(text: str, seed: int) -> None:
    keys = list(trace.keystrokes(text, seed))

    assert bool(keys) == bool(text.strip())
    assert not keys or keys[-1].before + keys[-1].after == text


def test_every_key_changes_only_the_end_of_what_is_before_the_cursor() -> None:
    for last, key in pairwise(trace.keystrokes(TEXT, 0)):
        if key.kind == "jump":
            assert key.before + key.after == last.before + last.after
            continue
        assert key.after == last.after
        longer, shorter = (key.before, last.before) if key.kind == "type" else (last.before, key.before)
        assert longer.startswith(shorter)
        added = longer[len(shorter) :]
        assert len(added) == 1 or (added.startswith("\n") and not added.strip())


def test_the_same_seed_types_the_same_and_another_does_not() -> None:
    first, again, other = (list(trace.keystrokes(TEXT, seed)) for seed in (3, 3, 4))

    assert first == again
    assert first != other


def test_a_person_slips_leaves_places_unfinished_and_waits_as_often_as_the_habits_say() -> None:
    habits = trace.Habits(holes=8, hole_lines=6, wait_share=0.25, leave_share=1.0)

    keys = list(trace.keystrokes(TEXT, 1, habits))

    typed = [key for key in keys if key.kind == "type"]
    assert sum(key.kind == "jump" for key in keys) == 16  # every place twice
    assert 0.02 < sum(key.kind == "delete" for key in keys) / len(typed) < 0.5
    assert 0.15 < sum(key.waits for key in typed) / len(typed) < 0.35
    assert not any(key.waits for key in keys if key.kind != "type")
    pauses = sorted(key.pause_s for key in keys)
    assert pauses[0] > 0
    assert 0.1 < pauses[len(pauses) // 2] < 0.17


def test_without_slips_and_second_thoughts_nothing_is_deleted() -> None:
    habits = replace(trace.Habits(), slip_share=0.0, rethink_share=0.0)

    keys = list(trace.keystrokes(TEXT, 2, habits))

    assert {key.kind for key in keys} == {"jump", "type"}
