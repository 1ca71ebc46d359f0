"""The ways to keep packed documents apart: the right one is chosen, and they say the same as far as they run here."""

import inspect

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.attention.varlen import varlen_attn

from starsmith.model import attention

pytestmark = pytest.mark.slow

AMPERE, VOLTA, PASCAL = (8, 0), (7, 0), (6, 1)
LENGTHS = (70, 1, 140, 45)


def tensors(heads: int, kv_heads: int, *, head_dim: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, count, sum(LENGTHS), head_dim) for count in (heads, kv_heads, kv_heads)]
    query, key, value = (torch.randn(shape, generator=generator) for shape in shapes)
    return query, key, value


@pytest.mark.parametrize(
    ("device", "dtype", "head_dim", "capability", "dropout", "way"),
    [
        ("cpu", torch.bfloat16, 128, None, 0.0, "loop"),
        ("mps", torch.float16, 128, None, 0.0, "loop"),
        ("cuda", torch.bfloat16, 128, AMPERE, 0.0, "varlen"),
        ("cuda", torch.float16, 64, (9, 0), 0.0, "varlen"),
        ("cuda", torch.bfloat16, 128, AMPERE, 0.1, "loop"),
        ("cuda", torch.float32, 128, AMPERE, 0.0, "flex"),
        ("cuda", torch.float16, 128, VOLTA, 0.0, "flex"),
        ("cuda", torch.bfloat16, 512, AMPERE, 0.0, "flex"),
        ("cuda", torch.bfloat16, 8, VOLTA, 0.0, "loop"),
        ("cuda", torch.float16, 128, PASCAL, 0.0, "loop"),
    ],
)
def test_each_device_goes_the_fastest_way_it_can(
    device: str, dtype: torch.dtype, head_dim: int, capability: tuple[int, int] | None, dropout: float, way: str
) -> None:
    chosen = attention.choose_way(device, dtype, head_dim=head_dim, capability=capability, dropout=dropout)

    assert chosen == way


def test_the_way_follows_the_type_that_autocast_computes_in() -> None:
    assert attention.way_for(torch.zeros(1), head_dim=64, dropout=0.0) == "loop"  # the processor's only one


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("window", "kv_heads"), [(None, 4), (50, 2), (1, 1)])
def test_the_block_mask_says_the_same_as_the_loop(window: int | None, kv_heads: int) -> None:
    query, key, value = tensors(4, kv_heads)
    loop = attention.pack(LENGTHS, "loop", window=window, device=query.device)
    flex = attention.pack(LENGTHS, "flex", window=window, device=query.device)

    one = attention.attend_packed(query, key, value, loop, window=window)
    other = flex_attention(query, key, value, block_mask=flex.blocks, enable_gqa=True)  # uncompiled

    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_the_kernel_for_variable_lengths_is_called_as_torch_declares_it(window: int | None, kv_heads: int) -> None:
    query, key, value = tensors(4, kv_heads)
    packing = attention.pack(LENGTHS, "varlen", window=window, device=query.device)

    arguments, named = attention.varlen_call(query, key, value, packing, window)
    bound = inspect.signature(varlen_attn).bind(*arguments, **named).arguments

    assert bound["query"].shape == (256, 4, 16)
    assert bound["key"].shape == bound["value"].shape == (256, kv_heads, 16)
    assert bound["cu_seq_q"].tolist() == bound["cu_seq_k"].tolist() == [0, 70, 71, 211, 256]
    assert bound["cu_seq_q"].dtype == torch.int32
    assert bound["max_q"] == bound["max_k"] == 140
    assert bound["window_size"] == (-1 if window is None else 49, 0)  # it counts without the token itself
    assert bound["enable_gqa"] == (kv_heads == 1)


def test_documents_of_one_length_are_put_back_in_their_places() -> None:
    query, key, value = tensors(2, 2)
    lengths = (64, 64, 100, 28)
    packing = attention.pack(lengths, "loop", window=None, device=query.device)

    together = attention.attend_packed(query, key, value, packing, window=None)
    second = attention.attend(query[:, :, 64:128], key[:, :, 64:128], value[:, :, 64:128], window=None)

    torch.testing.assert_close(together[:, :, 64:128], second, rtol=0, atol=1e-6)
