"""What lies between two products of bytes, against PyTorch; a token has the same bits whatever is beside it."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from starsmith.model.kernels import columns, native
from starsmith.model.kernels.lanes import LANES
from starsmith.model.quantization import to_bytes

pytestmark = pytest.mark.slow  # they are compiled

GROUPS, WIDTH, EPSILON = 2, 64, 1e-5
TOKENS = GROUPS * LANES
HEADS, HEAD_WIDTH, PLACES = 4, 16, 40


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def in_groups(rows: Tensor) -> NDArray[Any]:
    """(tokens, K) to (groups, K, LANES)."""
    return np.ascontiguousarray(rows.numpy().reshape(GROUPS, LANES, -1).transpose(0, 2, 1))


def in_rows(groups: NDArray[Any]) -> Tensor:
    return torch.from_numpy(groups.transpose(0, 2, 1).reshape(TOKENS, -1).copy())


def at(array: NDArray[Any] | Tensor) -> int:
    return array.data_ptr() if isinstance(array, Tensor) else int(array.ctypes.data)


def bits(value: float) -> int:
    return int(np.float32(value).view(np.int32))


def call(name: columns.Name, *arguments: int) -> None:
    native.run(native.program([(columns.addresses()[name], *arguments)]))


class Product:
    """Exact sums, with all that makes numbers of them."""

    def __init__(self) -> None:
        exact = torch.randint(
            -90_000, 90_000, (TOKENS, WIDTH), dtype=torch.int32, generator=torch.Generator().manual_seed(1)
        )
        self.sums = in_groups(exact)
        self.scale, self.bias = normal(WIDTH, seed=2) * 1e-2, normal(WIDTH, seed=3)
        self.scales = normal(TOKENS, seed=4).abs() * 1e-2
        self.numbers = exact.float() * self.scale * self.scales[:, None] + self.bias

    @property
    def places(self) -> tuple[int, int, int]:
        return at(self.sums), at(self.scale), at(self.bias)


class Bytes:
    """What the loops write, and read the scales of."""

    def __init__(self, scales: Tensor | None = None) -> None:
        self.packed = np.full((GROUPS, WIDTH // 4, LANES, 4), 99, np.int8)
        self.scales = torch.zeros(TOKENS) if scales is None else scales.clone()

    @property
    def places(self) -> tuple[int, int]:
        return at(self.packed), at(self.scales)

    @property
    def levels(self) -> NDArray[np.int8]:
        return self.packed.transpose(0, 2, 1, 3).reshape(TOKENS, WIDTH)

    def assert_holds(self, wanted: Tensor) -> None:
        levels, scales = to_bytes(wanted)
        torch.testing.assert_close(self.scales, scales, rtol=1e-5, atol=0)
        assert np.abs(self.levels.astype(int) - levels.numpy()).max() <= 1  # 2.5000 and 2.4999
        assert (self.levels != levels.numpy()).mean() < 0.02


def test_a_norm_is_left_as_bytes() -> None:
    x, weight, bias = normal(TOKENS, WIDTH) * 3 + 1, normal(WIDTH, seed=1), normal(WIDTH, seed=2)
    held, out = in_groups(x), Bytes()

    call("normalize", GROUPS, WIDTH, at(held), at(weight), at(bias), bits(EPSILON), *out.places)

    out.assert_holds(functional.layer_norm(x, (WIDTH,), weight, bias, EPSILON))


def test_a_product_is_added_and_its_norm_left_as_bytes() -> None:
    product, x = Product(), normal(TOKENS, WIDTH)
    weight, bias = normal(WIDTH, seed=5), normal(WIDTH, seed=6)
    held, out, wanted = in_groups(x), Bytes(product.scales), x + product.numbers
    norm = at(weight), at(bias), bits(EPSILON)

    call("add", GROUPS, WIDTH, *product.places, at(held), *norm, *out.places)

    torch.testing.assert_close(in_rows(held), wanted, rtol=1e-6, atol=1e-6)
    out.assert_holds(functional.layer_norm(wanted, (WIDTH,), weight, bias, EPSILON))


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3])
def test_gelu_of_a_product_is_left_as_bytes(size: float) -> None:
    product = Product()
    product.scales *= size
    product.bias *= size
    numbers = product.numbers * size
    out = Bytes(product.scales)

    call("gelu", GROUPS, WIDTH, *product.places, *out.places)

    out.assert_holds(functional.gelu(numbers, approximate="tanh"))


@pytest.mark.parametrize("turned", [True, False])
def test_heads_go_as_halves_to_their_slots_those_that_there_are(turned: bool) -> None:
    product, angles = Product(), normal(TOKENS, HEAD_WIDTH // 2, seed=7)
    slots = torch.randperm(PLACES, generator=torch.Generator().manual_seed(8))[:TOKENS].contiguous()
    counts = torch.tensor([LANES, 5])
    there = torch.arange(TOKENS) < LANES + 5
    out = torch.full((HEADS, PLACES, HEAD_WIDTH), torch.nan, dtype=torch.bfloat16)
    wanted = product.numbers.view(TOKENS, HEADS, HEAD_WIDTH).transpose(0, 1)
    turns = [in_groups(angles.cos()), in_groups(angles.sin())] if turned else []
    if turned:
        wanted = rotated(wanted, angles)
    name: columns.Name = "turned_heads" if turned else "heads"
    place = at(counts), at(slots), at(out), out.stride(0) * 2, *map(at, turns)

    call(name, GROUPS, HEADS, HEAD_WIDTH, *product.places, at(product.scales), *place)

    torch.testing.assert_close(out[:, slots[there]].float(), wanted[:, there], rtol=2**-8, atol=1e-5)
    assert out.isnan().sum() == HEADS * (PLACES - there.sum()) * HEAD_WIDTH


def test_queries_are_pairs_of_halves_times_a_factor() -> None:
    product, angles = Product(), normal(TOKENS, HEAD_WIDTH // 2, seed=7)
    turns = in_groups(angles.cos()), in_groups(angles.sin())
    out = torch.zeros((GROUPS, HEADS, HEAD_WIDTH // 2, LANES, 2), dtype=torch.bfloat16)
    given = GROUPS, HEADS, HEAD_WIDTH, *product.places, at(product.scales)

    call("query_tiles", *given, at(out), bits(0.25), *map(at, turns))

    seen = out.permute(1, 0, 3, 2, 4).reshape(HEADS, TOKENS, HEAD_WIDTH).float()
    wanted = rotated(product.numbers.view(TOKENS, HEADS, HEAD_WIDTH).transpose(0, 1), angles) / 4
    torch.testing.assert_close(seen, wanted, rtol=2**-8, atol=1e-5)


def rotated(heads: Tensor, angles: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    cosines, sines = angles.cos(), angles.sin()
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


def test_halves_are_rounded_as_pytorch_does_it_and_stay_no_numbers() -> None:
    row = torch.cat([normal(1, WIDTH - 5)[0], torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, 1.00390625])])
    sums, zeros, ones = np.zeros((GROUPS, WIDTH, LANES), np.int32), torch.zeros(WIDTH), torch.ones(TOKENS)
    slots, counts = torch.arange(TOKENS), torch.full((GROUPS,), LANES)
    out = torch.zeros((1, TOKENS, WIDTH), dtype=torch.bfloat16)

    call("heads", GROUPS, 1, WIDTH, at(sums), at(zeros), at(row), at(ones), at(counts), at(slots), at(out), 0)

    torch.testing.assert_close(out[0], row.bfloat16().repeat(TOKENS, 1), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("what", ["numbers", "zeros", "no numbers", "infinities"])
def test_numbers_become_the_bytes_that_a_layer_makes_of_them(what: str) -> None:
    x = normal(TOKENS, WIDTH)
    for row in range(0, TOKENS, 3):
        x[row, 7 if what != "zeros" else slice(None)] = {"zeros": 0.0, "no numbers": torch.nan}.get(what, torch.inf)
    if what == "numbers":
        x = normal(TOKENS, WIDTH)
    held, out = in_groups(x), Bytes()

    call("numbers", GROUPS, WIDTH, at(held), *out.places)

    levels, scales = to_bytes(x)
    torch.testing.assert_close(out.scales, scales, rtol=0, atol=0, equal_nan=True)
    are_numbers = ~scales.isnan().numpy()
    assert np.array_equal(out.levels[are_numbers], levels.numpy()[are_numbers])


def test_a_token_has_the_same_bits_whatever_is_beside_it() -> None:
    x, others = normal(TOKENS, WIDTH), normal(TOKENS, WIDTH, seed=9) * 50
    others[3] = x[3]
    weight, bias = normal(WIDTH, seed=1), normal(WIDTH, seed=2)
    seen = []
    for held in (in_groups(x), in_groups(others)):
        out = Bytes()
        call("normalize", GROUPS, WIDTH, at(held), at(weight), at(bias), bits(EPSILON), *out.places)
        seen.append((out.levels[3].tolist(), out.scales[3].item()))

    assert seen[0] == seen[1]
