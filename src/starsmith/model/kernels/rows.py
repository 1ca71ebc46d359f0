"""What goes between two exact products of bytes, for many tokens: a row is read once, and left as the next bytes.

As PyTorch operations the same is a dozen passes over matrices that no cache holds, which took longer than the products.

`exact` are the int32 sums of a product, (M, N); times the scale of their output and that of their row, plus the bias,
they are its outcome. What is written for the next product is (M, K) int8 `levels` and in `scales` what each row is to
be multiplied with; `row` is room for one row. Halves are the bits of bfloat16.
"""

import numpy as np
from numpy.typing import NDArray

from starsmith.model.kernels.arithmetic import gelu, normalize, rotate, to_bytes
from starsmith.model.kernels.compiling import compiled, entry
from starsmith.model.kernels.memory import as_bits, from_bits
from starsmith.model.kernels.tables import Floats, Levels, Table

Sums = NDArray[np.int32]
Halves = NDArray[np.uint16]

UPPER, ODD, LOWER = np.int32(16), np.int32(1), np.int32(0xFFFF)
LESS_THAN_HALF = np.int32(0x7FFF)
NOT_A_NUMBER = np.uint16(0x7FC0)


@compiled
def _scale(exact: Sums, scale: Floats, factor: np.float32, bias: Floats, out: Floats) -> None:
    for n in range(out.shape[0]):
        out[n] = np.float32(exact[n]) * scale[n] * factor + bias[n]


@compiled
def _to_halves(row: Floats, out: Halves) -> None:
    """Rounded to the nearest, to even between two."""
    for i in range(row.shape[0]):
        bits = as_bits(row[i])
        rounded = (bits + LESS_THAN_HALF + ((bits >> UPPER) & ODD)) >> UPPER
        out[i] = NOT_A_NUMBER if row[i] != row[i] else np.uint16(rounded & LOWER)


@entry
def normalize_rows(
    x: Floats, weight: Floats, bias: Floats, epsilon: np.float32, row: Floats, levels: Levels, scales: Floats
) -> None:
    """LayerNorm of `x`, (M, K)."""
    for m in range(x.shape[0]):
        normalize(x[m], weight, bias, epsilon, row)
        scales[m] = to_bytes(row, levels[m])


@entry
def add_rows(
    exact: Sums,
    scale: Floats,
    bias: Floats,
    x: Floats,
    norm_weight: Floats,
    norm_bias: Floats,
    epsilon: np.float32,
    row: Floats,
    levels: Levels,
    scales: Floats,
) -> None:
    """A product added to `x` in place, and the LayerNorm of that; `scales` has those of the product before."""
    for m in range(x.shape[0]):
        _scale(exact[m], scale, scales[m], bias, row)
        for i in range(row.shape[0]):
            x[m, i] += row[i]
        normalize(x[m], norm_weight, norm_bias, epsilon, row)
        scales[m] = to_bytes(row, levels[m])


@entry
def gelu_rows(exact: Sums, scale: Floats, bias: Floats, row: Floats, levels: Levels, scales: Floats) -> None:
    """GELU of a product; `scales` has those of the product before.

    `row` is room for two: a loop that writes where it reads becomes no vector instructions.
    """
    width = exact.shape[1]
    for m in range(exact.shape[0]):
        _scale(exact[m], scale, scales[m], bias, row[:width])
        gelu(row[:width], row[width:])
        scales[m] = to_bytes(row[width:], levels[m])


@entry
def head_rows(
    exact: Sums,
    scale: Floats,
    bias: Floats,
    scales: Floats,
    cosines: Floats,
    sines: Floats,
    slots: Table,
    row: Floats,
    out: Halves,
) -> None:
    """A product as the halves of its heads: of row m and head a at `out[a, slots[m]]`.

    They are turned by their position where `cosines`, (M, D / 2), have a width at all.
    """
    width, half = out.shape[2], cosines.shape[1]
    for m in range(exact.shape[0]):
        _scale(exact[m], scale, scales[m], bias, row)
        for head in range(out.shape[0]):
            its = row[head * width : (head + 1) * width]
            if half > 0:
                rotate(its, cosines[m], sines[m])
            _to_halves(its, out[head, slots[m]])


@entry
def half_rows(halves: Halves, row: Floats, levels: Levels, scales: Floats) -> None:
    """Halves as they are."""
    for m in range(halves.shape[0]):
        for i in range(row.shape[0]):
            row[i] = from_bits(np.int32(halves[m, i]) << UPPER)
        scales[m] = to_bytes(row, levels[m])


def compile_all() -> None:
    """Compile what is not kept yet."""
    floats, table, sums = "float32[::1]", "float32[:,::1]", "int32[:,::1]"
    levels, halves = "int8[:,::1]", "uint16[:,::1]"
    normed, product = f"{floats}, {floats}, float32, {floats}, {levels}, {floats}", f"{sums}, {floats}, {floats}"
    normalize_rows.compile(f"({table}, {normed})")
    add_rows.compile(f"({product}, {table}, {normed})")
    gelu_rows.compile(f"({product}, {floats}, {levels}, {floats})")
    head_rows.compile(f"({product}, {floats}, {table}, {table}, int64[::1], {floats}, uint16[:,:,::1])")
    half_rows.compile(f"({halves}, {floats}, {levels}, {floats})")
