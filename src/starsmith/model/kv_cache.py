"""Keys and values of the tokens a model has already read, in blocks that sequences share.

A pool has room for a number of blocks of BLOCK_TOKENS positions in every layer, allocated once (Kwon et al. 2023,
arXiv 2309.06180). Who holds which block is for the caller to say: a `Chunk` names the blocks of its sequence in order.

Shapes: L layers, G key/value heads, N blocks, T new positions, S positions seen, A heads, D head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from starsmith.model import attention
from starsmith.model.config import ModelConfig

BLOCK_TOKENS = 16  # positions in a block: half of one is lost per sequence, and a table of them stays short


@dataclass(frozen=True)
class Chunk:
    """Some tokens of one sequence, to be read in one step."""

    ids: Sequence[int]  # the new tokens, in order
    past: int  # positions of the sequence whose keys and values are in its blocks
    blocks: Sequence[int]  # the blocks of positions 0 to past + len(ids) - 1, in order
    logits: int = 1  # of how many of the last new positions logits are wanted

    @property
    def end(self) -> int:
        """Positions of the sequence once the chunk is read."""
        return self.past + len(self.ids)


class BlockPool:
    """Room for keys and values."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        blocks: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.num_hidden_layers, config.num_key_value_heads, blocks, BLOCK_TOKENS, config.head_dim)
        self.blocks = blocks
        self.keys = torch.zeros(shape, dtype=dtype, device=device)  # (L, G, N, BLOCK_TOKENS, D)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def copy_block(self, source: int, target: int) -> None:
        """Make one block equal to another."""
        for held in (self.keys, self.values):
            held[:, :, target] = held[:, :, source]

    def store(self, layer: int, slots_T: Tensor, k_GTD: Tensor, v_GTD: Tensor) -> None:
        """Write positions of one layer; a slot is a block's number times BLOCK_TOKENS and the place in it."""
        for held, new in ((self.keys, k_GTD), (self.values, v_GTD)):
            held[layer].flatten(1, 2).index_copy_(1, slots_T, new.to(held.dtype))

    def gather(self, layer: int, blocks: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """(G, S, D) keys and values of the first `length` positions of a sequence's blocks."""
        k, v = (held[layer].index_select(1, blocks).flatten(1, 2)[:, :length] for held in (self.keys, self.values))
        return k, v


class ChunkCache:
    """What a model sees of a pool while it reads chunks of one or more sequences in one row."""

    def __init__(self, pool: BlockPool, chunks: Sequence[Chunk]) -> None:
        self._pool, self._chunks = pool, chunks
        device = pool.keys.device
        self._tables = [torch.tensor(chunk.blocks, dtype=torch.int64, device=device) for chunk in chunks]
        places = [torch.arange(chunk.past, chunk.end, device=device) for chunk in chunks]
        self.positions = torch.cat(places)  # (T,) of each new token in its sequence
        self.slots = torch.cat(  # (T,) where its keys and values go
            [
                table[place // BLOCK_TOKENS] * BLOCK_TOKENS + place % BLOCK_TOKENS
                for table, place in zip(self._tables, places, strict=True)
            ]
        )

    def attend(self, layer: int, q_BATD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, *, window: int | None) -> Tensor:
        """Store the new keys and values (B = 1), and let every chunk attend to its own sequence."""
        self._pool.store(layer, self.slots, k_BGTD[0], v_BGTD[0])
        return self.look(layer, q_BATD, window=window)

    def look(self, layer: int, q_BATD: Tensor, *, window: int | None, groups: Sequence[int] = ()) -> Tensor:
        """Let every chunk attend to its own sequence, whose keys and values are stored (B = 1).

        groups  the key/value head of each head of `q`, in order, where these are not all that the model has
        """
        parts, start = [], 0
        for chunk, table in zip(self._chunks, self._tables, strict=True):
            # Whole blocks that lie before the first new token's window are not looked at.
            skipped = 0 if window is None else max(chunk.past + 1 - window, 0) // BLOCK_TOKENS
            seen = chunk.end - skipped * BLOCK_TOKENS
            k_GSD, v_GSD = self._pool.gather(layer, table[skipped:], seen)
            if groups:
                k_GSD, v_GSD = (_chosen(held, groups) for held in (k_GSD, v_GSD))
            q = q_BATD[:, :, start : start + len(chunk.ids)]
            out = attention.attend(q.to(k_GSD.dtype), k_GSD[None], v_GSD[None], window=window)
            parts.append(out.to(q.dtype))
            start += len(chunk.ids)
        return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _chosen(held_GSD: Tensor, groups: Sequence[int]) -> Tensor:
    """(A, S, D): a head's keys or values once for each that looks at them, where it is one without a copy."""
    if groups[0] == groups[-1]:
        return held_GSD[groups[0]].expand(len(groups), -1, -1)
    return held_GSD[list(groups)]


def blocks_for(tokens: int) -> int:
    """Blocks that so many positions of one sequence take."""
    return -(-tokens // BLOCK_TOKENS)
