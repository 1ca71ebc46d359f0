"""Tasks side by side on this machine, in order, and the one grouping."""

import itertools
import os
import pickle
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starsmith.core.errors import InputError
from starsmith.corpus.engine import IN_PROCESS_BYTES, Engine


@dataclass(frozen=True)
class Sum:
    numbers: tuple[int, ...]


def add(task: Sum) -> int:
    return sum(task.numbers)


def process_of(task: Sum) -> tuple[int, int]:
    return os.getpid(), sum(task.numbers)


def refuse(task: Sum) -> int:
    if sum(task.numbers) == 2:
        raise InputError("two is not wanted", hint="give another")
    return sum(task.numbers)


# Daft leaves the pipes of its processes to the garbage collector.
unclosed_pipes = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TASKS = [Sum((number,)) for number in range(12)]


def plain_meetings(numbers: list[int], keys: list[list[int]]) -> set[tuple[int, int]]:
    meeting: dict[int, list[int]] = defaultdict(list)
    for number, row in zip(numbers, keys, strict=True):
        for key in row:
            meeting[key].append(number)
    return {(min(group), other) for group in meeting.values() for other in group if other != min(group)}


def test_outcomes_come_in_the_order_of_the_tasks() -> None:
    assert list(Engine().run(add, TASKS, size_bytes=0)) == list(range(12))


@unclosed_pipes
@pytest.mark.slow
def test_large_work_goes_to_other_processes_and_small_work_stays() -> None:
    small = list(Engine().run(process_of, TASKS, size_bytes=IN_PROCESS_BYTES - 1))
    large = list(Engine().run(process_of, TASKS, size_bytes=IN_PROCESS_BYTES))

    assert {process for process, _ in small} == {os.getpid()}
    assert os.getpid() not in {process for process, _ in large}
    assert [total for _, total in large] == [total for _, total in small] == list(range(12))


@unclosed_pipes
@pytest.mark.parametrize("size_bytes", [0, pytest.param(IN_PROCESS_BYTES, marks=pytest.mark.slow)])
def test_what_a_user_can_mend_is_raised_as_it_was(size_bytes: int) -> None:
    with pytest.raises(InputError, match="two is not wanted") as caught:
        list(Engine().run(refuse, TASKS, size_bytes=size_bytes))

    assert caught.value.hint == "give another"


def test_no_task_gives_no_outcome() -> None:
    assert list(Engine().run(add, [], size_bytes=0)) == []


def test_an_engine_is_a_value() -> None:
    assert pickle.loads(pickle.dumps(Engine("auto"))) == Engine("auto")


def test_rows_that_share_a_key_meet() -> None:
    keys = np.array([[1, 2], [1, 3], [6, 5], [9, 3], [2**64 - 1, 8], [7, 2**64 - 1]], np.uint64)

    found = Engine().meeting_places(np.array([4, 7, 8, 9, 11, 12]), keys)

    assert found.tolist() == [[4, 7], [7, 9], [11, 12]]


@given(rows=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=12))
@settings(max_examples=8)
def test_meetings_are_those_of_the_plain_definition(rows: list[list[int]]) -> None:
    numbers = [3 * number for number in range(len(rows))]

    found = Engine().meeting_places(np.array(numbers), np.array(rows, np.uint64))

    assert found.tolist() == sorted(map(list, plain_meetings(numbers, rows)))


def test_rows_without_a_common_key_do_not_meet() -> None:
    keys = np.arange(12, dtype=np.uint64).reshape(4, 3)

    assert Engine().meeting_places(np.arange(4), keys).tolist() == []


def test_neither_library_reports_home(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("DAFT_ANALYTICS_ENABLED", "RAY_USAGE_STATS_ENABLED")
    for name in names:
        monkeypatch.delenv(name, raising=False)

    list(itertools.islice(Engine().run(add, TASKS[:1], size_bytes=0), 1))

    assert {name: os.environ[name] for name in names} == dict.fromkeys(names, "0")


def test_a_cluster_that_is_not_there_is_a_clear_error_at_once() -> None:
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        list(Engine("127.0.0.1:1").run(process_of, TASKS, size_bytes=1))
