"""A runner for CPUs: steps of a few tokens by the compiled kernel, long pieces of prompts by PyTorch.

Decoding reads all weights for each step, so there the kernel wins by doing nothing else; a prompt of hundreds of tokens
is matrix products, which PyTorch's libraries do best. Both read the same weights, of which there is one copy.
"""

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import torch
from torch import Tensor

from starsmith.inference.plan import STEP_TOKENS, Plan
from starsmith.inference.runner import TorchRunner
from starsmith.model.kernels.compiling import announced
from starsmith.model.kernels.step import step
from starsmith.model.kernels.tables import Table
from starsmith.model.kernels.vectors import Instructions
from starsmith.model.kv_cache import BlockPool, Chunk
from starsmith.model.transformer import Transformer

_SIGNATURE = "(int64, int64, int64[::1], int64[::1])"


class CompiledRunner:
    """Implements `inference.runner.Runner`, for models that are supported (`inference.plan`).

    instructions  other than the processor's best, for tests
    """

    def __init__(
        self,
        model: Transformer,
        pool: BlockPool,
        *,
        threads: int | None = None,
        instructions: Instructions | None = None,
    ) -> None:
        self._by_torch = TorchRunner(model, pool)
        self.model, self.pool = model, pool
        self.blocks, self.vocab_size = pool.blocks, model.config.vocab_size
        self.context_tokens = model.config.max_position_embeddings
        self._steps = _Steps(Plan(model, pool, threads=threads or torch.get_num_threads(), instructions=instructions))

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See `Runner.forward`."""
        short = [chunk for chunk in chunks if len(chunk.ids) <= STEP_TOKENS]
        long = [chunk for chunk in chunks if len(chunk.ids) > STEP_TOKENS]
        from_long = iter(self._by_torch.forward(long) if long else [])
        from_short = iter([logits for batch in _batches(short) for logits in self._steps.run(batch)])
        return [next(from_short if len(chunk.ids) <= STEP_TOKENS else from_long) for chunk in chunks]

    def copy_block(self, source: int, target: int) -> None:
        """See `Runner.copy_block`."""
        self.pool.copy_block(source, target)

    def close(self) -> None:
        """See `Runner.close`."""
        self._steps.close()


def _batches(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Chunks of at most STEP_TOKENS tokens together."""
    batches: list[list[Chunk]] = []
    room = 0
    for chunk in chunks:
        if len(chunk.ids) > room:
            batches.append([])
            room = STEP_TOKENS
        batches[-1].append(chunk)
        room -= len(chunk.ids)
    return batches


@dataclass(frozen=True)
class _Job:
    threads: int
    plan: Table
    own: Table
    done: "SimpleQueue[None]"


class _Steps:
    """A plan, and threads that carry it out."""

    def __init__(self, plan: Plan) -> None:
        with announced():
            step.compile(_SIGNATURE)  # or load; now, and not with the first keystroke
        self._plan = plan
        self._queues: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in plan.own[1:]]
        for number, queue in enumerate(self._queues, start=1):
            threading.Thread(target=_work, args=(number, queue), name=f"step-{number}", daemon=True).start()
        self.close = weakref.finalize(self, _end, self._queues)  # the threads do not know of this object

    def run(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Read chunks of at most STEP_TOKENS tokens together; their logits."""
        logits = torch.from_numpy(self._plan.read(chunks))
        done: SimpleQueue[None] = SimpleQueue()
        first, *others = [_Job(len(self._plan.own), self._plan.table, own, done) for own in self._plan.own]
        for queue, job in zip(self._queues, others, strict=True):
            queue.put(job)
        _carry_out(0, first)
        for _ in others:
            done.get()
        sizes = [chunk.logits for chunk in chunks]
        return list(torch.split(logits, sizes))


def _carry_out(thread: int, job: _Job) -> None:
    step(thread, job.threads, job.plan, job.own)


def _end(queues: "Sequence[SimpleQueue[_Job | None]]") -> None:
    for queue in queues:
        queue.put(None)


def _work(thread: int, queue: "SimpleQueue[_Job | None]") -> None:
    while (job := queue.get()) is not None:
        _carry_out(thread, job)
        job.done.put(None)
