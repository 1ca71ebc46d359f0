"""One product of the step by itself, against the layer it stands for."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from starsmith.inference.plan import STEP_TOKENS, Plan
from starsmith.model.kernels import tables
from starsmith.model.kernels.memory import integers
from starsmith.model.kernels.products import multiply, prepare
from starsmith.model.kernels.tables import Table
from starsmith.model.kv_cache import BlockPool, Chunk
from starsmith.model.transformer import Transformer
from tiny_models import Rounding, of_kind

pytestmark = pytest.mark.slow  # compiles the product

COPIED = 1  # the product of a layer that takes its rows as they are: what attention makes, times o_proj


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def product_of(number: int, plan: Table, own: Table) -> int:
    product = integers(plan[tables.PRODUCTS] + number * tables.PRODUCT * 8, tables.PRODUCT)
    place = plan[tables.MATRICES] + product[tables.MATRIX] * tables.MATRIX_COLUMNS * 8
    matrix = integers(place, tables.MATRIX_COLUMNS)
    rows = prepare(product, matrix[tables.KIND], plan, own)
    counter = plan[tables.DRAWN] + number * tables.COUNTERS * 8
    multiply(matrix, rows, own, product, product[tables.OUT], counter)
    return rows  # type: ignore[no-any-return]


def floats(address: int, *shape: int) -> NDArray[np.float32]:
    """The array at an address, to read and to write."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


def by_the_step(model: Transformer, x: Tensor, added: Tensor) -> Tensor:
    plan = Plan(model, BlockPool(model.config, blocks=1), threads=1)
    plan.read([Chunk([0] * len(x), 0, [0], 0)])
    product = floats_of_product(plan)
    width = x.size(1)
    floats(product[tables.SOURCE], STEP_TOKENS, width)[: len(x)] = x.numpy()
    floats(product[tables.ADDED], STEP_TOKENS, width)[: len(x)] = added.numpy()

    assert product_of(COPIED, plan.table, plan.own[0]) == len(x)

    return torch.from_numpy(floats(product[tables.OUT], STEP_TOKENS, width)[: len(x)].copy())


def floats_of_product(plan: Plan) -> list[int]:
    place = int(plan.table[tables.PRODUCTS]) + COPIED * tables.PRODUCT * 8
    return list((ctypes.c_int64 * tables.PRODUCT).from_address(place))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 3, 4, 7, 16])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8", "w8a8", "int4"])
def test_rows_times_a_matrix_are_those_of_its_weights_plus_what_is_added(kind: str, count: int, tmp_path: Path) -> None:
    model, reference = of_kind(kind, tmp_path)
    x, added = random(count, 64), random(count, 64, seed=1)

    seen = by_the_step(model, x, added)

    wanted = reference.get_submodule("model.layers.0.self_attn.o_proj")(x) + added
    torch.testing.assert_close(seen, wanted, rtol=1e-5, atol=1e-5)


def test_a_w8a8_row_has_the_same_bits_by_the_step_and_by_the_layer_alone_and_in_a_batch(tmp_path: Path) -> None:
    model, reference = of_kind("w8a8", tmp_path)
    layer = model.get_submodule("model.layers.0.self_attn.o_proj")
    x = random(64, 64)
    x[3] *= 30

    batch = layer(x)
    seen = torch.cat(
        [by_the_step(model, x[:16], torch.zeros(16, 64)), by_the_step(model, x[16:17], torch.zeros(1, 64))]
    )

    assert torch.equal(seen, batch[:17])
    assert torch.equal(layer(x[3:4]), batch[3:4])
    assert isinstance(reference.get_submodule("model.layers.0.self_attn.o_proj"), Rounding)


def test_a_row_that_is_no_number_spares_its_neighbours(tmp_path: Path) -> None:
    for kind in ("float32", "w8a8", "int4"):
        model, _ = of_kind(kind, tmp_path / kind)
        x = random(6, 64)
        wanted = by_the_step(model, x, torch.zeros(6, 64))
        x[2, 9] = torch.nan

        seen = by_the_step(model, x, torch.zeros(6, 64))

        assert seen[2].isnan().all()
        assert torch.equal(seen[[0, 1, 3, 4, 5]], wanted[[0, 1, 3, 4, 5]])
