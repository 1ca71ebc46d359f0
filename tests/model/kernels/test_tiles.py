"""Products in tiles are exact, for every size that fits; those of a step and of a prompt are the same."""

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from starsmith.model.kernels import native, tiles
from starsmith.model.kernels.tiles import AT_ONCE, SIDE

if not tiles.is_available():
    pytest.skip("SKIPPED: this processor has no tiles (Intel AMX)", allow_module_level=True)

pytestmark = pytest.mark.slow


def numbers(*shape: int, seed: int = 0) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-127, 128, shape, np.int8)


def packed(levels: NDArray[np.int8]) -> NDArray[np.int8]:
    tokens, inputs = levels.shape
    return np.ascontiguousarray(levels.reshape(tokens // SIDE, SIDE, inputs // 4, 4).transpose(0, 2, 1, 3))


@pytest.mark.parametrize("outputs", [32, 33, 64, 99])
@pytest.mark.parametrize(("groups", "inputs"), [(2, 64), (6, 192), (2, 64 * 50)])
def test_a_prompts_products_are_exact(outputs: int, groups: int, inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "CACHED", 16 * tiles.TILE)  # so that some products are made of several parts
    weights, levels = numbers(outputs, inputs), numbers(groups * SIDE, inputs, seed=1)
    columns = packed(levels)
    sums = np.full((groups, outputs, SIDE), 7, np.int32)

    rows = tiles.products(
        weights.ctypes.data, inputs, outputs, columns.ctypes.data, groups, sums.ctypes.data, sums.strides[0]
    )
    native.run(native.program(rows))

    wanted = levels.astype(np.int32) @ weights.astype(np.int32).T
    assert np.array_equal(sums.transpose(0, 2, 1).reshape(-1, outputs), wanted)
    assert outputs % AT_ONCE or len(rows) == -(-inputs // (16 // groups * 64))


def test_a_steps_products_are_exact() -> None:
    weights, levels = numbers(AT_ONCE, 192), numbers(SIDE, 200, seed=1)
    columns, sums = np.zeros(SIDE * 192, np.int8), np.zeros((AT_ONCE, SIDE), np.int32)
    pack, multiply = (native_call(address, 4) for address in tiles.for_steps())

    pack(levels.ctypes.data, levels.strides[0], 192, columns.ctypes.data)
    multiply(weights.ctypes.data, 192, columns.ctypes.data, sums.ctypes.data)

    assert np.array_equal(columns.reshape(1, 48, SIDE, 4), packed(np.ascontiguousarray(levels[:, :192])))
    assert np.array_equal(sums.T, levels[:, :192].astype(np.int32) @ weights.astype(np.int32).T)


def native_call(address: int, arguments: int) -> Callable[..., None]:
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(address)


def test_matrices_that_do_not_fit_are_refused() -> None:
    assert tiles.fits(32, 64)
    assert not tiles.fits(31, 64)
    assert not tiles.fits(32, 96)
