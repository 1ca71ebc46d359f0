"""Weights in fewer bits: what is lost, what is exact, and how it is packed."""

import pytest
import torch
from torch import Tensor, nn

from starsmith.model.quantization import (
    GROUP,
    KINDS,
    Kind,
    QuantizedEmbedding,
    QuantizedLinear,
    layout,
    pack,
    rounded,
    unpack,
)
from tiny_models import numbers


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer_of(kind: Kind, weight: Tensor, bias: Tensor | None = None) -> QuantizedLinear:
    layer = QuantizedLinear(kind, weight.size(1), len(weight), bias=bias is not None)
    for name, value in rounded(kind, weight).items():
        setattr(layer, name, value)
    layer.bias = bias
    return layer


@pytest.mark.parametrize("width", [64, 128, 192, 320])
def test_what_was_packed_is_unpacked(width: int) -> None:
    levels = torch.randint(0, 16, (5, width), dtype=torch.uint8)

    packed = pack(levels)

    assert packed.shape == (5, width // 2)
    assert torch.equal(unpack(packed), levels.float())


def test_of_128_numbers_the_second_half_is_above_the_first() -> None:
    levels = torch.zeros(1, 192, dtype=torch.uint8)
    levels[0, 3], levels[0, 64 + 3], levels[0, 128 + 3], levels[0, 128 + 32 + 3] = 1, 2, 3, 4

    assert [hex(one) for one in pack(levels)[0, [3, 64 + 3]].tolist()] == ["0x21", "0x43"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_the_layout_that_is_announced(kind: Kind) -> None:
    found = rounded(kind, random(6, 128))

    assert {name: (tuple(one.shape), one.dtype) for name, one in found.items()} == layout(kind, 128, 6)


@pytest.mark.parametrize("kind", ["w8a8", "int8"])
def test_a_weight_is_off_by_half_a_step_of_its_row_at_most(kind: Kind) -> None:
    weight = random(8, 64) * torch.arange(1, 9)[:, None]

    error = (numbers(layer_of(kind, weight)) - weight).abs().amax(1)

    assert (error <= weight.abs().amax(1) / 254 * 1.0001).all()


def test_four_bits_lose_less_than_the_nearest_of_evenly_spaced_steps() -> None:
    weight = random(16, 256)
    plain = weight.view(16, -1, GROUP).abs().amax(2, keepdim=True) / 7
    steps = ((weight.view(16, -1, GROUP) / plain).round() * plain).flatten(1)

    error = numbers(layer_of("int4", weight)) - weight

    assert error.square().sum() < 0.9 * (steps - weight).square().sum()
    assert error.norm() / weight.norm() < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_zero_stay_it(kind: Kind) -> None:
    layer = layer_of(kind, torch.zeros(4, 64), bias=torch.arange(4.0))

    assert torch.equal(layer(random(3, 64)), torch.arange(4.0).expand(3, 4))


@pytest.mark.parametrize(("kind", "most"), [("w8a8", 0.02), ("int8", 0.01), ("int4", 0.12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_computes_what_the_plain_one_does_but_for_the_rounding(
    kind: Kind, most: float, dtype: torch.dtype
) -> None:
    plain = nn.Linear(128, 40)
    x = random(2, 3, 128).to(dtype)
    layer = layer_of(kind, plain.weight.detach(), plain.bias.detach())

    out, wanted = layer(x), plain(x.float())

    assert (out.shape, out.dtype) == ((2, 3, 40), dtype)
    assert ((out.float() - wanted).norm() / wanted.norm()).item() < most


@pytest.mark.parametrize("bias", [True, False])
def test_a_w8a8_row_has_the_same_bits_alone_and_in_a_batch(bias: bool) -> None:
    layer = layer_of("w8a8", random(40, 128), random(40, seed=1) if bias else None)
    x = random(64, 128, seed=2)
    x[5] *= 30  # one neighbour's scale is not another's

    batch = layer(x)

    for m in (0, 5, 63):
        assert torch.equal(layer(x[m : m + 1])[0], batch[m])
    assert torch.equal(layer(x[:17])[3], batch[3])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_row_that_is_no_number_gives_none_and_spares_its_neighbours(value: float) -> None:
    layer = layer_of("w8a8", random(8, 64))
    x = random(3, 64)
    wanted = layer(x)
    x[1, 5] = value

    out = layer(x)

    assert out[1].isnan().all()
    assert torch.equal(out[[0, 2]], wanted[[0, 2]])


def test_an_embedding_gives_the_rows_of_its_matrix() -> None:
    weight = random(9, 64)
    embedding = QuantizedEmbedding(9, 64)
    for name, value in rounded("int8", weight).items():
        setattr(embedding, name, value)

    rows = embedding(torch.tensor([[8, 0], [1, 8]]))

    assert torch.equal(rows, numbers(embedding)[torch.tensor([[8, 0], [1, 8]])])
    assert (rows[0, 0] - weight[8]).abs().max() < weight[8].abs().max() / 254 * 1.0001
