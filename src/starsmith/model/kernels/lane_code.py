"""Arithmetic and loops of code with a token in every lane of a vector: what `columns` and `tile_attention` write.

K numbers of every token are K vectors, one after the other. Halves are the bits of bfloat16.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from starsmith.model.kernels import arithmetic
from starsmith.model.kernels.lanes import (
    F32,
    F32S,
    I16,
    I32S,
    LANES,
    Value,
    constant,
    f32,
    fma,
    read,
    scaled,
    size,
    splat,
    write,
)

VECTOR = 4 * LANES  # bytes
WORD = 4  # numbers of one token whose bytes are side by side
GUESS = 0x7EF311C7  # minus the bits of a float32 are about those of 1 over it, up to some 1e37
STEEPEST = 60.0  # e to more is so large that nothing is left of what is divided by it
I16S = ir.VectorType(I16, LANES)


class Lanes:
    """Arithmetic of vectors of float32, and a few words for loops over them."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self._largest = [self.variable(I32S) for _ in range(WORD)]

    def number(self, value: np.float32 | float) -> Value:
        """The same in every lane."""
        return ir.Constant(F32S, [float(np.float32(value))] * LANES)

    def variable(self, kind: Any = F32S) -> Value:
        """That a loop changes."""
        return cgutils.alloca_once_value(self.builder, ir.Constant(kind, None))

    def set_zero(self, variable: Value) -> None:
        """Back to nothing."""
        self.builder.store(ir.Constant(variable.type.pointee, None), variable)

    def at(self, address: Value, index: Value, step: int) -> Value:
        """The address so many steps on."""
        return self.builder.add(address, scaled(self.builder, index, step))

    def one(self, address: Value, index: Value) -> Value:
        """Of a row of float32 the one at an index, in every lane."""
        return splat(self.builder, read(self.builder, self.at(address, index, 4), F32), F32S)

    def load(self, address: Value, index: Value) -> Value:
        """A vector."""
        return f32(self.builder, self.at(address, index, VECTOR))

    def store(self, vector: Value, address: Value, index: Value) -> None:
        """A vector."""
        write(self.builder, vector, self.at(address, index, VECTOR))

    @contextmanager
    def loop(self, count: Value) -> Iterator[Value]:
        """With an index."""
        with cgutils.for_range(self.builder, count) as loop:
            yield loop.index

    @contextmanager
    def words(self, k: Value) -> Iterator[list[Value]]:
        """K indices, WORD of them at a time."""
        with self.loop(self.builder.udiv(k, size(WORD))) as word:
            yield [self.builder.add(scaled(self.builder, word, WORD), size(place)) for place in range(WORD)]

    @contextmanager
    def groups(self, count: Value, k: Value, *arrays: Value) -> Iterator[list[Value]]:
        """Where a group's vectors, bytes, scales and, if there are any, more vectors are."""
        steps = [scaled(self.builder, k, VECTOR), scaled(self.builder, k, LANES), size(VECTOR)]
        with self.loop(count) as group:
            yield [
                self.builder.add(array, self.builder.mul(group, step))
                for array, step in zip(arrays, [*steps, steps[0]], strict=False)
            ]

    def group_of(self, array: Value, k: Value, group: Value, bytes_each: int) -> Value:
        """Where a group's numbers begin."""
        return self.builder.add(array, self.builder.mul(group, scaled(self.builder, k, bytes_each)))

    def outcome(self, sums: Value, scale: Value, bias: Value, scales: Value, index: Value) -> Value:
        """Of a product at one output."""
        exact = self.builder.sitofp(read(self.builder, self.at(sums, index, VECTOR), I32S), F32S)
        product = self.builder.fmul(self.builder.fmul(exact, self.one(scale, index)), scales)
        return self.builder.fadd(product, self.one(bias, index))

    def put_bytes(self, load: Callable[[Value], Value], k: Value, out: Value, scales: Value) -> None:
        """K numbers of every token as bytes: see `arithmetic.to_bytes`."""
        builder = self.builder
        largest = self._find_largest(load, k)
        is_number = builder.fcmp_ordered("<", largest, self.number(np.inf))
        is_zero = builder.fcmp_ordered("<", largest, self.number(arithmetic.SMALLEST))
        scale = builder.fdiv(largest, self.number(arithmetic.LARGEST))
        scale = builder.select(is_number, scale, self.number(np.nan))
        write(builder, builder.select(is_zero, self.number(0), scale), scales)
        factor = builder.fdiv(self.number(arithmetic.LARGEST), largest)
        factor = builder.select(is_zero, self.number(0), factor)
        with self.loop(builder.udiv(k, size(WORD))) as word:
            packed = constant(I32S, 0)
            for place in range(WORD):
                vector = load(builder.add(scaled(builder, word, WORD), size(place)))
                # Rounded so, a number's integer is the last bits of the float32.
                rounded = builder.fadd(builder.fmul(vector, factor), self.number(arithmetic.ROUNDER))
                byte = builder.and_(builder.bitcast(rounded, I32S), constant(I32S, 0xFF))
                packed = builder.or_(packed, builder.shl(byte, constant(I32S, 8 * place)))
            write(builder, packed, self.at(out, word, VECTOR))

    def _find_largest(self, load: Callable[[Value], Value], k: Value) -> Value:
        """Of every token, by the bits: these order as the sizes do, and have NaN at the end."""
        builder = self.builder

        for variable in self._largest:
            self.set_zero(variable)
        with self.words(k) as indices:
            for variable, index in zip(self._largest, indices, strict=True):
                bits = builder.and_(builder.bitcast(load(index), I32S), constant(I32S, int(arithmetic.SIGN_OFF)))
                builder.store(self.larger(bits, builder.load(variable)), variable)
        one, two, three, four = (builder.load(variable) for variable in self._largest)
        return builder.bitcast(self.larger(self.larger(one, two), self.larger(three, four)), F32S)

    def gelu(self, x: Value) -> Value:
        """See `arithmetic.gelu`."""
        builder = self.builder
        cube = builder.fmul(builder.fmul(x, x), x)
        inner = self.fma(self.number(arithmetic.GELU_CUBIC), cube, x)
        power = builder.fmul(self.number(-arithmetic.GELU_TWICE), inner)
        power = builder.select(builder.fcmp_ordered(">", power, self.number(STEEPEST)), self.number(STEEPEST), power)
        grown = self.exponential(power)
        return builder.fmul(x, self.reciprocal(builder.fadd(self.number(1), grown)))

    def exponential(self, x: Value, *, is_small: bool = False) -> Value:
        """As `arithmetic.exponential`; what is small needs no bound."""
        builder = self.builder
        low, high = self.number(arithmetic.LOWEST), self.number(arithmetic.HIGHEST)
        x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
        if not is_small:
            x = builder.select(builder.fcmp_ordered(">", x, high), high, x)
        shifted = self.fma(x, self.number(arithmetic.LOG2_E), self.number(arithmetic.ROUNDER))
        whole = builder.fsub(shifted, self.number(arithmetic.ROUNDER))
        rest = self.fma(whole, self.number(-arithmetic.LN_2_HIGH), x)
        rest = self.fma(whole, self.number(-arithmetic.LN_2_LOW), rest)
        series = self.number(arithmetic.EXP_5)
        for term in (arithmetic.EXP_4, arithmetic.EXP_3, arithmetic.EXP_2, arithmetic.EXP_1, arithmetic.EXP_0):
            series = self.fma(series, rest, self.number(term))
        near = builder.fadd(self.fma(builder.fmul(series, rest), rest, rest), self.number(1))
        # An exponent is moved by adding to it; the integer is the last bits of the rounded number.
        power = builder.shl(builder.bitcast(shifted, I32S), constant(I32S, 23))
        return builder.bitcast(builder.add(builder.bitcast(near, I32S), power), F32S)

    def reciprocal(self, x: Value) -> Value:
        """1 / x for x from 1 to 1e37, to a few units of the last place: a division takes five times as long.

        The bits turned about are a first guess, and each of Newton's steps doubles the digits that are right.
        """
        builder = self.builder
        guess = builder.bitcast(builder.sub(constant(I32S, GUESS), builder.bitcast(x, I32S)), F32S)
        for _ in range(3):
            wrong = self.fma(builder.fneg(x), guess, self.number(1))
            guess = self.fma(guess, wrong, guess)
        return guess

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once."""
        return fma(self.builder, a, b, c)

    def larger(self, one: Value, other: Value) -> Value:
        """Of two vectors of integers."""
        return self.builder.select(self.builder.icmp_signed(">", one, other), one, other)

    def halved(self, vector: Value) -> Value:
        """Halves, as int32: rounded to the nearest, to even between two."""
        builder = self.builder
        bits = builder.bitcast(vector, I32S)
        odd = builder.and_(builder.lshr(bits, constant(I32S, 16)), constant(I32S, 1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, constant(I32S, 0x7FFF))), constant(I32S, 16))
        is_number = builder.fcmp_ordered("ord", vector, vector)
        return builder.select(is_number, rounded, constant(I32S, 0x7FC0))

    def put_powers(self, one: Value, other: Value, address: Value) -> None:
        """As `put_pair`, of numbers that are not negative; between two halves to the larger, which is faster told."""
        builder, half = self.builder, constant(I32S, 0x8000)
        lower, upper = (builder.add(builder.bitcast(vector, I32S), half) for vector in (one, other))
        upper = builder.and_(upper, constant(I32S, -0x10000))
        write(builder, builder.or_(builder.lshr(lower, constant(I32S, 16)), upper), address)

    def put_pair(self, one: Value, other: Value, address: Value) -> None:
        """Halves of two vectors, side by side."""
        upper = self.builder.shl(self.halved(other), constant(I32S, 16))
        write(self.builder, self.builder.or_(self.halved(one), upper), address)
