"""Step by step: what the scheduler chose is read by the runner, and every request takes what its logits say.

A request that fails does so alone. What its blocks hold is forgotten then, since it may be the cause.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from starsmith.core.errors import EngineError, InputError, StarsmithError
from starsmith.inference.jobs import Generation, Outcome, Request
from starsmith.inference.prefix_cache import PrefixCache
from starsmith.inference.runner import BLOCK_TOKENS, Chunk, Runner
from starsmith.inference.scheduler import Limits, Scheduler, Work
from starsmith.model.kv_cache import blocks_for


@dataclass
class EngineStats:
    """Of all requests since the start."""

    steps: int = 0
    read_tokens: int = 0  # by the runner, with guesses
    reused_tokens: int = 0  # of prompts, which were found in the cache
    written_tokens: int = 0
    proposed_guesses: int = 0
    accepted_guesses: int = 0
    requests: int = 0
    hits: int = 0  # requests that found anything in the cache
    superseded: int = 0
    failed: int = 0
    last_reused_tokens: int = 0  # of the text that ended last
    # Now:
    running: int = 0  # requests that hold blocks
    waiting: int = 0
    blocks: int = 0
    held_blocks: int = 0  # by running requests
    cached_blocks: int = 0  # in the prefix cache, held or not
    evictions: int = 0  # blocks that were forgotten for others
    preemptions: int = 0


class Decoder:
    """Requests, the scheduler and a runner; it does nothing by itself."""

    def __init__(self, runner: Runner, limits: Limits) -> None:
        self.stats = EngineStats(blocks=runner.blocks)
        self._runner, self._limits = runner, limits
        self.scheduler = self._new_scheduler()

    @property
    def idle(self) -> bool:
        """Whether a step would do nothing."""
        return not self.scheduler.jobs

    def check(self, positions: int) -> None:
        """Refuse what does not fit even when nothing else runs."""
        if blocks_for(positions) > self._runner.blocks:
            raise InputError(
                f"prompt and completion need {blocks_for(positions)} blocks of keys and values"
                f" ({BLOCK_TOKENS} tokens each), the engine has {self._runner.blocks}",
                hint="ask for fewer tokens, or give the engine more room with --kv-tokens",
            )

    def snapshot(self) -> EngineStats:
        """The statistics of this moment."""
        scheduler, cache = self.scheduler, self.scheduler.cache
        running = len(scheduler.running)
        return replace(
            self.stats,
            running=running,
            waiting=len(scheduler.jobs) - running,
            held_blocks=cache.blocks - cache.available,
            cached_blocks=cache.cached,
            evictions=cache.evictions,
            preemptions=scheduler.preemptions,
        )

    def submit(self, request: Request) -> None:
        """Take a request in; it ends the older one of its session."""
        self.stats.requests += 1
        older = self.scheduler.submit(request)
        if older is not None:
            self.stats.superseded += 1
            self._end(older, None)

    def step(self) -> None:
        """Do one forward pass, if there is something to do."""
        requests = list(self.scheduler.jobs)
        for request in requests:
            # Of a crowd, only those that run are asked for guesses: the others may not get a turn.
            self._ask(request, guessing=request.lease is not None or len(requests) <= self._limits.requests)
        plan = self.scheduler.plan()
        if not plan.works:
            return
        for source, target in plan.copies:
            self._runner.copy_block(source, target)
        self._read(plan.works)

    def reset(self, error: StarsmithError | None) -> None:
        """End all requests and forget everything."""
        for request in list(self.scheduler.jobs):
            self.stats.failed += error is not None
            self._end(request, error)
        self.scheduler = self._new_scheduler()

    def _ask(self, request: Request, *, guessing: bool) -> None:
        """Whether a request is still wanted, and for its guesses: code of others, which may fail."""
        try:
            gone = request.abandoned or request.cancelled()
            if not gone:
                request.prepare(self._limits.guesses if guessing else 0)
        except Exception as error:  # noqa: BLE001
            self._fail(request, error)
            return
        if gone:
            self.scheduler.finish(request)
            self._end(request, None)

    def _read(self, works: Sequence[Work[Request]]) -> None:
        chunks = [_chunk(work.job, work) for work in works]
        try:
            logits = self._runner.forward(chunks)
        except Exception as error:  # noqa: BLE001
            for work in works:  # out of memory, for one: with less to do it may go on
                self._fail(work.job, error)
            return
        self.stats.steps += 1
        self.stats.read_tokens += sum(len(chunk.ids) for chunk in chunks)
        for work, logits_NV in zip(works, logits, strict=True):
            self._take(work.job, work, logits_NV)

    def _take(self, request: Request, work: Work[Request], logits_NV: Tensor) -> None:
        before = len(request.ids)
        try:
            done = request.take(logits_NV, work)
        except StarsmithError as error:
            self._fail(request, error)
            return
        written = len(request.ids) - before
        # What was written last is read with the next step; guesses that came true are read already.
        self.scheduler.advance(request, request.read + work.count + max(written - 1, 0))
        self.stats.written_tokens += written
        if done:
            self.scheduler.finish(request)
            self._end(request, None)

    def _fail(self, request: Request, error: Exception) -> None:
        self.stats.failed += 1
        self.scheduler.finish(request, keep=False)
        self._end(request, error if isinstance(error, StarsmithError) else engine_error(error))

    def _end(self, request: Request, outcome: Outcome) -> None:
        self.stats.hits += request.reused > 0
        self.stats.reused_tokens += request.reused
        if isinstance(request, Generation):
            self.stats.last_reused_tokens = request.reused
            self.stats.proposed_guesses += request.proposed
            self.stats.accepted_guesses += request.accepted
        request.put(outcome)

    def _new_scheduler(self) -> Scheduler[Request]:
        return Scheduler(PrefixCache(self._runner.blocks, BLOCK_TOKENS), self._limits)


def engine_error(error: Exception) -> EngineError:
    """What a request is told when something broke beneath it."""
    told = EngineError(
        f"the model could not answer: {type(error).__name__}: {error}", hint="try again, or ask for less"
    )
    told.__cause__ = error
    return told


def _chunk(request: Request, work: Work[Request]) -> Chunk:
    assert request.lease is not None
    ids = [*request.ids[request.read : request.read + work.count], *work.draft]
    blocks = request.lease.blocks[: blocks_for(request.read + len(ids))]
    return Chunk(ids, request.read, blocks, request.wanted(work))
