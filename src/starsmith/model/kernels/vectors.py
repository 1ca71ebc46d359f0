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
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from llvmlite import binding, ir
from numba.core import cgutils

from starsmith.model.kernels.tables import GROUP, MOST, ROWS, SHIFT

LANES = 16  # float32 or int32 in a vector: 64 bytes, one register of AVX-512 or two of AVX2

_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_I32S, _F32S = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)
_FEATURES = binding.get_host_cpu_features()

Instructions = Literal["vnni", "avx2", "plain"]  # for products of bytes: AVX-512's, AVX2's, or what LLVM makes of it
Name = Literal["f32", "bf16", "i8_f32", "i8", "u4", "score_f32", "score_bf16", "mix_f32", "mix_bf16"]
Value = Any  # llvmlite's values have no types
Loader = Callable[[Any, Value], Value]


@dataclass(frozen=True)
class Loop:
    """How to write a loop, and how many addresses and sizes (int64) it is called with."""

    generate: Callable[[Any, Any], None]
    arguments: int


def best() -> Instructions:
    """The fastest that this processor has."""
    if _FEATURES.get("avx512vnni") and _FEATURES.get("avx512bw"):
        return "vnni"
    return "avx2" if _FEATURES.get("avx2") else "plain"


def excess(instructions: Instructions) -> int:
    """What `byte_products` adds to every activation, so that SHIFT times the sum of the weights is too much."""
    return SHIFT if instructions == "vnni" else 0


def _pointer(builder: Any, address: Value, kind: Any) -> Value:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: Any, address: Value, kind: Any) -> Value:
    return builder.load(_pointer(builder, address, kind), align=1)


def _constant(lanes: Any, value: int) -> Value:
    return ir.Constant(lanes, [value] * lanes.count)


def _splat(builder: Any, value: Value, lanes: Any) -> Value:
    first = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, lanes.count), [0] * lanes.count))


def _total(builder: Any, vector: Value, add: Callable[..., Value]) -> Value:
    """The sum of the lanes, halves first: always in this order."""
    width = LANES
    while width > 1:
        width //= 2
        halves = [
            builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(_I32, width), list(range(start, start + width)))
            )
            for start in (0, width)
        ]
        vector = add(*halves)
    return builder.extract_element(vector, ir.Constant(_I32, 0))


def _f32(builder: Any, address: Value) -> Value:
    return _load(builder, address, _F32S)


def _bf16(builder: Any, address: Value) -> Value:
    halves = _load(builder, address, ir.VectorType(_I16, LANES))
    return builder.bitcast(builder.shl(builder.zext(halves, _I32S), _constant(_I32S, 16)), _F32S)


def _i8(builder: Any, address: Value) -> Value:
    return builder.sitofp(builder.sext(_load(builder, address, ir.VectorType(_I8, LANES)), _I32S), _F32S)


def _external(builder: Any, name: str, returns: Any, arguments: list[Any]) -> Value:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(returns, arguments), name)


def _fma(builder: Any, a: Value, b: Value, c: Value) -> Value:
    return builder.call(_external(builder, "llvm.fma.v16f32", _F32S, [_F32S] * 3), [a, b, c])


class _Sums:
    """R x M running sums, which LLVM keeps in registers."""

    def __init__(self, builder: Any, rows: int, most: int, kind: Any) -> None:
        self.builder, self.most = builder, most
        self.places = [cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(rows * most)]

    def get(self, row: int, m: int) -> Value:
        return self.builder.load(self.places[row * self.most + m])

    def put(self, row: int, m: int, value: Value) -> None:
        self.builder.store(value, self.places[row * self.most + m])


def _offset(builder: Any, address: Value, stride: Value, number: int) -> Value:
    return builder.add(address, builder.mul(stride, ir.Constant(_I64, number)))


def _scaled(builder: Any, index: Value, size: int) -> Value:
    return builder.mul(index, ir.Constant(_I64, size))


def _beside(builder: Any, address: Value, size: int, number: int) -> Value:
    """The address so many vectors behind another, of numbers of so many bytes."""
    return builder.add(address, ir.Constant(_I64, LANES * size * number))


def float_products(load: Loader, weight_bytes: int, most: int) -> Loop:
    """`(weights, weight_stride, activations, activation_stride, k, out)` with float32 activations and sums.

    Strides are in bytes; `most` is M.
    """

    def generate(builder: Any, arguments: Any) -> None:
        weights, weight_stride, activations, activation_stride, k, out = arguments
        sums = _Sums(builder, ROWS, most, _F32S)
        with cgutils.for_range(builder, builder.udiv(k, ir.Constant(_I64, LANES))) as loop:
            at_weight = _scaled(builder, loop.index, LANES * weight_bytes)
            at_activation = _scaled(builder, loop.index, LANES * 4)
            seen = [
                _f32(builder, builder.add(_offset(builder, activations, activation_stride, m), at_activation))
                for m in range(most)
            ]
            for row in range(ROWS):
                weight = load(builder, builder.add(_offset(builder, weights, weight_stride, row), at_weight))
                for m in range(most):
                    sums.put(row, m, _fma(builder, weight, seen[m], sums.get(row, m)))
        _store_totals(builder, sums, out, most, _F32, builder.fadd)

    return Loop(generate, 6)


