"""Loops that are compiled by themselves, by LLVM alone: for the processor at hand, in some milliseconds each."""

from collections.abc import Mapping
from typing import Any

from llvmlite import binding, ir

from starsmith.model.kernels.lanes import I64, Loop

FEATURES = binding.get_host_cpu_features()


def addresses(loops: Mapping[str, Loop]) -> list[int]:
    """Where the compiled loops are, in the order given; they stay there as long as the process lives."""
    module = ir.Module()
    for name, loop in loops.items():
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * loop.arguments), name)
        builder = ir.IRBuilder(function.append_basic_block())
        loop.generate(builder, function.args)
        builder.ret_void()
    engine = _compile(str(module))
    _ENGINES.append(engine)
    return [engine.get_function_address(name) for name in loops]


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
