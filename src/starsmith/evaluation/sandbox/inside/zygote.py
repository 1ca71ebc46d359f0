"""The long-lived process inside a sandbox: imports what programs need once, then forks a child a program.

It never holds a line of a program or its answer: sources come in files whose descriptors are handed on to the child, so
that no child finds in its own memory what an earlier one or its tests were. (The zygote for tests does read those, and
keeps them compiled: no candidate is ever forked from it.)
"""

import gc
import hashlib
import importlib
import json
import os
import socket
import sys
import traceback
from dataclasses import replace
from types import CodeType
from typing import Any, NoReturn

from starsmith.evaluation.sandbox.inside import (
    candidate,
    checker,
    confinement,
    kernel,
    landlock,
    seccomp,
    supervision,
    together,
    toolchain,
    verdict,
    wire,
)

_COMPILED_AT_MOST = 64

Settings = dict[str, Any]


def main() -> None:
    """Set up, say so, and run programs until the connection ends."""
    control = socket.socket(fileno=int(sys.argv[1]))
    settings, _ = wire.receive_message(control)
    if settings is None:
        return
    try:
        clothes = _settle(settings)
    except Exception:  # noqa: BLE001  (told to whoever started us)
        wire.send_message(control, {"failed": traceback.format_exc(limit=-4)[-4000:]})
        return
    wire.send_message(control, {"ready": True, "bounded_scratch": settings.get("bounded_scratch", False)})
    _Zygote(control, settings, clothes).run()


class _Zygote:
    def __init__(self, control: socket.socket, settings: Settings, clothes: confinement.Confinement) -> None:
        self.control, self.settings, self.clothes = control, settings, clothes
        self.compiled: dict[str, CodeType | Exception] = {}

    def run(self) -> None:
        gc.collect()
        gc.freeze()  # a collection in a child would copy every page that we share
        while True:
            job, descriptors = wire.receive_message(self.control)
            if job is None:
                return
            if "kind" not in job:  # "stop" for a child that ended by itself
                continue
            code = self._compile(job, descriptors) if job["kind"] == "check" else None
            bounds = confinement.Bounds(**job["bounds"])
            pid = os.fork()
            if pid == 0:
                self._become(job, bounds, descriptors, code)
            for descriptor in descriptors:
                os.close(descriptor)
            report = supervision.watch(pid, _watch_of(job["kind"], bounds), self.control)
            supervision.wipe(self.settings["scratch"])
            wire.send_message(self.control, report)

    def _compile(self, job: wire.Message, descriptors: list[int]) -> CodeType | Exception:
        """The tests, which many samples share; descriptors[0] is their source and is read only when it is new."""
        known = self.compiled.get(job["digest"])
        if known is None:
            source = wire.read_all(os.dup(descriptors[0]))
            assert hashlib.sha256(source).hexdigest() == job["digest"]
            try:
                known = compile(source, "<tests>", "exec", dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                known = error
            while len(self.compiled) >= _COMPILED_AT_MOST:
                self.compiled.pop(next(iter(self.compiled)))
            self.compiled[job["digest"]] = known
        return known

    def _become(
        self, job: wire.Message, bounds: confinement.Bounds, descriptors: list[int], code: CodeType | Exception | None
    ) -> NoReturn:
        """The child's whole life."""
        kind, told = job["kind"], descriptors[-1]
        try:
            os.chdir(self.settings["scratch"])
            gc.enable()
            if kind == "tools":
                program = json.loads(wire.read_all(descriptors[0]))
                toolchain.run(program, bounds, self.clothes, told)
            kept = confinement.confine(self.clothes, bounds, descriptors)
            told = kept[-1]
            if kind == "check":
                assert code is not None
                checker.check(code, job["names"], kept[1], told)
            source = wire.read_all(kept[0]).decode("utf-8", "surrogatepass")
        except BaseException:  # noqa: BLE001
            verdict.tell_own_fault(told)
        try:
            if kind == "candidate":
                candidate.serve(source, told)
            together.run(json.loads(source), told)
        finally:
            os._exit(1)


def _watch_of(kind: str, bounds: confinement.Bounds) -> supervision.Watch:
    """Compilers have time of their own; the programs they make are bounded by whoever starts them."""
    if kind != "tools":
        return supervision.Watch(bounds, tree=False)
    cpu_s, wall_s = bounds.cpu_s + toolchain.COMPILE_CPU_S, bounds.wall_s + toolchain.COMPILE_WALL_S
    return supervision.Watch(replace(bounds, cpu_s=cpu_s, wall_s=wall_s), tree=True)


def _settle(settings: Settings) -> confinement.Confinement:
    """Scratch folder, identity, imports, and what children put on; in the order in which each is still possible."""
    scratch = settings["scratch"]
    if settings["mounts"]:
        settings["bounded_scratch"] = confinement.bound_scratch(scratch, settings["scratch_bytes"])
    if settings["uid"] is not None and confinement.become_nobody(settings["uid"], scratch) and settings["mounts"]:
        confinement.enter_user_namespace()
    if settings["confined"]:
        confinement.close_down()
    if not settings["mounts"]:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    sys.path.extend(settings["search"])
    sys.dont_write_bytecode = True
    for name in settings["preload"]:
        importlib.import_module(name)
    clothes = _clothes(settings)
    if not settings["tools"]:
        clothes.put_on_common()
    return clothes


def _clothes(settings: Settings) -> confinement.Confinement:
    if not settings["confined"]:
        return confinement.Confinement(files=None, common=None, rest=None, bounded_threads=False)
    tools, mounts = settings["tools"], settings["mounts"]
    return confinement.Confinement(
        files=landlock.Ruleset(map(tuple, settings["rules"])) if landlock.abi() else None,
        common=seccomp.compile_base(tools=tools),
        rest=seccomp.compile_rest(tools=tools, mounts=mounts),
        bounded_threads=mounts,
    )


if __name__ == "__main__":
    main()
