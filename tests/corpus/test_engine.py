"""Tasks side by side on this machine, in order, and the one grouping."""

import os
import pickle
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starsmith.core.errors import InputError, StarsmithError
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


TASKS = [Sum((number,)) for number in range(12)]


def plain_meetings(numbers: list[int], keys: list[list[int]]) -> set[tuple[int, int]]:
    meeting: dict[int, list[int]] = defaultdict(list)
    for number, row in zip(numbers, keys, strict=True):
        for key in row:
            meeting[key].append(number)
    return {(min(group), other) for group in meeting.values() for other in group if other != min(group)}


def test_outcomes_come_in_the_order_of_the_tasks() -> None:
    assert list(Engine().run(add, TASKS, size_bytes=0)) == list(range(12))


def die(task: Sum) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return sum(task.numbers)


def note_and_refuse(task: tuple[Path, int]) -> int:
    folder, number = task
    (folder / str(number)).touch()
    if number == 0:
        raise InputError("zero is not wanted", hint="give another")
    time.sleep(0.05)
    return number


@pytest.mark.slow
def test_large_work_goes_to_other_processes_that_stay_and_small_work_stays_here() -> None:
    with Engine() as engine:
        small = list(engine.run(process_of, TASKS, size_bytes=IN_PROCESS_BYTES - 1))
        large = list(engine.run(process_of, TASKS, size_bytes=IN_PROCESS_BYTES))
        again = list(engine.run(process_of, TASKS, size_bytes=IN_PROCESS_BYTES))

    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core: all work stays here")
    assert {process for process, _ in small} == {os.getpid()}
    assert os.getpid() not in {process for process, _ in large}
    assert {process for process, _ in again} <= {process for process, _ in large}
    assert [total for _, total in large] == [total for _, total in small] == list(range(12))


@pytest.mark.slow
def test_the_end_of_one_engine_leaves_another_its_processes() -> None:
    with Engine() as outer:
        outcomes = outer.run(add, TASKS, size_bytes=IN_PROCESS_BYTES)
        first = next(outcomes)
        with Engine() as inner:
            assert list(inner.run(add, TASKS, size_bytes=IN_PROCESS_BYTES)) == list(range(12))

        assert [first, *outcomes] == list(range(12))


@pytest.mark.slow
def test_a_killed_process_is_a_clear_error_and_the_engine_goes_on() -> None:
    with Engine() as engine:
        if len(os.sched_getaffinity(0)) == 1:
            pytest.skip("one core: there is no other process")
        with pytest.raises(StarsmithError, match="ended before its work") as caught:
            list(engine.run(die, TASKS, size_bytes=IN_PROCESS_BYTES))

        assert "same command again" in (caught.value.hint or "")
        assert list(engine.run(add, TASKS, size_bytes=IN_PROCESS_BYTES)) == list(range(12))


@pytest.mark.parametrize("size_bytes", [0, pytest.param(IN_PROCESS_BYTES, marks=pytest.mark.slow)])
def test_after_an_error_no_further_task_begins(tmp_path: Path, size_bytes: int) -> None:
    tasks = [(tmp_path, number) for number in range(40)]

    with Engine() as engine, pytest.raises(InputError, match="zero"):
        list(engine.run(note_and_refuse, tasks, size_bytes=size_bytes))

    assert len(list(tmp_path.iterdir())) < 20


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

    Engine().meeting_places(np.arange(2), np.ones((2, 1), np.uint64))

    assert {name: os.environ[name] for name in names} == dict.fromkeys(names, "0")


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_a_clear_error_at_once() -> None:
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        list(Engine("127.0.0.1:1").run(process_of, TASKS, size_bytes=1))
