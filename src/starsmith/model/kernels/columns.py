"""What goes between two exact products of bytes, for many tokens: 16 of them at a time, each in a lane of a vector.

As PyTorch operations the same is a dozen passes over matrices that no cache holds, which took longer than the products.
Row by row it is three passes, but every sum and every largest number of a row is one over lanes, and the products'
outcome, which has the tokens beside each other (`tiles`), would have to be turned.

A group is LANES tokens. Its numbers are K vectors, the first number of every token in the first of them, and groups
follow one another. `sums` are the int32 sums of a product; times the scale of their output and that of their token,
plus the bias, they are its outcome. What is written for the next product is bytes as `tiles` wants them, and in
`scales` what each token's are to be multiplied with. Halves are the bits of bfloat16.

Each function is called with addresses and sizes, int64; it does not hold the GIL. `bits` are those of a float32.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from starsmith.model.kernels import arithmetic, native
from starsmith.model.kernels.lanes import (
    F32,
    F32S,
    I16,
    I32,
    I32S,
    I64,
    LANES,
    Loop,
    Value,
    bf16,
    constant,
    external,
    f32,
    fma,
    offset,
    read,
    room,
    scaled,
    size,
    splat,
    turned,
    write,
)

VECTOR = 4 * LANES  # bytes
WORD = 4  # numbers of one token whose bytes are side by side
GUESS = 0x7EF311C7  # minus the bits of a float32 are about those of 1 over it
I16S = ir.VectorType(I16, LANES)


def normalize(*arguments: int) -> None:
    """LayerNorm. `(groups, k, x, weight, bias, epsilon bits, bytes, scales)`"""
    _functions()["normalize"](*arguments)


def add(*arguments: int) -> None:
    """A product added to `x` in place, and the LayerNorm of that; `scales` has those of the product before.

    `(groups, k, sums, scale, bias, x, norm's weight, norm's bias, epsilon bits, bytes, scales)`
    """
    _functions()["add"](*arguments)


def gelu(*arguments: int) -> None:
    """GELU of a product; `scales` has those of the product before, and `sums` is overwritten.

    `(groups, k, sums, scale, bias, bytes, scales)`
    """
    _functions()["gelu"](*arguments)


def heads(*arguments: int) -> None:
    """A product as the halves of its heads: of token t and head a at `out[a, slots[t]]`; `sums` is overwritten.

    `(tokens, heads, width, sums, scale, bias, scales, slots, out, bytes from head to head)`
    """
    _functions()["heads"](*arguments)


def turned_heads(*arguments: int) -> None:
    """As `heads`, turned by their position; cosines and sines are groups of `width / 2` vectors.

    `(tokens, heads, width, sums, scale, bias, scales, slots, out, bytes from head to head, cosines, sines)`
    """
    _functions()["turned_heads"](*arguments)


def halves(*arguments: int) -> None:
    """Halves, a row for each token of whole groups, as they are. `(groups, k, rows, room, bytes, scales)`

    `room` is for k vectors.
    """
    _functions()["halves"](*arguments)


def compile_all() -> None:
    """Now, and not when the first is called."""
    _functions()


@cache
def _functions() -> dict[str, Callable[..., None]]:
    loops = {
        "normalize": Loop(_normalize, 8),
        "add": Loop(_add, 11),
        "gelu": Loop(_gelu, 7),
        "heads": Loop(partial(_heads, is_turned=False), 10),
        "turned_heads": Loop(partial(_heads, is_turned=True), 12),
        "halves": Loop(_halves, 6),
    }
    return {
        name: ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * loop.arguments)(address)
        for (name, loop), address in zip(loops.items(), native.addresses(loops), strict=True)
    }


class _Lanes:
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

        def larger(one: Value, other: Value) -> Value:
            return builder.select(builder.icmp_signed(">", one, other), one, other)

        for variable in self._largest:
            self.set_zero(variable)
        with self.words(k) as indices:
            for variable, index in zip(self._largest, indices, strict=True):
                bits = builder.and_(builder.bitcast(load(index), I32S), constant(I32S, int(arithmetic.SIGN_OFF)))
                builder.store(larger(bits, builder.load(variable)), variable)
        one, two, three, four = (builder.load(variable) for variable in self._largest)
        return builder.bitcast(larger(larger(one, two), larger(three, four)), F32S)

    def gelu(self, x: Value) -> Value:
        """See `arithmetic.gelu`."""
        builder = self.builder
        cube = builder.fmul(builder.fmul(x, x), x)
        inner = self.fma(self.number(arithmetic.GELU_CUBIC), cube, x)
        grown = self._exponential(builder.fmul(self.number(-arithmetic.GELU_TWICE), inner))
        return builder.fmul(x, self._reciprocal(builder.fadd(self.number(1), grown)))

    def _exponential(self, x: Value) -> Value:
        """As `arithmetic.exponential`."""
        builder = self.builder
        low, high = self.number(arithmetic.LOWEST), self.number(arithmetic.HIGHEST)
        x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
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

    def _reciprocal(self, x: Value) -> Value:
        """1 / x for x >= 1, to a few units of the last place: a division takes five times as long.

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

    def halved(self, vector: Value) -> Value:
        """Bits of bfloat16, rounded to the nearest, to even between two."""
        builder = self.builder
        bits = builder.bitcast(vector, I32S)
        odd = builder.and_(builder.lshr(bits, constant(I32S, 16)), constant(I32S, 1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, constant(I32S, 0x7FFF))), constant(I32S, 16))
        is_number = builder.fcmp_ordered("ord", vector, vector)
        return builder.trunc(builder.select(is_number, rounded, constant(I32S, 0x7FC0)), I16S)


