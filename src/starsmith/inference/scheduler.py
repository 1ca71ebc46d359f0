"""Which tokens of which requests are read in the next step. Only decisions: no model, no threads, no clock.

A step has a row for every request that writes, with the tokens that were guessed for it, and a bounded piece of
prompts that are still to be read. The prompt with the least left comes first, so a keystroke, of which nearly
everything is in the cache, passes a long one; having waited moves a prompt forward, so the long one gets its turn.
When blocks run out the youngest request gives up its own, which stay in the cache for as long as they are not needed.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from starsmith.core.errors import ConfigError
from starsmith.inference.prefix_cache import Lease, PrefixCache


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is done in one step. A request that arrives waits for the step that is running."""

    prompt_tokens: int = 256  # read in a step in which nobody writes: more is faster, and lets others wait longer
    shared_prompt_tokens: int = 128  # read beside requests that write, whose next token waits for it
    requests: int = 16  # that hold blocks at once
    guesses: int = 7  # of one request in one step: with its own token 8 rows, which cost little more than one
    verified_tokens: int = 16  # rows of all that write, with their guesses: so many cost about two rows
    aging_tokens: int = 32  # that a prompt moves forward for each step in which it gets nothing

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"{name}={value}: must be at least 1")


DEFAULT_LIMITS = Limits()


@dataclass(eq=False, kw_only=True)
class Job(ABC):
    """A request inside the engine: the ids so far, how many of them are read, and its blocks."""

    ids: list[int]
    session: str | None = None
    draft: Sequence[int] = ()  # guesses of what follows ids, to be verified
    lease: Lease | None = None  # None: it waits
    read: int = 0  # positions whose keys and values are in its blocks
    reused: int = 0  # positions that were found in the cache, of those it had when it came
    preemptions: int = 0
    serial: int = 0  # in the order of arrival
    left: int = 0  # while it waits: about how many ids are to be read
    served: int = 0  # the last step that did something for it

    @property
    def pending(self) -> int:
        """Ids to be read."""
        return len(self.ids) - self.read

    @property
    @abstractmethod
    def reusable(self) -> int:
        """How many of the ids need not be read if their keys and values are known."""


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Work(Generic[J]):
    """Read the next `count` ids of a job, and its guesses if those are the last."""

    job: J
    count: int
    draft: Sequence[int] = ()


@dataclass(frozen=True)
class Plan(Generic[J]):
    """What to do in a step, in this order."""

    copies: list[tuple[int, int]] = field(default_factory=list)  # of blocks: source, target
    works: list[Work[J]] = field(default_factory=list)  # to be read together