def byte_products(instructions: Instructions, most: int) -> Loop:
    """As `float_products`, of i8 weights and i8 activations: int32 sums, exact, but for the `excess`."""

    def generate(builder: Any, arguments: Any) -> None:
        weights, weight_stride, activations, activation_stride, k, out = arguments
        sums = _Sums(builder, ROWS, most, _I32S)
        step = GROUP if instructions == "vnni" else LANES
        with cgutils.for_range(builder, builder.udiv(k, ir.Constant(_I64, step))) as loop:
            at = _scaled(builder, loop.index, step)
            places = [builder.add(_offset(builder, activations, activation_stride, m), at) for m in range(most)]
            seen = [_bytes(builder, instructions, place, shifted=True) for place in places]
            for row in range(ROWS):
                place = builder.add(_offset(builder, weights, weight_stride, row), at)
                weight = _bytes(builder, instructions, place, shifted=False)
                for m in range(most):
                    sums.put(row, m, _add_products(builder, instructions, sums.get(row, m), seen[m], weight))
        _store_totals(builder, sums, out, most, _I32, builder.add)

    return Loop(generate, 6)


def _bytes(builder: Any, instructions: Instructions, address: Value, *, shifted: bool) -> Value:
    """What `_add_products` takes; `shifted` to be unsigned, where the instruction wants that."""
    if instructions != "vnni":
        return builder.sext(_load(builder, address, ir.VectorType(_I8, LANES)), ir.VectorType(_I16, LANES))
    lanes = ir.VectorType(_I8, GROUP)
    vector = _load(builder, address, lanes)
    return builder.bitcast(builder.xor(vector, _constant(lanes, SHIFT)) if shifted else vector, _I32S)


def _add_products(builder: Any, instructions: Instructions, total: Value, unsigned: Value, signed: Value) -> Value:
    """The products of neighbours, in the end of four, added to 16 int32."""
    if instructions == "vnni":
        name = "llvm.x86.avx512.vpdpbusd.512"
        return builder.call(_external(builder, name, _I32S, [_I32S] * 3), [total, unsigned, signed])
    if instructions == "avx2":
        pairs, halves = ir.VectorType(_I32, 8), ir.VectorType(_I16, LANES)
        name = "llvm.x86.avx2.pmadd.wd"
        made = builder.call(_external(builder, name, pairs, [halves] * 2), [unsigned, signed])
        order = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
        return builder.add(total, builder.shuffle_vector(made, ir.Constant(pairs, None), order))
    return builder.add(total, builder.mul(builder.sext(unsigned, _I32S), builder.sext(signed, _I32S)))


