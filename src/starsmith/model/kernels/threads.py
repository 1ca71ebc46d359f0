"""What threads that run the same compiled function need to share its work: numbers to draw, and places to meet.

No thread is made here and no lock is held: between two meetings lie microseconds, and a lock of the operating system
costs as much. A thread that waits long gives its processor up, so that more threads than processors are slow, not stuck.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

SPINS = 2000  # looks before a waiting thread lets others run: some ten microseconds

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()


@intrinsic
def draw(typing: Any, address: Any) -> Any:
    """Add one to the int64 at an address; the number before. Of all threads each number goes to one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(_I64, 1), "acq_rel")

    return types.int64(types.int64), generate


@intrinsic
def meet(typing: Any, address: Any, threads: Any) -> Any:
    """Return when `threads` threads have come to the int64 at an address, which was 0 before the first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        give_up = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, []), "sched_yield")
        builder.atomic_rmw("add", place, ir.Constant(_I64, 1), "acq_rel")
        looks = cgutils.alloca_once_value(builder, ir.Constant(_I64, 0))
        look, wait, done = (builder.append_basic_block(name) for name in ("look", "wait", "done"))
        builder.branch(look)
        builder.position_at_end(look)
        builder.cbranch(builder.icmp_signed(">=", builder.load_atomic(place, "acquire", 8), arguments[1]), done, wait)
        builder.position_at_end(wait)
        seen = builder.add(builder.load(looks), ir.Constant(_I64, 1))
        builder.store(seen, looks)
        with builder.if_then(builder.icmp_signed(">", seen, ir.Constant(_I64, SPINS))):
            builder.call(give_up, [])
        builder.branch(look)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def float_at(typing: Any, address: Any) -> Any:
    """The float32 at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], _F32.as_pointer()), align=4)

    return types.float32(types.int64), generate


@intrinsic
def integer_at(typing: Any, address: Any) -> Any:
    """The int32 at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], _I32.as_pointer()), align=4)

    return types.int32(types.int64), generate


@intrinsic
def byte_at(typing: Any, address: Any) -> Any:
    """The signed byte at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()), align=1)

    return types.int8(types.int64), generate


@intrinsic
def half_at(typing: Any, address: Any) -> Any:
    """The bfloat16 at an address, as a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half = builder.load(builder.inttoptr(arguments[0], ir.IntType(16).as_pointer()), align=2)
        return builder.bitcast(builder.shl(builder.zext(half, _I32), ir.Constant(_I32, 16)), _F32)

    return types.float32(types.int64), generate


@intrinsic
def put_float(typing: Any, address: Any, value: Any) -> Any:
    """Write a float32 to an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], _F32.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def put_half(typing: Any, address: Any, value: Any) -> Any:
    """Write a float32 to an address as a bfloat16, rounded to the nearest, to even between two."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[1], _I32)
        odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(_I32, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", arguments[1], arguments[1])
        kept = builder.select(is_nan, ir.Constant(_I32, 0x7FC00000), rounded)
        half = builder.trunc(builder.lshr(kept, ir.Constant(_I32, 16)), ir.IntType(16))
        builder.store(half, builder.inttoptr(arguments[0], ir.IntType(16).as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def as_bits(typing: Any, value: Any) -> Any:
    """The bits of a float32 as an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _I32)

    return types.int32(types.float32), generate


@intrinsic
def from_bits(typing: Any, value: Any) -> Any:
    """The float32 of these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _F32)

    return types.float32(types.int32), generate


def _call(count: int) -> Any:
    """Code that calls the function at the first of the arguments with the others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I64] * count)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * (count + 1)), generate


@intrinsic
def call_6(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """Call the loop at an address, which takes six numbers."""
    return _call(6)


@intrinsic
def call_7(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any) -> Any:
    """Call the loop at an address, which takes seven numbers."""
    return _call(7)


@intrinsic
def call_8(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Call the loop at an address, which takes eight numbers."""
    return _call(8)