class Scheduler(Generic[J]):
    """All requests and the blocks they share."""

    def __init__(self, cache: PrefixCache, limits: Limits) -> None:
        self.cache, self.limits = cache, limits
        self.jobs: list[J] = []  # in the order of arrival
        self.preemptions = 0
        self._sessions: dict[str, J] = {}
        self._serial = 0
        self._step = 0

    @property
    def running(self) -> list[J]:
        """Jobs that hold blocks, in the order of arrival."""
        return [job for job in self.jobs if job.lease is not None]

    def submit(self, job: J) -> J | None:
        """Take a job; the older one of its session, if there is one, ends with that and is returned."""
        older = self._sessions.get(job.session) if job.session is not None else None
        if older is not None:
            self.finish(older)
        if job.session is not None:
            self._sessions[job.session] = job
        self._serial += 1
        job.serial, job.served = self._serial, self._step
        job.left = len(job.ids) - self.cache.match(job.ids, job.reusable)
        self.jobs.append(job)
        return older

    def finish(self, job: J, *, keep: bool = True) -> None:
        """Let a job go, with what it has read left in the cache, or not."""
        if job.lease is not None and keep:
            self.cache.close(job.lease, job.ids, job.read)
        elif job.lease is not None:
            self.cache.discard(job.lease)
        job.lease = None
        self.jobs.remove(job)
        if job.session is not None and self._sessions.get(job.session) is job:
            del self._sessions[job.session]

    def advance(self, job: J, read: int) -> None:
        """Note that a job's positions below `read` are in its blocks, and share those that are full."""
        job.read = read
        assert job.lease is not None
        if read // self.cache.block_tokens > len(job.lease.path):
            self.cache.commit(job.lease, job.ids, read)

    def plan(self) -> Plan[J]:
        """The next step; without works only if there is no job."""
        self._step += 1
        plan = Plan[J]()
        self._plan_writers(plan)
        self._plan_readers(plan)
        if not plan.works and self.jobs:
            self._make_way(plan)
        for work in plan.works:
            work.job.served = self._step
        return plan

    def _plan_writers(self, plan: Plan[J]) -> None:
        writers = [job for job in self.running if job.pending == 1]
        guesses = self.limits.verified_tokens // max(len(writers), 1) - 1
        for job in writers:
            if job.lease is not None and self._make_room(job, job.lease):
                plan.works.append(self._with_draft(job, job.lease, 1, guesses))

    def _make_room(self, job: J, lease: Lease) -> bool:
        """A block for the next position, if need be of the youngest; none is taken from an older job."""
        while not self.cache.extend(lease, job.read + 1):
            youngest = self.running[-1]
            if youngest is job:
                return False
            self._preempt(youngest)
        return True

    def _with_draft(self, job: J, lease: Lease, count: int, guesses: int) -> Work[J]:
        """All that is left of a job, and as many guesses as there is room for."""
        draft = job.draft[: max(guesses, 0)]
        if draft and not self.cache.extend(lease, job.read + count + len(draft)):
            draft = ()
        return Work(job, count, draft)

    def _plan_readers(self, plan: Plan[J]) -> None:
        budget = self.limits.shared_prompt_tokens if plan.works else self.limits.prompt_tokens
        open_to_new, reading = True, set[Hashable]()
        for job in sorted((job for job in self.jobs if job.lease is None or job.pending > 1), key=self._urgency):
            if job.lease is None:
                # Who does not fit closes the door for all behind: it has waited long, or those are no smaller.
                open_to_new = open_to_new and self._admit(plan, job)
            if job.lease is None:
                continue
            work = self._read_on(job, job.lease, budget, reading)
            if work is None:
                continue
            plan.works.append(work)
            budget -= work.count
            if job.pending == work.count:  # it writes its first token with this step
                budget = min(budget, self.limits.shared_prompt_tokens)
            if budget <= 0:
                break

    def _urgency(self, job: J) -> tuple[int, int]:
        left = job.left if job.lease is None else job.pending
        return left - self.limits.aging_tokens * (self._step - job.served), job.serial

    def _admit(self, plan: Plan[J], job: J, *, anyway: bool = False) -> bool:
        """Give a waiting job the blocks that are known, if those it still needs are there."""
        running = self.running
        if len(running) >= self.limits.requests and not anyway:
            return False
        lease = Lease()
        held = self.cache.adopt(lease, job.ids, job.reusable)
        promised = sum(self._missing(other, other.lease) for other in running if other.lease is not None)
        if running and not anyway and self._missing(job, lease) + promised > self.cache.available:
            self.cache.close(lease, job.ids, held)
            return False
        job.read, copy = self.cache.branch(lease, job.ids, job.reusable)
        job.lease = lease
        if not job.preemptions:
            job.reused = job.read
        plan.copies.extend([copy] if copy is not None else [])
        return True

    def _missing(self, job: J, lease: Lease) -> int:
        """Blocks to be had until a job can write its next token."""
        return max(-(-(len(job.ids) + 1) // self.cache.block_tokens) - len(lease.blocks), 0)

    def _read_on(self, job: J, lease: Lease, budget: int, reading: set[Hashable]) -> Work[J] | None:
        """The next piece of a prompt, unless another job is just reading the same."""
        held = self.cache.adopt(lease, job.ids, job.reusable)
        if not job.preemptions:
            job.reused += max(held - job.read, 0)
        job.read = max(job.read, held)
        end = held + self.cache.block_tokens
        if end <= job.reusable:
            place = (lease.path[-1] if lease.path else None, tuple(job.ids[held:end]))
            if place in reading:
                return None  # it will be in the tree
            reading.add(place)
        room = (len(lease.blocks) + self.cache.available) * self.cache.block_tokens - job.read
        count = min(job.pending, budget, room)
        if count < 1 or not self.cache.extend(lease, job.read + count):
            return None
        if count < job.pending:
            return Work(job, count)
        # Guesses make no short piece a long one, which a runner may compute in another way, with other last digits.
        return self._with_draft(job, lease, count, self.limits.verified_tokens - count)

    def _make_way(self, plan: Plan[J]) -> None:
        """Nobody got anything, so the oldest job gets what it needs; alone it fits, as was checked when it came."""
        oldest = self.jobs[0]
        while not plan.works:
            if oldest.lease is None:
                self._admit(plan, oldest, anyway=True)
            assert oldest.lease is not None
            work = self._read_on(oldest, oldest.lease, self.limits.prompt_tokens, set())
            if work is not None:
                plan.works.append(work)
                return
            youngest = self.running[-1]
            assert youngest is not oldest, "a job that does not fit the pool was let in"
            self._preempt(youngest)

    def _preempt(self, job: J) -> None:
        """Take a job's blocks; what was read is found again as far as it is not overwritten meanwhile."""
        assert job.lease is not None
        job.left = job.pending
        job.preemptions += 1
        self.cache.close(job.lease, job.ids, job.read)
        job.lease, job.read = None, 0
        self.preemptions += 1