def nibble_products(instructions: Instructions, most: int) -> Loop:
    """u4 weights and i8 activations, a float32 scale for each GROUP of weights.

    `(weights, weight_stride, activations, activation_stride, k, out, scales, scale_stride)`; the sums are float32 and
    of the numbers as they are stored, without the 8 that is their zero.
    """

    def generate(builder: Any, arguments: Any) -> None:
        weights, weight_stride, activations, activation_stride, k, out, scales, scale_stride = arguments
        sums = _Sums(builder, ROWS, most, _F32S)
        groups = builder.udiv(k, ir.Constant(_I64, GROUP))

        def add(first_group: Value, unpack: Callable[[Any, Value], list[Value]]) -> None:
            """The products of the groups that `unpack` makes of what is stored from `first_group` on."""
            at_weight = _scaled(builder, first_group, GROUP // 2)
            at_activation, at_scale = _scaled(builder, first_group, GROUP), _scaled(builder, first_group, 4)
            for row in range(ROWS):
                place = builder.add(_offset(builder, weights, weight_stride, row), at_weight)
                for number, weight in enumerate(unpack(builder, place)):
                    scale = builder.add(_offset(builder, scales, scale_stride, row), at_scale)
                    scale = builder.add(scale, ir.Constant(_I64, 4 * number))
                    factor = _splat(builder, _load(builder, scale, _F32), _F32S)
                    for m in range(most):
                        seen = builder.add(_offset(builder, activations, activation_stride, m), at_activation)
                        seen = builder.add(seen, ir.Constant(_I64, GROUP * number))
                        signed = _load(builder, seen, ir.VectorType(_I8, GROUP))
                        exact = builder.sitofp(_group_product(builder, instructions, weight, signed), _F32S)
                        sums.put(row, m, _fma(builder, exact, factor, sums.get(row, m)))

        with cgutils.for_range(builder, builder.lshr(groups, ir.Constant(_I64, 1))) as loop:
            add(_scaled(builder, loop.index, 2), _two_groups)
        odd = builder.trunc(groups, ir.IntType(1))
        with builder.if_then(odd):
            add(builder.sub(groups, ir.Constant(_I64, 1)), _one_group)
        _store_totals(builder, sums, out, most, _F32, builder.fadd)

    return Loop(generate, 8)


def _two_groups(builder: Any, address: Value) -> list[Value]:
    """128 numbers of 4 bits as two vectors of bytes; shifted as 16 bits, since there is no shift of bytes."""
    lanes, pairs = ir.VectorType(_I8, GROUP), ir.VectorType(_I16, GROUP // 2)
    packed = _load(builder, address, lanes)
    upper = builder.bitcast(builder.lshr(builder.bitcast(packed, pairs), _constant(pairs, 4)), lanes)
    return [builder.and_(packed, _constant(lanes, 15)), builder.and_(upper, _constant(lanes, 15))]


def _one_group(builder: Any, address: Value) -> list[Value]:
    """64 numbers of 4 bits, in 32 bytes, as a vector of bytes."""
    lanes = ir.VectorType(_I8, GROUP // 2)
    packed = _load(builder, address, lanes)
    low, high = builder.and_(packed, _constant(lanes, 15)), builder.lshr(packed, _constant(lanes, 4))
    return [builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(_I32, GROUP), list(range(GROUP))))]


def _group_product(builder: Any, instructions: Instructions, unsigned: Value, signed: Value) -> Value:
    """16 int32 whose sum is the product of 64 unsigned and 64 signed bytes."""
    zero = ir.Constant(_I32S, None)
    if instructions == "vnni":
        parts = [builder.bitcast(one, _I32S) for one in (unsigned, signed)]
        return _add_products(builder, instructions, zero, *parts)
    total, halves = zero, ir.VectorType(_I16, LANES)
    for start in range(0, GROUP, LANES):
        order = ir.Constant(ir.VectorType(_I32, LANES), list(range(start, start + LANES)))
        first, second = (builder.shuffle_vector(one, one, order) for one in (unsigned, signed))
        first, second = builder.zext(first, halves), builder.sext(second, halves)
        total = _add_products(builder, instructions, total, first, second)
    return total


def key_scores(load: Loader, key_bytes: int, most: int) -> Loop:
    """`(keys, queries, query_stride, width, out, out_stride, factor)`: out[m][s] = factor * queries[m] . keys[s].

    For attention: `keys` are LANES rows of `width` numbers, `queries` and `out` float32, strides in bytes, `factor` the
    bits of a float32. All of a query's scores are added up together: one after the other took most of the time.
    """

    def generate(builder: Any, arguments: Any) -> None:
        keys, queries, query_stride, width, out, out_stride, factor = arguments
        row_bytes = _scaled(builder, width, key_bytes)
        factors = _splat(builder, builder.bitcast(builder.trunc(factor, _I32), _F32), _F32S)
        for m in range(most):
            sums = _Sums(builder, LANES, 1, _F32S)
            with cgutils.for_range(builder, builder.udiv(width, ir.Constant(_I64, LANES))) as loop:
                at_query = builder.add(
                    _offset(builder, queries, query_stride, m), _scaled(builder, loop.index, LANES * 4)
                )
                query = _f32(builder, at_query)
                at_key = builder.add(keys, _scaled(builder, loop.index, LANES * key_bytes))
                for row in range(LANES):
                    key = load(builder, _offset(builder, at_key, row_bytes, row))
                    sums.put(row, 0, _fma(builder, key, query, sums.get(row, 0)))
            totals = _totals(builder, [sums.get(row, 0) for row in range(LANES)])
            target = _pointer(builder, _offset(builder, out, out_stride, m), _F32S)
            builder.store(builder.fmul(totals, factors), target, align=1)

    return Loop(generate, 7)


def _totals(builder: Any, vectors: list[Value]) -> Value:
    """The sum of the lanes of each of LANES vectors, in a lane of its own; halves first, as in `_total`.

    Two vectors, of parts that are a sum each, become one with twice as many parts of half the width.
    """
    width = LANES
    while width > 1:
        low = [lane for start in range(0, LANES, width) for lane in range(start, start + width // 2)]
        order = [
            [part + vector * LANES + shift for start in range(0, len(low), width // 2) for vector in range(2)
             for part in low[start : start + width // 2]]
            for shift in (0, width // 2)
        ]  # fmt: skip
        orders = [ir.Constant(_I32S, lanes) for lanes in order]
        half = len(vectors) // 2
        vectors = [
            builder.fadd(*(builder.shuffle_vector(one, other, lanes) for lanes in orders))
            for one, other in zip(vectors[:half], vectors[half:], strict=True)
        ]
        width //= 2
    return vectors[0]


def value_mix(load: Loader, value_bytes: int, most: int) -> Loop:
    """`(values, weights, weight_stride, positions, out, out_stride, width)`: out[m] += sum of weights[m][s] values[s].

    For attention: `values` are `positions` rows of `width` numbers, `weights` and `out` float32, strides in bytes.
    """

    def generate(builder: Any, arguments: Any) -> None:
        values, weights, weight_stride, positions, out, out_stride, width = arguments
        row_bytes = _scaled(builder, width, value_bytes)

        def mix(first: Value, count: int) -> None:
            """`count` vectors of the width from the `first` on; two at once hide the latency of their sums."""
            at_out, at_value = _scaled(builder, first, LANES * 4), _scaled(builder, first, LANES * value_bytes)
            places = [builder.add(_offset(builder, out, out_stride, m), at_out) for m in range(most)]
            targets = [[_beside(builder, place, 4, number) for number in range(count)] for place in places]
            sums = _Sums(builder, count, most, _F32S)
            for number in range(count):
                for m in range(most):
                    sums.put(number, m, _f32(builder, targets[m][number]))
            with cgutils.for_range(builder, positions) as loop:
                place = builder.add(builder.add(values, at_value), builder.mul(loop.index, row_bytes))
                mixed = [load(builder, _beside(builder, place, value_bytes, number)) for number in range(count)]
                at_weight = _scaled(builder, loop.index, 4)
                for m in range(most):
                    weight = _load(builder, builder.add(_offset(builder, weights, weight_stride, m), at_weight), _F32)
                    factors = _splat(builder, weight, _F32S)
                    for number in range(count):
                        sums.put(number, m, _fma(builder, factors, mixed[number], sums.get(number, m)))
            for number in range(count):
                for m in range(most):
                    builder.store(sums.get(number, m), _pointer(builder, targets[m][number], _F32S), align=1)

        vectors = builder.udiv(width, ir.Constant(_I64, LANES))
        with cgutils.for_range(builder, builder.lshr(vectors, ir.Constant(_I64, 1))) as pairs:
            mix(_scaled(builder, pairs.index, 2), 2)
        with builder.if_then(builder.trunc(vectors, ir.IntType(1))):
            mix(builder.sub(vectors, ir.Constant(_I64, 1)), 1)

    return Loop(generate, 7)


def _store_totals(builder: Any, sums: _Sums, out: Value, most: int, kind: Any, add: Callable[..., Value]) -> None:
    for place in range(ROWS * most):
        total = _total(builder, sums.get(place // most, place % most), add)
        builder.store(total, _pointer(builder, builder.add(out, ir.Constant(_I64, 4 * place)), kind), align=1)


def _loop(name: Name, instructions: Instructions, most: int) -> Loop:
    match name:
        case "f32":
            return float_products(_f32, 4, most)
        case "bf16":
            return float_products(_bf16, 2, most)
        case "i8_f32":
            return float_products(_i8, 1, most)
        case "i8":
            return byte_products(instructions, most)
        case "u4":
            return nibble_products(instructions, most)
        case "score_f32":
            return key_scores(_f32, 4, most)
        case "score_bf16":
            return key_scores(_bf16, 2, most)
        case "mix_f32":
            return value_mix(_f32, 4, most)
        case "mix_bf16":
            return value_mix(_bf16, 2, most)


@cache
def addresses(name: Name, instructions: Instructions) -> list[int]:
    """Where the compiled loop of this name is, for M from 1 to MOST."""
    module = ir.Module()
    for most in range(1, MOST + 1):
        loop = _loop(name, instructions, most)
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * loop.arguments), f"{name}_{most}")
        builder = ir.IRBuilder(function.append_basic_block())
        loop.generate(builder, function.args)
        builder.ret_void()
    engine = _compile(str(module))
    _ENGINES.append(engine)
    return [engine.get_function_address(f"{name}_{most}") for most in range(1, MOST + 1)]


def _compile(text: str) -> Any:
    target = binding.Target.from_default_triple()
    machine = target.create_target_machine(cpu=binding.get_host_cpu_name(), features=_FEATURES.flatten(), opt=3)
    module = binding.parse_assembly(text)
    module.verify()
    options = binding.create_pipeline_tuning_options(speed_level=2)
    binding.create_pass_builder(machine, options).getModulePassManager().run(
        module, binding.create_pass_builder(machine, options)
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


_ENGINES: list[Any] = []  # the code lives as long as they do