class _Totals:
    """Sums over a row, as four that do not wait for one another."""

    def __init__(self, lanes: _Lanes) -> None:
        self._lanes = lanes
        self._variables = [lanes.variable() for _ in range(WORD)]

    def begin(self) -> None:
        """At nothing."""
        for variable in self._variables:
            self._lanes.set_zero(variable)

    def add(self, place: int, vector: Value) -> None:
        """To one of them."""
        builder, variable = self._lanes.builder, self._variables[place]
        builder.store(builder.fadd(builder.load(variable), vector), variable)

    def all(self) -> Value:
        """Their sum."""
        builder = self._lanes.builder
        one, two, three, four = (builder.load(variable) for variable in self._variables)
        return builder.fadd(builder.fadd(one, two), builder.fadd(three, four))


@dataclass(frozen=True)
class _Norm:
    """LayerNorm of a group whose sum is known."""

    weight: Value
    bias: Value
    epsilon: Value  # bits
    k: Value

    def put(self, lanes: _Lanes, x: Value, totals: _Totals, out: Value, scales: Value) -> None:
        builder = lanes.builder
        count = splat(builder, builder.sitofp(self.k, F32), F32S)
        epsilon = splat(builder, builder.bitcast(builder.trunc(self.epsilon, I32), F32), F32S)
        mean = builder.fdiv(totals.all(), count)
        totals.begin()
        with lanes.words(self.k) as indices:
            for place, index in enumerate(indices):
                apart = builder.fsub(lanes.load(x, index), mean)
                totals.add(place, builder.fmul(apart, apart))
        variance = builder.fadd(builder.fdiv(totals.all(), count), epsilon)
        root = builder.call(external(builder, "llvm.sqrt.v16f32", F32S, [F32S]), [variance])
        scale = builder.fdiv(lanes.number(1), root)

        def normed(index: Value) -> Value:
            apart = builder.fmul(builder.fsub(lanes.load(x, index), mean), scale)
            return lanes.fma(apart, lanes.one(self.weight, index), lanes.one(self.bias, index))

        lanes.put_bytes(normed, self.k, out, scales)


def _normalize(builder: Any, arguments: Sequence[Value]) -> None:
    groups, k, x, weight, bias, epsilon, out, scales = arguments
    lanes, norm = _Lanes(builder), _Norm(weight, bias, epsilon, k)
    totals = _Totals(lanes)
    with lanes.groups(groups, k, x, out, scales) as (x, out, scales):
        totals.begin()
        with lanes.words(k) as indices:
            for place, index in enumerate(indices):
                totals.add(place, lanes.load(x, index))
        norm.put(lanes, x, totals, out, scales)


