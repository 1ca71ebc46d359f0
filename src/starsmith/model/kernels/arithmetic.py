"""What lies between two matrices, for one token at a time: norms, GELU, softmax, rotations, and rounding to bytes.

Each function computes a row in the same order whatever is computed beside it. Numbers are float32 throughout: numba
takes Python's literals for float64, which is why constants have names here.
"""

import numpy as np

from starsmith.model.kernels.compiling import compiled, reordered
from starsmith.model.kernels.memory import as_bits, from_bits
from starsmith.model.kernels.tables import Floats, Levels

ZERO, ONE = np.float32(0.0), np.float32(1.0)
LOG2_E, LN_2_HIGH, LN_2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
# Adding and subtracting 1.5 * 2**23 rounds a float32 to the nearest integer, to even between two.
ROUNDER = np.float32(12582912.0)
LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)  # beyond: not a normal float32
# Cephes' minimax polynomial of (exp(x) - 1 - x) / x**2 on [-ln(2) / 2, ln(2) / 2]
EXP_5, EXP_4, EXP_3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
EXP_2, EXP_1, EXP_0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
GELU_CUBIC, GELU_TWICE = np.float32(0.044715), np.float32(2 * 0.7978845608028654)  # sqrt(2 / pi)
LARGEST = np.float32(127.0)
SMALLEST = np.float32(2.0**-100)  # rows without a larger number are zeros: LARGEST over it has to be a float32
SIGN, SIGN_OFF = np.int32(31), np.int32(0x7FFFFFFF)


@compiled
def exponential(x: np.float32) -> np.float32:
    """e to the float32 `x`, to 1e-7 of it."""
    x = min(max(x, LOWEST), HIGHEST)
    whole = (x * LOG2_E + ROUNDER) - ROUNDER
    rest = x - whole * LN_2_HIGH - whole * LN_2_LOW
    series = EXP_5 * rest + EXP_4
    series = series * rest + EXP_3
    series = series * rest + EXP_2
    series = series * rest + EXP_1
    series = series * rest + EXP_0
    power: np.float32 = from_bits(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))
    return (series * rest * rest + rest + ONE) * power


@reordered
def normalize(x: Floats, weight: Floats, bias: Floats, epsilon: np.float32, out: Floats) -> None:
    """LayerNorm of one row."""
    width = x.shape[0]
    total = ZERO
    for i in range(width):
        total += x[i]
    mean = total / np.float32(width)
    squares = ZERO
    for i in range(width):
        squares += (x[i] - mean) * (x[i] - mean)
    scale = ONE / np.sqrt(squares / np.float32(width) + epsilon)
    for i in range(width):
        out[i] = (x[i] - mean) * scale * weight[i] + bias[i]


@compiled
def gelu(x: Floats, out: Floats) -> None:
    """The tanh form of GELU of one row: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x**3))."""
    for i in range(x.shape[0]):
        value = x[i]
        inner = GELU_TWICE * (value + GELU_CUBIC * value * value * value)
        out[i] = value / (ONE + exponential(-inner))


@compiled
def to_bytes(x: Floats, out: Levels) -> np.float32:
    """One row as signed bytes; returns what they are to be multiplied with (not a number if the row has such)."""
    largest = np.int32(0)  # compared by their bits, which order as the numbers do, and have NaN at the end
    for i in range(x.shape[0]):
        largest = max(largest, as_bits(x[i]) & SIGN_OFF)
    most: np.float32 = from_bits(largest)
    if not most < np.float32(np.inf):
        return np.float32(np.nan)
    if most < SMALLEST:
        for i in range(x.shape[0]):
            out[i] = 0
        return ZERO
    factor = LARGEST / most
    for i in range(x.shape[0]):
        out[i] = np.int8((x[i] * factor + ROUNDER) - ROUNDER)
    return most / LARGEST


@compiled
def _ordered(x: np.float32) -> np.int32:
    """An integer that orders as the float32 does: those below zero have their other bits turned over."""
    bits: np.int32 = as_bits(x)
    return bits ^ ((bits >> SIGN) & SIGN_OFF)


@reordered
def softmax(scores: Floats) -> np.float32:
    """e to each score above the highest, in place; returns the sum."""
    largest = _ordered(
        scores[0]
    )  # of integers: the greater of two numbers, one of which may be none, is no vector code
    for i in range(scores.shape[0]):
        largest = max(largest, _ordered(scores[i]))
    highest: np.float32 = from_bits(largest ^ ((largest >> SIGN) & SIGN_OFF))
    total = ZERO
    for i in range(scores.shape[0]):
        value = exponential(scores[i] - highest)
        scores[i] = value
        total += value
    return total


@compiled
def rotate(row: Floats, cosines: Floats, sines: Floats) -> None:
    """Rotary positions of one head, in place: the first half against the second."""
    half = row.shape[0] // 2
    for i in range(half):
        first, second = row[i], row[half + i]
        row[i] = first * cosines[i] - second * sines[i]
        row[half + i] = second * cosines[i] + first * sines[i]
