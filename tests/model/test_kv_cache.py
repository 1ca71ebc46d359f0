"""Blocks of keys and values: in any order, shared by sequences, and never read where nothing was written."""

import pytest
import torch

from starsmith.model.kv_cache import BLOCK_TOKENS, BlockPool, Chunk, ChunkCache, blocks_for
from tiny_models import VOCABULARY, random_model


def ids(count: int, seed: int) -> list[int]:
    return torch.randint(VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (BLOCK_TOKENS, 1), (BLOCK_TOKENS + 1, 2)])
def test_a_block_is_begun_for_a_token(tokens: int, blocks: int) -> None:
    assert blocks_for(tokens) == blocks


@pytest.mark.parametrize("window", [None, 20])
def test_chunks_of_sequences_in_one_row_have_the_states_of_each_alone(window: int | None) -> None:
    model = random_model(sliding_window=window)
    pool = BlockPool(model.config, blocks=8)
    pool.keys.fill_(torch.nan)
    pool.values.fill_(torch.nan)
    long, other = ids(50, 1), ids(20, 2)

    def read(*chunks: Chunk) -> torch.Tensor:
        row = torch.tensor([[one for chunk in chunks for one in chunk.ids]])
        return model.hidden(row, cache=ChunkCache(pool, chunks))[0]

    first = read(Chunk(long[:45], 0, [6, 1, 4]), Chunk(other[:3], 0, [0]))
    second = read(Chunk(other[3:], 3, [0, 7]), Chunk(long[45:], 45, [6, 1, 4, 2]))

    torch.testing.assert_close(
        torch.cat([first[:45], second[17:]]), model.hidden(torch.tensor([long]))[0], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        torch.cat([first[45:], second[:17]]), model.hidden(torch.tensor([other]))[0], rtol=1e-4, atol=1e-4
    )


def test_positions_are_those_of_each_sequence() -> None:
    pool = BlockPool(random_model().config, blocks=3)

    cache = ChunkCache(pool, [Chunk([1, 2], 15, [2, 0]), Chunk([3], 0, [1])])

    assert cache.positions.tolist() == [15, 16, 0]


def test_a_stored_position_is_gathered_from_its_block() -> None:
    pool = BlockPool(random_model().config, blocks=3)
    new = torch.arange(2 * 2 * 16.0).view(2, 2, 16)
    pool.store(1, torch.tensor([2 * BLOCK_TOKENS + 15, 0 * BLOCK_TOKENS]), new, -new)

    k, v = pool.gather(1, torch.tensor([2, 0]), BLOCK_TOKENS + 1)

    assert k.shape == (2, BLOCK_TOKENS + 1, 16)
    assert torch.equal(k[:, -2:], new)
    assert torch.equal(v[:, -2:], -new)
    assert not pool.keys[0].any()  # another layer


def test_a_copied_block_is_equal_in_every_layer_and_apart_from_then_on() -> None:
    pool = BlockPool(random_model().config, blocks=3)
    pool.keys.normal_()
    pool.values.normal_()
    kept = pool.keys.clone()

    pool.copy_block(2, 0)
    assert torch.equal(pool.keys[:, :, 0], kept[:, :, 2])
    assert torch.equal(pool.values[:, :, 0], pool.values[:, :, 2])
    pool.keys[:, :, 2] = 0

    assert torch.equal(pool.keys[:, :, :2], torch.stack([kept[:, :, 2], kept[:, :, 1]], 2))


def test_a_pool_in_bfloat16_takes_a_model_in_float32() -> None:
    model = random_model()
    pool = BlockPool(model.config, blocks=1, dtype=torch.bfloat16)

    states = model.hidden(torch.tensor([[1, 2, 3]]), cache=ChunkCache(pool, [Chunk([1, 2, 3], 0, [0])]))

    assert states.dtype == torch.float32
    torch.testing.assert_close(states, model.hidden(torch.tensor([[1, 2, 3]])), rtol=0.05, atol=0.05)
