"""The scheduler: who gets how much of a step, and whose blocks go when they run out."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from starsmith.core.errors import ConfigError
from starsmith.inference.prefix_cache import PrefixCache
from starsmith.inference.scheduler import Job, Limits, Plan, Scheduler

BLOCK = 4
LIMITS = Limits(prompt_tokens=100, shared_prompt_tokens=10, requests=8, guesses=7, verified_tokens=16, aging_tokens=8)


@dataclass(eq=False, kw_only=True)
class Text(Job):
    """Ids of which all but the last can be reused."""

    name: str = ""

    @property
    def reusable(self) -> int:
        return len(self.ids) - 1


def scheduler_of(blocks: int, limits: Limits = LIMITS) -> Scheduler[Text]:
    return Scheduler(PrefixCache(blocks, BLOCK), limits)


def submitted(scheduler: Scheduler[Text], name: str, ids: Sequence[int], session: str | None = None) -> Text:
    job = Text(ids=list(ids), name=name, session=session)
    scheduler.submit(job)
    return job


def read(scheduler: Scheduler[Text], plan: Plan[Text]) -> dict[str, int]:
    """Do what was planned: who is at his end writes a token, and guesses are all wrong. How much each has got."""
    for work in plan.works:
        complete = work.count == work.job.pending
        scheduler.advance(work.job, work.job.read + work.count)
        work.job.ids += [0] * complete
    return {work.job.name: work.count for work in plan.works}


def step(scheduler: Scheduler[Text]) -> dict[str, int]:
    return read(scheduler, scheduler.plan())


def test_a_prompt_is_read_in_pieces() -> None:
    scheduler = scheduler_of(200)
    submitted(scheduler, "long", range(250))

    assert [step(scheduler) for _ in range(4)] == [{"long": 100}, {"long": 100}, {"long": 50}, {"long": 1}]


def test_a_keystroke_passes_a_long_prompt_and_its_step_is_short() -> None:
    scheduler = scheduler_of(800)
    scheduler.finish(_read_all(scheduler, submitted(scheduler, "before", range(1000, 1400))))
    submitted(scheduler, "long", range(900))
    assert step(scheduler) == {"long": 100}

    submitted(scheduler, "key", [*range(1000, 1400), 7, 8])

    assert step(scheduler) == {"key": 2, "long": 10}
    assert step(scheduler) == {"key": 1, "long": 10}


def test_a_long_prompt_gets_its_turn_among_many_short_ones() -> None:
    scheduler = scheduler_of(400, Limits(prompt_tokens=20, shared_prompt_tokens=20, aging_tokens=8))
    submitted(scheduler, "long", range(200))
    got = 0
    for number in range(100):
        submitted(
            scheduler, "short", [1000 + number] * 20
        )  # a whole step's tokens, and fewer than the long one has left
        got += step(scheduler).get("long", 0)
        for short in [job for job in scheduler.jobs if job.name == "short" and job.pending == 1]:
            scheduler.finish(short)

    assert got >= 60


def test_one_that_writes_has_its_row_in_every_step() -> None:
    scheduler = scheduler_of(200)
    submitted(scheduler, "writer", [1, 2])
    step(scheduler)
    submitted(scheduler, "long", range(400))

    assert [step(scheduler) for _ in range(30)] == [{"writer": 1, "long": 10}] * 30


def test_guesses_share_the_rows_of_a_step() -> None:
    scheduler = scheduler_of(200)
    jobs = [submitted(scheduler, str(number), [number, number]) for number in range(3)]
    step(scheduler)
    for job in jobs:
        job.draft = [1] * 7

    assert [len(work.draft) for work in scheduler.plan().works] == [4, 4, 4]  # 3 * (1 + 4) of 16


@pytest.mark.parametrize(("prompt_tokens", "guesses"), [(1, 7), (9, 7), (12, 4), (16, 0), (40, 0)])
def test_guesses_make_no_short_piece_of_a_prompt_a_long_one(prompt_tokens: int, guesses: int) -> None:
    scheduler = scheduler_of(200)
    job = submitted(scheduler, "only", range(prompt_tokens))
    job.draft = [1] * 7

    (work,) = scheduler.plan().works

    assert (work.count, len(work.draft)) == (prompt_tokens, guesses)


def test_guesses_are_left_out_where_there_is_no_block_for_them() -> None:
    scheduler = scheduler_of(1)
    job = submitted(scheduler, "only", [1, 2, 3])
    job.draft = [4, 5]

    (work,) = scheduler.plan().works

    assert (work.count, list(work.draft)) == (3, [])


def test_a_prompt_that_another_is_just_reading_is_read_once() -> None:
    scheduler = scheduler_of(200)
    submitted(scheduler, "one", range(90))
    twin = submitted(scheduler, "twin", range(90))

    assert step(scheduler) == {"one": 90}
    assert step(scheduler) == {"one": 1, "twin": 2}  # the rest of the block in which its prompt ends
    assert twin.reused == 88


def test_the_youngest_loses_its_blocks_and_comes_back_with_all_ids() -> None:
    scheduler = scheduler_of(5)
    submitted(scheduler, "old", range(7))
    young = submitted(scheduler, "young", range(50, 57))
    step(scheduler)
    step(scheduler)  # both write; 2 blocks each
    for _ in range(3):
        step(scheduler)
    young_ids = list(young.ids)

    while young.lease is not None:
        step(scheduler)

    assert scheduler.preemptions == 1
    assert young.ids[: len(young_ids)] == young_ids
    scheduler.finish(scheduler.jobs[0])
    assert step(scheduler)["young"] < young.read  # a part was still in the cache
    assert young.read == len(young.ids) - 1


def test_no_older_request_is_preempted() -> None:
    scheduler = scheduler_of(4)
    old = submitted(scheduler, "old", range(8))
    step(scheduler)
    submitted(scheduler, "young", range(50, 53))

    while len(old.ids) < 16:
        step(scheduler)
        assert old.lease is not None

    assert scheduler.preemptions == 1


def test_who_does_not_fit_waits_until_there_is_room() -> None:
    scheduler = scheduler_of(10)
    first = submitted(scheduler, "first", range(30))
    assert step(scheduler) == {"first": 30}
    submitted(scheduler, "second", range(100, 120))

    assert step(scheduler) == {"first": 1}
    scheduler.finish(first)
    assert step(scheduler) == {"second": 20}


def test_no_more_requests_hold_blocks_than_are_allowed() -> None:
    scheduler = scheduler_of(100, Limits(requests=2))
    for number in range(4):
        submitted(scheduler, str(number), [number] * 3)

    assert step(scheduler) == {"0": 3, "1": 3}
    assert len(scheduler.running) == 2


def test_the_newest_of_a_session_ends_the_older_one_alone() -> None:
    scheduler = scheduler_of(100)
    older, other = submitted(scheduler, "older", [1, 2], "a"), submitted(scheduler, "other", [1, 2], "b")
    submitted(scheduler, "none", [1, 2])

    newer = Text(ids=[1, 2, 3], session="a", name="newer")

    assert scheduler.submit(newer) is older
    assert [job.name for job in scheduler.jobs] == ["other", "none", "newer"]
    scheduler.finish(newer)
    assert scheduler.submit(Text(ids=[1], session="a")) is None
    assert scheduler.submit(Text(ids=[1], session="b")) is other


def test_what_a_finished_request_read_is_known_unless_it_failed() -> None:
    scheduler = scheduler_of(100)
    scheduler.finish(_read_all(scheduler, submitted(scheduler, "good", range(20))))
    scheduler.finish(_read_all(scheduler, submitted(scheduler, "bad", range(50, 70))), keep=False)

    assert submitted(scheduler, "good again", range(20)).left == 1
    assert submitted(scheduler, "bad again", range(50, 70)).left == 20


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert scheduler_of(4).plan().works == []


@pytest.mark.parametrize("name", ["prompt_tokens", "requests", "verified_tokens"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: 0})


def _read_all(scheduler: Scheduler[Text], job: Text) -> Text:
    while job.pending > 1:
        step(scheduler)
    return job
