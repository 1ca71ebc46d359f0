"""Inner loops in LLVM's vector instructions, which numba functions call: dot products of weights and activations.

Numba compiles scalar loops, and LLVM makes vectors of them as it likes. Here that is not enough: the 8-bit dot product
of the processor (`vpdpbusd`) has to be asked for by name, and a row's sum must be added up in one order whatever other
rows are computed with it. Then a token's numbers do not depend on what is read beside it, bit for bit.

Each loop is a function of its own, compiled when it is first asked for, in some milliseconds; inside of a numba
function it would be optimised again with each of its callers, which takes minutes.

Everything is given by address. Weights are row-major, a row of K numbers after the other:

f32    float32
bf16   the upper half of a float32
i8     signed bytes
u4     two numbers from 0 to 15 in a byte: of 128 in a row the first 64 in the lower halves, the others in the upper;
       of 64 that are left over at the end of a row likewise 32 and 32

R weight rows and M activation rows make R x M sums, at `out[r * M + m]`. K is a multiple of LANES, for i8 by i8 and u4
by i8 of GROUP.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from llvmlite import ir
from numba.core import cgutils

from starsmith.model.kernels import attention_loops, native
from starsmith.model.kernels.lanes import (
    F32,
    F32S,
    I8,
    I16,
    I32,
    I32S,
    I64,
    LANES,
    Loader,
    Loop,
    Sums,
    Value,
    added_lanes,
    bf16,
    constant,
    external,
    f32,
    fma,
    i8,
    offset,
    pointer,
    read,
    scaled,
    splat,
)
from starsmith.model.kernels.tables import GROUP, MOST, ROWS, SHIFT

Instructions = Literal["vnni", "avx2", "plain"]  # for products of bytes: AVX-512's, AVX2's, or what LLVM makes of it
Name = Literal["f32", "bf16", "i8_f32", "i8", "u4", "score_f32", "score_bf16", "mix_f32", "mix_bf16"]


def best() -> Instructions:
    """The fastest that this processor has."""
    if native.FEATURES.get("avx512vnni") and native.FEATURES.get("avx512bw"):
        return "vnni"
    return "avx2" if native.FEATURES.get("avx2") else "plain"


def excess(instructions: Instructions) -> int:
    """What `byte_products` adds to every activation, so that SHIFT times the sum of the weights is too much."""
    return SHIFT if instructions == "vnni" else 0


def float_products(load: Loader, weight_bytes: int, most: int) -> Loop:
    """`(weights, weight_stride, activations, activation_stride, k, out)` with float32 activations and sums.

    Strides are in bytes; `most` is M.
    """

    def generate(builder: Any, arguments: Any) -> None:
        weights, weight_stride, activations, activation_stride, k, out = arguments
        sums = Sums(builder, ROWS, most, F32S)
        with cgutils.for_range(builder, builder.udiv(k, ir.Constant(I64, LANES))) as loop:
            at_weight = scaled(builder, loop.index, LANES * weight_bytes)
            at_activation = scaled(builder, loop.index, LANES * 4)
            seen = [
                f32(builder, builder.add(offset(builder, activations, activation_stride, m), at_activation))
                for m in range(most)
            ]
            for row in range(ROWS):
                weight = load(builder, builder.add(offset(builder, weights, weight_stride, row), at_weight))
                for m in range(most):
                    sums.put(row, m, fma(builder, weight, seen[m], sums.get(row, m)))
        _store_totals(builder, sums, out, most, F32, builder.fadd)

    return Loop(generate, 6)


def byte_products(instructions: Instructions, most: int) -> Loop:
    """As `float_products`, of i8 weights and i8 activations: int32 sums, exact, but for the `excess`."""

    def generate(builder: Any, arguments: Any) -> None:
        weights, weight_stride, activations, activation_stride, k, out = arguments
        sums = Sums(builder, ROWS, most, I32S)
        step = GROUP if instructions == "vnni" else LANES
        with cgutils.for_range(builder, builder.udiv(k, ir.Constant(I64, step))) as loop:
            at = scaled(builder, loop.index, step)
            places = [builder.add(offset(builder, activations, activation_stride, m), at) for m in range(most)]
            seen = [_bytes(builder, instructions, place, shifted=True) for place in places]
            for row in range(ROWS):
                place = builder.add(offset(builder, weights, weight_stride, row), at)
                weight = _bytes(builder, instructions, place, shifted=False)
                for m in range(most):
                    sums.put(row, m, _add_products(builder, instructions, sums.get(row, m), seen[m], weight))
        _store_totals(builder, sums, out, most, I32, builder.add)

    return Loop(generate, 6)


def _bytes(builder: Any, instructions: Instructions, address: Value, *, shifted: bool) -> Value:
    """What `_add_products` takes; `shifted` to be unsigned, where the instruction wants that."""
    if instructions != "vnni":
        return builder.sext(read(builder, address, ir.VectorType(I8, LANES)), ir.VectorType(I16, LANES))
    lanes = ir.VectorType(I8, GROUP)
    vector = read(builder, address, lanes)
    return builder.bitcast(builder.xor(vector, constant(lanes, SHIFT)) if shifted else vector, I32S)


def _add_products(builder: Any, instructions: Instructions, total: Value, unsigned: Value, signed: Value) -> Value:
    """The products of neighbours, in the end of four, added to 16 int32."""
    if instructions == "vnni":
        name = "llvm.x86.avx512.vpdpbusd.512"
        return builder.call(external(builder, name, I32S, [I32S] * 3), [total, unsigned, signed])
    if instructions == "avx2":
        pairs, halves = ir.VectorType(I32, 8), ir.VectorType(I16, LANES)
        name = "llvm.x86.avx2.pmadd.wd"
        made = builder.call(external(builder, name, pairs, [halves] * 2), [unsigned, signed])
        order = ir.Constant(ir.VectorType(I32, LANES), list(range(LANES)))
        return builder.add(total, builder.shuffle_vector(made, ir.Constant(pairs, None), order))
    return builder.add(total, builder.mul(builder.sext(unsigned, I32S), builder.sext(signed, I32S)))


def nibble_products(instructions: Instructions, most: int) -> Loop:
    """u4 weights and i8 activations, a float32 scale for each GROUP of weights.

    `(weights, weight_stride, activations, activation_stride, k, out, scales, scale_stride)`; the sums are float32 and
    of the numbers as they are stored, without the 8 that is their zero.
    """

    def generate(builder: Any, arguments: Any) -> None:
        weights, weight_stride, activations, activation_stride, k, out, scales, scale_stride = arguments
        sums = Sums(builder, ROWS, most, F32S)
        groups = builder.udiv(k, ir.Constant(I64, GROUP))

        def add(first_group: Value, unpack: Callable[[Any, Value], list[Value]]) -> None:
            """The products of the groups that `unpack` makes of what is stored from `first_group` on."""
            at_weight = scaled(builder, first_group, GROUP // 2)
            at_activation, at_scale = scaled(builder, first_group, GROUP), scaled(builder, first_group, 4)
            for row in range(ROWS):
                place = builder.add(offset(builder, weights, weight_stride, row), at_weight)
                for number, weight in enumerate(unpack(builder, place)):
                    scale = builder.add(offset(builder, scales, scale_stride, row), at_scale)
                    scale = builder.add(scale, ir.Constant(I64, 4 * number))
                    factor = splat(builder, read(builder, scale, F32), F32S)
                    for m in range(most):
                        seen = builder.add(offset(builder, activations, activation_stride, m), at_activation)
                        seen = builder.add(seen, ir.Constant(I64, GROUP * number))
                        signed = read(builder, seen, ir.VectorType(I8, GROUP))
                        exact = builder.sitofp(_group_product(builder, instructions, weight, signed), F32S)
                        sums.put(row, m, fma(builder, exact, factor, sums.get(row, m)))

        with cgutils.for_range(builder, builder.lshr(groups, ir.Constant(I64, 1))) as loop:
            add(scaled(builder, loop.index, 2), _two_groups)
        odd = builder.trunc(groups, ir.IntType(1))
        with builder.if_then(odd):
            add(builder.sub(groups, ir.Constant(I64, 1)), _one_group)
        _store_totals(builder, sums, out, most, F32, builder.fadd)

    return Loop(generate, 8)


def _two_groups(builder: Any, address: Value) -> list[Value]:
    """128 numbers of 4 bits as two vectors of bytes; shifted as 16 bits, since there is no shift of bytes."""
    lanes, pairs = ir.VectorType(I8, GROUP), ir.VectorType(I16, GROUP // 2)
    packed = read(builder, address, lanes)
    upper = builder.bitcast(builder.lshr(builder.bitcast(packed, pairs), constant(pairs, 4)), lanes)
    return [builder.and_(packed, constant(lanes, 15)), builder.and_(upper, constant(lanes, 15))]


def _one_group(builder: Any, address: Value) -> list[Value]:
    """64 numbers of 4 bits, in 32 bytes, as a vector of bytes."""
    lanes = ir.VectorType(I8, GROUP // 2)
    packed = read(builder, address, lanes)
    low, high = builder.and_(packed, constant(lanes, 15)), builder.lshr(packed, constant(lanes, 4))
    return [builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(I32, GROUP), list(range(GROUP))))]


def _group_product(builder: Any, instructions: Instructions, unsigned: Value, signed: Value) -> Value:
    """16 int32 whose sum is the product of 64 unsigned and 64 signed bytes."""
    zero = ir.Constant(I32S, None)
    if instructions == "vnni":
        parts = [builder.bitcast(one, I32S) for one in (unsigned, signed)]
        return _add_products(builder, instructions, zero, *parts)
    total, halves = zero, ir.VectorType(I16, LANES)
    for start in range(0, GROUP, LANES):
        order = ir.Constant(ir.VectorType(I32, LANES), list(range(start, start + LANES)))
        first, second = (builder.shuffle_vector(one, one, order) for one in (unsigned, signed))
        first, second = builder.zext(first, halves), builder.sext(second, halves)
        total = _add_products(builder, instructions, total, first, second)
    return total


def _store_totals(builder: Any, sums: Sums, out: Value, most: int, kind: Any, add: Callable[..., Value]) -> None:
    for place in range(ROWS * most):
        total = added_lanes(builder, sums.get(place // most, place % most), add)
        builder.store(total, pointer(builder, builder.add(out, ir.Constant(I64, 4 * place)), kind), align=1)


def _loop(name: Name, instructions: Instructions, most: int) -> Loop:
    match name:
        case "f32":
            return float_products(f32, 4, most)
        case "bf16":
            return float_products(bf16, 2, most)
        case "i8_f32":
            return float_products(i8, 1, most)
        case "i8":
            return byte_products(instructions, most)
        case "u4":
            return nibble_products(instructions, most)
        case "score_f32":
            return attention_loops.key_scores(f32, 4, most)
        case "score_bf16":
            return attention_loops.key_scores(bf16, 2, most)
        case "mix_f32":
            return attention_loops.value_mix(f32, 4, most)
        case "mix_bf16":
            return attention_loops.value_mix(bf16, 2, most)


@cache
def addresses(name: Name, instructions: Instructions) -> list[int]:
    """Where the compiled loop of this name is, for M from 1 to MOST."""
    return native.addresses({f"{name}_{most}": _loop(name, instructions, most) for most in range(1, MOST + 1)})
