"""What lies between two products of bytes, against PyTorch; a row is the same bits whatever is beside it."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from starsmith.model.kernels import rows
from starsmith.model.quantization import to_bytes

pytestmark = pytest.mark.slow  # they are compiled, where that was not kept

TOKENS, WIDTH, EPSILON = 5, 64, np.float32(1e-5)
HEADS, HEAD_WIDTH, PLACES = 4, 16, 9


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    rows.compile_all()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Product:
    """Exact sums, with all that makes numbers of them."""

    def __init__(self) -> None:
        self.exact = torch.randint(
            -90_000, 90_000, (TOKENS, WIDTH), dtype=torch.int32, generator=torch.Generator().manual_seed(1)
        )
        self.scale, self.bias = normal(WIDTH, seed=2) * 1e-2, normal(WIDTH, seed=3)
        self.row_scales = normal(TOKENS, seed=4).abs() * 1e-2
        self.numbers = self.exact.float() * self.scale * self.row_scales[:, None] + self.bias
        self.arguments = (self.exact.numpy(), self.scale.numpy(), self.bias.numpy())


class Room:
    """What the functions write to."""

    def __init__(self, scales: Tensor | None = None) -> None:
        self.row = np.zeros(2 * WIDTH, np.float32)
        self.levels = np.full((TOKENS, WIDTH), 99, np.int8)
        self.scales = np.zeros(TOKENS, np.float32) if scales is None else scales.numpy().copy()

    def assert_holds(self, wanted: Tensor) -> None:
        levels, scales = to_bytes(wanted)
        np.testing.assert_allclose(self.scales, scales.numpy(), rtol=1e-5)
        assert np.abs(self.levels.astype(int) - levels.numpy()).max() <= 1  # 2.5000 and 2.4999
        assert (self.levels != levels.numpy()).mean() < 0.02


def test_a_norm_is_left_as_bytes() -> None:
    x, weight, bias = normal(TOKENS, WIDTH) * 3 + 1, normal(WIDTH, seed=1), normal(WIDTH, seed=2)
    room = Room()

    rows.normalize_rows(x.numpy(), weight.numpy(), bias.numpy(), EPSILON, room.row[:WIDTH], room.levels, room.scales)

    room.assert_holds(functional.layer_norm(x, (WIDTH,), weight, bias, float(EPSILON)))


def test_a_product_is_added_and_its_norm_left_as_bytes() -> None:
    product, x = Product(), normal(TOKENS, WIDTH)
    weight, bias = normal(WIDTH, seed=5), normal(WIDTH, seed=6)
    room, wanted = Room(product.row_scales), x + product.numbers

    rows.add_rows(
        *product.arguments, x.numpy(), weight.numpy(), bias.numpy(), EPSILON, room.row[:WIDTH], room.levels, room.scales
    )

    torch.testing.assert_close(x, wanted, rtol=1e-6, atol=1e-6)
    room.assert_holds(functional.layer_norm(wanted, (WIDTH,), weight, bias, float(EPSILON)))


def test_gelu_of_a_product_is_left_as_bytes() -> None:
    product = Product()
    room = Room(product.row_scales)

    rows.gelu_rows(*product.arguments, room.row, room.levels, room.scales)

    room.assert_holds(functional.gelu(product.numbers, approximate="tanh"))


@pytest.mark.parametrize("turned", [True, False])
def test_heads_go_as_halves_to_their_slots(turned: bool) -> None:
    product, angles = Product(), normal(TOKENS, HEAD_WIDTH // 2, seed=7)
    cosines, sines = angles.cos(), angles.sin()
    slots = torch.tensor([3, 8, 0, 5, 2])
    out = torch.full((HEADS, PLACES, HEAD_WIDTH), torch.nan, dtype=torch.bfloat16)
    wanted = product.numbers.view(TOKENS, HEADS, HEAD_WIDTH).transpose(0, 1)
    if turned:
        first, second = wanted.chunk(2, dim=-1)
        wanted = torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)
    width = HEAD_WIDTH // 2 if turned else 0

    rows.head_rows(
        *product.arguments,
        product.row_scales.numpy(),
        cosines.numpy()[:, :width],
        sines.numpy()[:, :width],
        slots.numpy(),
        np.zeros(WIDTH, np.float32),
        bits(out),
    )

    torch.testing.assert_close(out[:, slots].float(), wanted, rtol=2**-8, atol=1e-5)
    assert out.isnan().sum() == HEADS * (PLACES - TOKENS) * HEAD_WIDTH


def test_halves_are_rounded_as_pytorch_does_it_and_stay_no_numbers() -> None:
    x = torch.cat([normal(1, WIDTH - 5)[0], torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, 1.00390625])])
    x = x[None].repeat(TOKENS, 1)
    exact, ones = torch.zeros(TOKENS, WIDTH, dtype=torch.int32), np.ones(TOKENS, np.float32)
    out = torch.zeros((1, TOKENS, WIDTH), dtype=torch.bfloat16)
    none = np.zeros((TOKENS, 0), np.float32)

    rows.head_rows(
        exact.numpy(), np.zeros(WIDTH, np.float32), x[0].numpy(), ones, none, none, np.arange(TOKENS),
        np.zeros(WIDTH, np.float32), bits(out),
    )  # fmt: skip

    torch.testing.assert_close(out[0], x.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_halves_become_bytes() -> None:
    x = normal(TOKENS, WIDTH).bfloat16()
    room = Room()

    rows.half_rows(bits(x), room.row[:WIDTH], room.levels, room.scales)

    levels, scales = to_bytes(x.float())
    assert np.array_equal(room.levels, levels.numpy())
    assert np.array_equal(room.scales, scales.numpy())


def bits(tensor: Tensor) -> NDArray[np.uint16]:
    seen: NDArray[np.uint16] = tensor.view(torch.int16).numpy().view(np.uint16)
    return seen
