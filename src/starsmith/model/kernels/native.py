"""Loops that are compiled by themselves, by LLVM alone: for the processor at hand, in some milliseconds each.

A program is a table of such loops with their arguments, carried out in one call: Python threads that come back to
Python between two loops wait for one another there, a good part of a millisecond at a time.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils
from numpy.typing import NDArray

from starsmith.model.kernels.lanes import I64, Loop, read, scaled, size

FEATURES = binding.get_host_cpu_features()

Row = tuple[int, ...]  # the address of a loop, and its arguments
ARGUMENTS = 15  # at most


def addresses(loops: Mapping[str, Loop], *, from_row: bool = False) -> list[int]:
    """Where the compiled loops are, in the order given; they stay there as long as the process lives.

    from_row  they are called with the address of their arguments, as in a program, and not with these
    """
    module = ir.Module()
    for name, loop in loops.items():
        given = 1 if from_row else loop.arguments
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * given), name)
        builder = ir.IRBuilder(function.append_basic_block())
        arguments = list(function.args)
        if from_row:
            arguments = [
                read(builder, builder.add(function.args[0], size(8 * number)), I64) for number in range(loop.arguments)
            ]
        loop.generate(builder, arguments)
        builder.ret_void()
    engine = _compile(str(module))
    _ENGINES.append(engine)
    return [engine.get_function_address(name) for name in loops]


def program(rows: Sequence[Row]) -> NDArray[np.int64]:
    """What `run` takes."""
    table = np.zeros((len(rows), 1 + ARGUMENTS), np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def run(table: NDArray[np.int64]) -> None:
    """Carry out a program, without the GIL."""
    _run()(table.ctypes.data, len(table))


@cache
def _run() -> Callable[[int, int], None]:
    (address,) = addresses({"run_program": Loop(_generate_run, 2)})
    return ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(address)


def _generate_run(builder: Any, arguments: Sequence[Any]) -> None:
    table, count = arguments
    kind = ir.FunctionType(ir.VoidType(), [I64])
    with cgutils.for_range(builder, count) as loop:
        row = builder.add(table, scaled(builder, loop.index, 8 * (1 + ARGUMENTS)))
        builder.call(builder.inttoptr(read(builder, row, I64), kind.as_pointer()), [builder.add(row, size(8))])


def _compile(text: str) -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    machine = target.create_target_machine(cpu=binding.get_host_cpu_name(), features=FEATURES.flatten(), opt=3)
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
