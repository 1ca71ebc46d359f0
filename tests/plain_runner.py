"""A runner without a model: what comes next follows from the ids that blocks hold, so a wrong block shows at once."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from starsmith.inference.engine import GenerationRequest, SamplingParams
from starsmith.inference.local import LocalEngine
from starsmith.model.kv_cache import BLOCK_TOKENS, Chunk, blocks_for

VOCABULARY = 23
UNKNOWN = -1  # in a position that was never written


class PlainRunner:
    """What a block holds are the ids that were read into it, and logits are drawn from a hash of all ids so far.

    Right as a model is: row by row, and without regard to what else is in the step.
    """

    vocab_size = VOCABULARY

    def __init__(self, blocks: int = 64, context_tokens: int = 512) -> None:
        self.blocks, self.context_tokens = blocks, context_tokens
        self.held = np.full((blocks, BLOCK_TOKENS), UNKNOWN)
        self.steps: list[list[Chunk]] = []

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        self.steps.append(list(chunks))
        return [self._read(chunk) for chunk in chunks]

    def copy_block(self, source: int, target: int) -> None:
        self.held[target] = self.held[source]

    def close(self) -> None: ...

    def _read(self, chunk: Chunk) -> Tensor:
        assert len(chunk.blocks) == len(set(chunk.blocks)) == blocks_for(chunk.end)
        for position, token in enumerate(chunk.ids, start=chunk.past):
            self.held[chunk.blocks[position // BLOCK_TOKENS], position % BLOCK_TOKENS] = token
        seen = self.held[list(chunk.blocks)].reshape(-1)[: chunk.end].tolist()
        assert UNKNOWN not in seen
        rows = [logits_after(seen[: chunk.end - back]) for back in range(chunk.logits - 1, -1, -1)]
        return torch.stack(rows) if rows else torch.empty(0, VOCABULARY)


def asked(prompt: Sequence[int], session: str | None = None, **params: object) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, session=session, params=SamplingParams(**params))  # type: ignore[arg-type]


def written(engine: LocalEngine, prompt: Sequence[int], **params: object) -> list[int]:
    return [token.id for token in engine.generate(asked(prompt, **params))]


def logits_after(ids: Sequence[int]) -> Tensor:
    """(VOCABULARY,) logits: the last three ids make one token likely, all of them move the rest."""
    everything = np.random.default_rng(_number(ids)).normal(size=VOCABULARY)
    everything[_number(ids[-3:]) % VOCABULARY] += 2.0
    return torch.from_numpy(everything).float()


def _number(ids: Sequence[int]) -> int:
    return int.from_bytes(hashlib.sha256(np.asarray(ids, np.int64).tobytes()).digest()[:8], "little")
