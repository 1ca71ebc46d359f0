"""What threads that run the same compiled function need to share its work: numbers to draw, and places to meet.

No thread is made here and no lock is held: between two meetings lie microseconds, and a lock of the operating system
costs as much. A thread that waits long gives its processor up: more threads than processors are slow, not stuck.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from starsmith.model.kernels import native
from starsmith.model.kernels.compiling import inside
from starsmith.model.kernels.lanes import I32, I64, Loop

SPINS = 2000  # looks before a waiting thread lets others run: some ten microseconds


@inside
def draw(typing: Any, address: Any) -> Any:
    """Add one to the int64 at an address; the number before. Of all threads each number goes to one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], I64.as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(I64, 1), "acq_rel")

    return types.int64(types.int64), generate


@inside
def meet(typing: Any, address: Any, threads: Any) -> Any:
    """Return when `threads` threads have come to the int64 at an address, which was 0 before the first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _generate_meeting(builder, arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@cache
def meeting() -> int:
    """Where `meet` is as a loop of a program."""
    return native.addresses({"meet": Loop(_generate_meeting, 2)}, from_row=True)[0]


def _generate_meeting(builder: Any, arguments: Sequence[Any]) -> None:
    place = builder.inttoptr(arguments[0], I64.as_pointer())
    give_up = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), "sched_yield")
    builder.atomic_rmw("add", place, ir.Constant(I64, 1), "acq_rel")
    looks = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))
    look, wait, done = (builder.append_basic_block(name) for name in ("look", "wait", "done"))
    builder.branch(look)
    builder.position_at_end(look)
    builder.cbranch(builder.icmp_signed(">=", builder.load_atomic(place, "acquire", 8), arguments[1]), done, wait)
    builder.position_at_end(wait)
    seen = builder.add(builder.load(looks), ir.Constant(I64, 1))
    builder.store(seen, looks)
    with builder.if_then(builder.icmp_signed(">", seen, ir.Constant(I64, SPINS))):
        builder.call(give_up, [])
    builder.branch(look)
    builder.position_at_end(done)