def _add(builder: Any, arguments: Sequence[Value]) -> None:
    groups, k, sums, scale, bias, x, weight, norm_bias, epsilon, out, scales = arguments
    lanes, norm = _Lanes(builder), _Norm(weight, norm_bias, epsilon, k)
    totals = _Totals(lanes)
    with lanes.groups(groups, k, x, out, scales, sums) as (x, out, scales, sums):
        its = f32(builder, scales)
        totals.begin()
        with lanes.words(k) as indices:
            for place, index in enumerate(indices):
                vector = builder.fadd(lanes.load(x, index), lanes.outcome(sums, scale, bias, its, index))
                lanes.store(vector, x, index)
                totals.add(place, vector)
        norm.put(lanes, x, totals, out, scales)


def _gelu(builder: Any, arguments: Sequence[Value]) -> None:
    groups, k, sums, scale, bias, out, scales = arguments
    lanes = _Lanes(builder)
    with lanes.groups(groups, k, sums, out, scales) as (sums, out, scales):
        its = f32(builder, scales)
        with lanes.words(k) as indices:
            for index in indices:
                lanes.store(lanes.gelu(lanes.outcome(sums, scale, bias, its, index)), sums, index)
        lanes.put_bytes(partial(lanes.load, sums), k, out, scales)


def _heads(builder: Any, arguments: Sequence[Value], *, is_turned: bool) -> None:
    tokens, heads, width, sums, scale, bias, scales, slots, out, head_bytes, *angles = arguments
    lanes, scratch = _Lanes(builder), room(builder, LANES * LANES * 2)
    half = builder.udiv(width, size(2))
    k = builder.mul(heads, width)
    groups = builder.udiv(builder.add(tokens, size(LANES - 1)), size(LANES))
    with lanes.loop(groups) as group:
        first = scaled(builder, group, LANES)
        left = builder.sub(tokens, first)
        count = builder.select(builder.icmp_signed("<", left, size(LANES)), left, size(LANES))
        of_group = builder.add(sums, builder.mul(group, scaled(builder, k, VECTOR)))
        its = f32(builder, lanes.at(scales, group, VECTOR))
        turns = [builder.add(angle, builder.mul(group, scaled(builder, half, VECTOR))) for angle in angles]
        with lanes.loop(heads) as head:
            begin = builder.mul(head, width)
            with lanes.loop(half) as index:
                places = builder.add(begin, index), builder.add(builder.add(begin, index), half)
                one, two = (lanes.outcome(of_group, scale, bias, its, place) for place in places)
                if is_turned:
                    cosine, sine = (lanes.load(angle, index) for angle in turns)
                    one, two = (
                        builder.fsub(builder.fmul(one, cosine), builder.fmul(two, sine)),
                        builder.fadd(builder.fmul(two, cosine), builder.fmul(one, sine)),
                    )
                for vector, place in zip((one, two), places, strict=True):
                    lanes.store(vector, of_group, place)
            of_head = builder.add(out, builder.mul(head, head_bytes))
            with lanes.loop(builder.udiv(width, size(LANES))) as block:
                start = builder.add(begin, scaled(builder, block, LANES))
                rows = turned(builder, [lanes.load(of_group, builder.add(start, size(row))) for row in range(LANES)])
                for number, row in enumerate(rows):
                    write(builder, lanes.halved(row), builder.add(scratch, size(2 * LANES * number)))
                with lanes.loop(count) as token:
                    slot = read(builder, lanes.at(slots, builder.add(first, token), 8), I64)
                    place = builder.add(of_head, builder.mul(slot, scaled(builder, width, 2)))
                    row = read(builder, lanes.at(scratch, token, 2 * LANES), I16S)
                    write(builder, row, lanes.at(place, block, 2 * LANES))


def _halves(builder: Any, arguments: Sequence[Value]) -> None:
    groups, k, rows, room, out, scales = arguments
    lanes = _Lanes(builder)
    row_bytes = scaled(builder, k, 2)
    with lanes.loop(groups) as group:
        first = builder.add(rows, builder.mul(group, scaled(builder, row_bytes, LANES)))
        with lanes.loop(builder.udiv(k, size(LANES))) as block:
            at = lanes.at(first, block, 2 * LANES)
            numbers = turned(builder, [bf16(builder, offset(builder, at, row_bytes, row)) for row in range(LANES)])
            for number, vector in enumerate(numbers):
                lanes.store(vector, room, builder.add(scaled(builder, block, LANES), size(number)))
        of_group = builder.add(out, builder.mul(group, scaled(builder, k, LANES)))
        lanes.put_bytes(partial(lanes.load, room), k, of_group, lanes.at(scales, group, VECTOR))
