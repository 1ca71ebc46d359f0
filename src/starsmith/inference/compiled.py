"""A runner for CPUs: steps of a few tokens by the compiled kernel, long pieces of prompts by matrix products.

Decoding reads all weights for each step, so there the kernel wins by doing nothing else; hundreds of tokens of a prompt
are products: of bytes by `prompts`, of other weights by PyTorch. All read the same weights, of which there is one copy.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from starsmith.inference.plan import STEP_TOKENS, Plan
from starsmith.inference.prompts import PromptReader, reads_bytes
from starsmith.inference.runner import TorchRunner
from starsmith.inference.team import Team
from starsmith.model.kernels.compiling import announced
from starsmith.model.kernels.step import step
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
        self.model, self.pool = model, pool
        self.blocks, self.vocab_size = pool.blocks, model.config.vocab_size
        self.context_tokens = model.config.max_position_embeddings
        threads = threads or torch.get_num_threads()
        with announced():  # or loaded; now, and not with the first keystroke
            step.compile(_SIGNATURE)
        self._team = Team(threads)
        self._steps = _Steps(Plan(model, pool, threads=threads, instructions=instructions), self._team)
        self._prompts = PromptReader(model, pool, self._team) if reads_bytes(model, pool) else TorchRunner(model, pool)

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See `Runner.forward`."""
        short = [chunk for chunk in chunks if len(chunk.ids) <= STEP_TOKENS]
        long = [chunk for chunk in chunks if len(chunk.ids) > STEP_TOKENS]
        from_long = iter(self._prompts.forward(long) if long else [])
        from_short = iter([logits for batch in _batches(short) for logits in self._steps.run(batch)])
        return [next(from_short if len(chunk.ids) <= STEP_TOKENS else from_long) for chunk in chunks]

    def copy_block(self, source: int, target: int) -> None:
        """See `Runner.copy_block`."""
        self.pool.copy_block(source, target)

    def close(self) -> None:
        """See `Runner.close`."""
        self._team.close()


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


class _Steps:
    """A plan, and the threads that carry it out: this one, and some of the team."""

    def __init__(self, plan: Plan, team: Team) -> None:
        self._plan, self._team = plan, team

    def run(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Read chunks of at most STEP_TOKENS tokens together; their logits."""
        logits = torch.from_numpy(self._plan.read(chunks))
        parts = [
            partial(step, number, len(self._plan.own), self._plan.table, own)
            for number, own in enumerate(self._plan.own)
        ]
        others = self._team.begin(parts[1:])
        parts[0]()
        others.wait()
        sizes = [chunk.logits for chunk in chunks]
        return list(torch.split(logits, sizes))
