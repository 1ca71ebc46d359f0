"""Attention in tiles, against PyTorch; what is in the pool beside the sequences is never looked at."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from starsmith.model.kernels import native, tile_attention
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.tables import Table

if tile_attention.address() is None:
    pytest.skip("SKIPPED: this processor has no tiles of bfloat16 (Intel AMX)", allow_module_level=True)

pytestmark = pytest.mark.slow

BLOCKS = np.array([5, 1, 3, 0, 9, 7, 2, 4], np.int64)
POOL_BLOCKS, HEADS = 12, 4


class Sequence:
    """With some tokens that are read, behind others, which are in the pool."""

    def __init__(self, past: int, tokens: int, window: int, *, width: int, kv_heads: int) -> None:
        generator = torch.Generator().manual_seed(past)
        self.past, self.tokens, self.window, self.end = past, tokens, window, past + tokens
        self.queries = torch.randn((HEADS, tokens, width), generator=generator)
        self.keys, self.values = torch.randn((2, kv_heads, self.end, width), generator=generator).bfloat16()

    def pool(self, held: Tensor) -> Tensor:
        """What nobody has written is no number."""
        pool = torch.full((len(held), POOL_BLOCKS * LANES, held.size(2)), torch.nan, dtype=torch.bfloat16)
        places = torch.arange(self.end)
        pool[:, torch.from_numpy(BLOCKS)[places // LANES] * LANES + places % LANES] = held
        pool[:, torch.from_numpy(BLOCKS)[places[: self.first] // LANES] * LANES + places[: self.first] % LANES] = (
            torch.nan
        )
        return pool

    @property
    def first(self) -> int:
        """The first position that anything is seen of."""
        return max(self.past + 1 - self.window, 0)

    def descriptions(self) -> Table:
        rows = []
        for start in range(0, self.tokens, LANES):
            count = min(LANES, self.tokens - start)
            rows.append([count, self.past + start, self.first, self.end, BLOCKS.ctypes.data, start == 0])
        return np.array(rows, np.int64)

    def wanted(self) -> Tensor:
        i, j = torch.arange(self.past, self.end)[:, None], torch.arange(self.end)
        mask = (j <= i) & (i - j < self.window)
        held = [part.float().repeat_interleave(HEADS // len(part), 0) for part in (self.keys, self.values)]
        return functional.scaled_dot_product_attention(self.queries, *held, attn_mask=mask)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize(
    ("past", "tokens", "window"), [(0, 16, 999), (0, 5, 999), (20, 30, 999), (48, 64, 999), (40, 33, 20), (70, 17, 16)]
)
def test_tokens_see_what_they_may(past: int, tokens: int, window: int, width: int, kv_heads: int) -> None:
    sequence = Sequence(past, tokens, window, width=width, kv_heads=kv_heads)
    groups = -(-tokens // LANES)
    queries = torch.zeros((groups * LANES, HEADS, width), dtype=torch.bfloat16)
    queries[:tokens] = (sequence.queries * width**-0.5).transpose(0, 1)
    tiled = queries.view(groups, LANES, HEADS, width // 2, 2).permute(0, 2, 3, 1, 4).contiguous()
    keys, values = sequence.pool(sequence.keys), sequence.pool(sequence.values)
    described = sequence.descriptions()
    scores = tile_attention.score_bytes(sequence.end)
    rooms = [
        np.full(size, 0xFF, np.uint8) for size in (tile_attention.value_bytes(sequence.end, width), scores, scores // 2)
    ]
    out = np.full((groups, HEADS * width, LANES), np.nan, np.float32)

    given = groups, described.ctypes.data, tiled.data_ptr(), keys.data_ptr(), values.data_ptr(), keys.stride(0) * 2
    sizes = kv_heads, HEADS // kv_heads, width, window, *(room.ctypes.data for room in rooms), out.ctypes.data
    native.run(native.program([(tile_attention.address() or 0, *given, *sizes)]))

    seen = torch.from_numpy(out.transpose(0, 2, 1).reshape(groups * LANES, HEADS, width)[:tokens].copy())
    torch.testing.assert_close(seen.transpose(0, 1), sequence.wanted(), rtol=0, atol=0.02)
