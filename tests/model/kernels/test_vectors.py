"""Every inner loop in every form, against numpy."""

import ctypes
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from starsmith.model.kernels import vectors
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.tables import GROUP, MOST, ROWS, SHIFT
from starsmith.model.kernels.vectors import Instructions, Name

pytestmark = pytest.mark.slow

FORMS: list[Instructions] = ["vnni", "avx2", "plain"]
FORMS = FORMS[FORMS.index(vectors.best()) :]  # this processor's, and those that ask less of it
EVERY_M = pytest.mark.parametrize("most", range(1, MOST + 1))
EVERY_FORM = pytest.mark.parametrize("form", FORMS)


def call(name: Name, form: Instructions, most: int, *arguments: int) -> None:
    address = vectors.addresses(name, form)[most - 1]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(arguments))(address)(*arguments)


def at(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def halves(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def cut(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is left of numbers as bfloat16."""
    return (halves(values).astype(np.uint32) << 16).view(np.float32)


@EVERY_M
@pytest.mark.parametrize("name", ["f32", "bf16", "i8_f32"])
@pytest.mark.parametrize("width", [16, 208])
def test_products_with_float_activations_are_those_of_numpy(name: Name, most: int, width: int) -> None:
    random = np.random.default_rng(most)
    x = random.normal(size=(most, width + 8)).astype(np.float32)  # rows are further apart than they are long
    if name == "i8_f32":
        held = random.integers(-127, 128, (ROWS, width), np.int8)
        weights = held.astype(np.float64)
    else:
        drawn = random.normal(size=(ROWS, width)).astype(np.float32)
        held, weights = (drawn, drawn) if name == "f32" else (halves(drawn), cut(drawn))
    out = np.full((ROWS, most), np.nan, np.float32)

    call(name, "plain", most, at(held), held.strides[0], at(x), x.strides[0], width, at(out))

    np.testing.assert_allclose(
        out, weights.astype(np.float64) @ x[:, :width].T.astype(np.float64), rtol=2e-5, atol=2e-3
    )


@EVERY_M
@EVERY_FORM
@pytest.mark.parametrize("width", [64, 192])
def test_products_of_bytes_are_exact(form: Instructions, most: int, width: int) -> None:
    random = np.random.default_rng(most)
    weights = random.integers(-127, 128, (ROWS, width), np.int8)
    x = random.integers(-127, 128, (most, width + 8), np.int8)
    weights[0], x[0] = 127, -127  # as far as a sum can go
    out = np.zeros((ROWS, most), np.int32)

    call("i8", form, most, at(weights), width, at(x), x.strides[0], width, at(out))

    too_much = vectors.excess(form) * weights.sum(1, dtype=np.int64)[:, None]
    np.testing.assert_array_equal(out - too_much, weights.astype(np.int64) @ x[:, :width].T.astype(np.int64))


@EVERY_M
@EVERY_FORM
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_products_of_nibbles_are_those_of_numpy(form: Instructions, most: int, groups: int) -> None:
    random = np.random.default_rng(groups)
    width = groups * GROUP
    levels = random.integers(0, 16, (ROWS, groups, GROUP), np.uint8)
    scales = random.normal(size=(ROWS, groups)).astype(np.float32)
    x = random.integers(-127, 128, (most, width), np.int8)
    out = np.full((ROWS, most), np.nan, np.float32)
    held = packed(levels.reshape(ROWS, width))

    call("u4", form, most, at(held), width // 2, at(x), width, width, at(out), at(scales), scales.strides[0])

    weights = (levels * scales[:, :, None].astype(np.float64)).reshape(ROWS, width)
    np.testing.assert_allclose(out, weights @ x.T.astype(np.float64), rtol=1e-5, atol=1e-2)


def packed(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One number after the other, as the head of the module says it."""
    rows, width = levels.shape
    out = np.zeros((rows, width // 2), np.uint8)
    for k in range(width):
        block, rest = divmod(k, 2 * GROUP)
        half = GROUP if (block + 1) * 2 * GROUP <= width else GROUP // 2
        out[:, block * GROUP + rest % half] |= levels[:, k] << (4 * (rest // half))
    return out


@EVERY_M
@pytest.mark.parametrize("name", ["score_f32", "score_bf16"])
@pytest.mark.parametrize("width", [16, 48])
def test_scores_of_a_block_are_those_of_numpy(name: Name, most: int, width: int) -> None:
    random = np.random.default_rng(most)
    drawn = random.normal(size=(LANES, width)).astype(np.float32)
    held, keys = (drawn, drawn) if name == "score_f32" else (halves(drawn), cut(drawn))
    queries = random.normal(size=(most, width)).astype(np.float32)
    out, factor = np.full((most, LANES + 3), np.nan, np.float32), np.float32(0.25)

    call(
        name, "plain", most, at(held), at(queries), queries.strides[0], width, at(out), out.strides[0],
        int(factor.view(np.int32)),
    )  # fmt: skip

    wanted = factor * (queries.astype(np.float64) @ keys.T.astype(np.float64))
    np.testing.assert_allclose(out[:, :LANES], wanted, rtol=2e-5, atol=1e-5)
    assert np.isnan(out[:, LANES:]).all()


@EVERY_M
@pytest.mark.parametrize("name", ["mix_f32", "mix_bf16"])
@pytest.mark.parametrize(("positions", "width"), [(1, 16), (7, 48)])
def test_mixed_values_are_added_to_what_is_there(name: Name, most: int, positions: int, width: int) -> None:
    random = np.random.default_rng(most)
    drawn = random.normal(size=(positions, width)).astype(np.float32)
    held, values = (drawn, drawn) if name == "mix_f32" else (halves(drawn), cut(drawn))
    weights = random.random((most, positions + 3)).astype(np.float32)
    out = np.ones((most, width + 16), np.float32)

    call(name, "plain", most, at(held), at(weights), weights.strides[0], positions, at(out), out.strides[0], width)

    np.testing.assert_allclose(out[:, :width], 1 + weights[:, :positions] @ values, rtol=1e-5, atol=1e-5)
    assert (out[:, width:] == 1).all()


@pytest.mark.parametrize(
    ("name", "form"), [("f32", "plain"), ("bf16", "plain"), ("i8_f32", "plain")] + [("u4", form) for form in FORMS]
)
def test_a_row_has_the_same_bits_whatever_is_computed_beside_it(name: Name, form: Instructions) -> None:
    random = np.random.default_rng(0)
    width = 192
    held = random.integers(1, 100, ROWS * width * 4, np.uint8).view(np.int8)
    held.view(np.uint8)[3::4] = 0x3E  # as floats: small ones
    x = (
        random.integers(-127, 128, (MOST, width), np.int8)
        if name == "u4"
        else random.normal(size=(MOST, width)).astype(np.float32)
    )
    scales = random.normal(size=(ROWS, width // GROUP)).astype(np.float32)
    more = (at(scales), scales.strides[0]) if name == "u4" else ()
    stride = {"f32": 4 * width, "bf16": 2 * width, "i8_f32": width, "u4": width // 2}[name]
    together = np.zeros((ROWS, MOST), np.float32)
    call(name, form, MOST, at(held), stride, at(x), x.strides[0], width, at(together), *more)

    for m in range(MOST):
        alone = np.zeros((ROWS, 1), np.float32)
        call(name, form, 1, at(held), stride, at(x[m]), x.strides[0], width, at(alone), *more)

        np.testing.assert_array_equal(alone[:, 0], together[:, m])
        assert np.isfinite(alone).all()


def test_the_excess_is_what_makes_bytes_unsigned() -> None:
    assert [vectors.excess(form) for form in ("vnni", "avx2", "plain")] == [SHIFT, 0, 0]
