"""Loops that are compiled by themselves, by LLVM alone, for the processor at hand, and kept for the next start.

A program is a table of such loops with their arguments, carried out in one call: Python threads that come back to
Python between two loops wait for one another there, a good part of a millisecond at a time.
"""

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
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
    engine = _engine(str(module))
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


def _engine(text: str) -> Any:
    """With the code of a module, compiled now, or kept from when it was."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=FEATURES.flatten(), opt=3, codemodel="jitdefault", jit=True
    )
    kept = _place(text)
    try:
        code = kept.read_bytes()
    except OSError:
        code = _compile(text, machine)
        _keep(code, kept)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _compile(text: str, machine: Any) -> bytes:
    module = binding.parse_assembly(text)
    module.verify()
    options = binding.create_pipeline_tuning_options(speed_level=2)
    binding.create_pass_builder(machine, options).getModulePassManager().run(
        module, binding.create_pass_builder(machine, options)
    )
    code: bytes = machine.emit_object(module)
    return code


def _place(text: str) -> Path:
    """Beside what numba keeps, and of this text, compiler and processor alone."""
    made_of = (text, binding.llvm_version_info, binding.get_host_cpu_name(), FEATURES.flatten())
    digest = hashlib.sha256(repr(made_of).encode()).hexdigest()
    return Path(__file__).parent / "__pycache__" / f"native.{digest[:32]}.o"


def _keep(code: bytes, place: Path) -> None:
    """For the next start; where nothing can be written it takes as long as this one."""
    partial = place.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        place.parent.mkdir(exist_ok=True)
        partial.write_bytes(code)
        partial.replace(place)


_ENGINES: list[Any] = []  # the code lives as long as they do
