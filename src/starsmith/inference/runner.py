"""A model and a pool of KV blocks: chunks of sequences in, logits out. It decides nothing and keeps no sequence."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from starsmith.model.kv_cache import BLOCK_TOKENS, BlockPool, Chunk, ChunkCache
from starsmith.model.transformer import Transformer

__all__ = ["BLOCK_TOKENS", "Chunk", "Runner", "TorchRunner"]


class Runner(Protocol):
    """What an engine asks of a model."""

    blocks: int  # in the pool, of BLOCK_TOKENS positions each
    vocab_size: int
    context_tokens: int  # positions that the model was trained for

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Read the chunks, no two of one sequence, and write their keys and values into their blocks.

        returns  for each chunk (chunk.logits, V) float32 on the CPU: after each of its last positions
        """
        ...

    def copy_block(self, source: int, target: int) -> None:
        """Give one block the keys and values of another."""
        ...

    def close(self) -> None:
        """End what runs beside the caller's thread; no step is possible afterwards."""
        ...


class TorchRunner:
    """Any number of chunks on any device, by PyTorch's own operations."""

    def __init__(self, model: Transformer, pool: BlockPool) -> None:
        self.model, self.pool = model.eval(), pool
        self.blocks = pool.blocks
        self.vocab_size = model.config.vocab_size
        self.context_tokens = model.config.max_position_embeddings
        self._device = pool.keys.device

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See `Runner.forward`."""
        with torch.inference_mode():
            ids = torch.tensor([token for chunk in chunks for token in chunk.ids], device=self._device)
            hidden_TH = self.model.hidden(ids[None], cache=ChunkCache(self.pool, chunks))[0]
            logits_NV = self.model.lm_head(hidden_TH[wanted_rows(chunks, self._device)]).float().cpu()
        return list(logits_NV.split([chunk.logits for chunk in chunks]))

    def copy_block(self, source: int, target: int) -> None:
        """See `Runner.copy_block`."""
        self.pool.copy_block(source, target)

    def close(self) -> None:
        """See `Runner.close`; nothing does."""


def wanted_rows(chunks: Sequence[Chunk], device: torch.device) -> Tensor:
    """Rows of the chunks, joined, of which logits are wanted."""
    rows: list[int] = []
    end = 0
    for chunk in chunks:
        end += len(chunk.ids)
        rows += range(end - chunk.logits, end)
    return torch.tensor(rows, dtype=torch.int64, device=device)
