"""Memory by its address inside of compiled functions: numbers, rows of numbers, and calls of loops.

An array among the arguments of a compiled function is seven numbers, and the tables of a model are dozens of arrays;
addresses keep the calls short, and a function that wants an array makes one of an address for nothing.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.np.arrayobj import make_array, populate_array

from starsmith.model.kernels.compiling import inside

_I8, _I16, _I32, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()


def _row(kind: Any) -> tuple[Any, Any]:
    """Type and code of an array at an address."""
    array_type = types.Array(kind, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = make_array(array_type)(context, builder)
        address, count = arguments
        size = context.get_constant(types.intp, kind.bitwidth // 8)
        data = builder.inttoptr(address, array.data.type)
        populate_array(array, data=data, shape=[count], strides=[size], itemsize=size, meminfo=None)
        return array._getvalue()

    return array_type(types.int64, types.int64), generate


@inside
def floats(typing: Any, address: Any, count: Any) -> Any:
    """So many float32 from an address on."""
    return _row(types.float32)


@inside
def levels(typing: Any, address: Any, count: Any) -> Any:
    """So many int8 from an address on."""
    return _row(types.int8)


@inside
def wholes(typing: Any, address: Any, count: Any) -> Any:
    """So many int32 from an address on."""
    return _row(types.int32)


@inside
def integers(typing: Any, address: Any, count: Any) -> Any:
    """So many int64 from an address on."""
    return _row(types.int64)


def _load(kind: Any, result: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), align=result.bitwidth // 8)

    return result(types.int64), generate


@inside
def float_at(typing: Any, address: Any) -> Any:
    """The float32 at an address."""
    return _load(_F32, types.float32)


@inside
def byte_at(typing: Any, address: Any) -> Any:
    """The signed byte at an address."""
    return _load(_I8, types.int8)


@inside
def half_at(typing: Any, address: Any) -> Any:
    """The bfloat16 at an address, as a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half = builder.load(builder.inttoptr(arguments[0], _I16.as_pointer()), align=2)
        return builder.bitcast(builder.shl(builder.zext(half, _I32), ir.Constant(_I32, 16)), _F32)

    return types.float32(types.int64), generate


@inside
def put_float(typing: Any, address: Any, value: Any) -> Any:
    """Write a float32 to an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], _F32.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@inside
def put_half(typing: Any, address: Any, value: Any) -> Any:
    """Write a float32 to an address as a bfloat16, rounded to the nearest, to even between two."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[1], _I32)
        odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(_I32, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", arguments[1], arguments[1])
        kept = builder.select(is_nan, ir.Constant(_I32, 0x7FC00000), rounded)
        half = builder.trunc(builder.lshr(kept, ir.Constant(_I32, 16)), _I16)
        builder.store(half, builder.inttoptr(arguments[0], _I16.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


def _reinterpret(kind: Any, result: Any, given: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], kind)

    return result(given), generate


@inside
def as_bits(typing: Any, value: Any) -> Any:
    """The bits of a float32 as an int32."""
    return _reinterpret(_I32, types.int32, types.float32)


@inside
def from_bits(typing: Any, value: Any) -> Any:
    """The float32 of these bits."""
    return _reinterpret(_F32, types.float32, types.int32)


def _call(count: int) -> tuple[Any, Any]:
    """Code that calls the function at the first of the arguments with the others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * count)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * (count + 1)), generate


@inside
def call_4(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Call the loop at an address, which takes four numbers."""
    return _call(4)


@inside
def call_6(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """Call the loop at an address, which takes six numbers."""
    return _call(6)


@inside
def call_7(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any) -> Any:
    """Call the loop at an address, which takes seven numbers."""
    return _call(7)


@inside
def call_8(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Call the loop at an address, which takes eight numbers."""
    return _call(8)
