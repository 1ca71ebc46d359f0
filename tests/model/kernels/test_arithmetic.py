"""What lies between two matrices, against PyTorch and numpy in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numba import njit
from numpy.typing import NDArray
from torch.nn import functional

from starsmith.model import quantization
from starsmith.model.kernels import arithmetic
from starsmith.model.kernels.compiling import compiled

Floats = NDArray[np.float32]

pytestmark = pytest.mark.slow  # compiles each of them for itself


@compiled
def each_exponential(x: Floats, out: Floats) -> None:
    for i in range(x.shape[0]):
        out[i] = arithmetic.exponential(x[i])


def run(function: Callable[..., object], *arguments: object) -> object:
    """A compiled function, called by Python."""

    def call_1(a):  # type: ignore[no-untyped-def]
        return function(a)

    def call_2(a, b):  # type: ignore[no-untyped-def]
        return function(a, b)

    def call_3(a, b, c):  # type: ignore[no-untyped-def]
        return function(a, b, c)

    def call_5(a, b, c, d, e):  # type: ignore[no-untyped-def]
        return function(a, b, c, d, e)

    return njit(error_model="numpy")({1: call_1, 2: call_2, 3: call_3, 5: call_5}[len(arguments)])(*arguments)


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_exponential_is_right_to_a_float32_and_never_infinite() -> None:
    x = np.concatenate([np.linspace(-87, 88, 10_001), [0.0, -1e-8, -1e9, 1e9, -np.inf, np.inf]]).astype(np.float32)
    out = np.zeros_like(x)

    run(each_exponential, x, out)

    np.testing.assert_allclose(out, np.exp(np.clip(x.astype(np.float64), -87, 88)), rtol=3e-7)


def test_exponential_of_what_is_no_number_is_none() -> None:
    out = np.zeros(1, np.float32)

    run(each_exponential, np.array([np.nan], np.float32), out)

    assert np.isnan(out[0])


@pytest.mark.parametrize("width", [16, 100])
def test_a_norm_is_that_of_pytorch(width: int) -> None:
    x, weight, bias = 3 * normal(width) + 50, normal(width, seed=1), normal(width, seed=2)
    out = np.zeros_like(x)

    run(arithmetic.normalize, x, weight, bias, np.float32(1e-5), out)

    wanted = functional.layer_norm(*(torch.from_numpy(one).double() for one in (x,)), (width,)).numpy()
    np.testing.assert_allclose(out, wanted * weight + bias, rtol=2e-4, atol=2e-5)


def test_gelu_is_the_tanh_form() -> None:
    x = np.concatenate([normal(1000) * 4, [-100.0, -20.0, 0.0, 20.0, 100.0]]).astype(np.float32)
    out = np.zeros_like(x)

    run(arithmetic.gelu, x, out)

    wanted = functional.gelu(torch.from_numpy(x).double(), approximate="tanh").numpy()
    np.testing.assert_allclose(out, wanted, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("width", [1, 15, 64, 1001])
def test_softmax_over_its_sum_is_that_of_pytorch(width: int) -> None:
    scores = 30 * normal(width)
    wanted = torch.from_numpy(scores).double().softmax(0).numpy()

    total = run(arithmetic.softmax, scores)

    np.testing.assert_allclose(scores / total, wanted, rtol=5e-6, atol=1e-30)


def test_a_head_turns_its_first_half_against_its_second() -> None:
    row, angles = normal(16), normal(8, seed=1)
    turned = (row[:8] + 1j * row[8:]) * np.exp(1j * angles.astype(np.float64))

    run(arithmetic.rotate, row, np.cos(angles), np.sin(angles))

    np.testing.assert_allclose(row, np.concatenate([turned.real, turned.imag]), rtol=1e-5, atol=1e-6)


ROWS = {
    "normal": normal(100),
    "zeros": np.zeros(100, np.float32),
    "next to nothing": np.full(100, 1e-42, np.float32),
    "ends": np.array([3.0, -3.0, 1.5] * 10, np.float32),
    "halves": np.array([127.0, 0.5, 1.5, -0.5, -2.5], np.float32),  # to even
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_rounded_as_pytorch_does_it(name: str) -> None:
    row = ROWS[name]
    out = np.full(row.shape, 99, np.int8)

    scale = run(arithmetic.to_bytes, row, out)

    levels, scales = quantization.to_bytes(torch.from_numpy(row)[None])
    np.testing.assert_array_equal(out, levels[0].numpy())
    assert scale == scales.item()
    assert np.abs(out * np.float64(scale) - row).max() <= max(np.abs(row).max() / 254 * 1.00001, 1e-36)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_what_is_no_number_has_a_scale_that_is_none(value: float) -> None:
    row = normal(20)
    row[7] = value

    assert np.isnan(run(arithmetic.to_bytes, row, np.zeros(20, np.int8)))
    assert quantization.to_bytes(torch.from_numpy(row)[None])[1].isnan().all()
