"""Which protection this machine offers, found out by trying it; without any, nothing runs."""

import os
import subprocess
from dataclasses import dataclass
from shutil import which
from typing import Literal

from starsmith.core.errors import InputError
from starsmith.evaluation.sandbox import bubblewrap
from starsmith.evaluation.sandbox.inside import landlock, seccomp

Kind = Literal["namespaces", "kernel", "unsafe"]
_INSTALL = "apt-get install bubblewrap"


@dataclass(frozen=True, kw_only=True)
class SandboxChoice:
    """How programs are kept; `layers` and `warnings` belong into every result."""

    kind: Kind
    layers: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    as_root: bool = False  # bubblewrap is started by root, who becomes nobody inside
    scratch_bytes: int = 256 << 20  # of the temporary folder of one program


def choose(*, unsafe: bool = False) -> SandboxChoice:
    """The strongest that works here; refuses where none does, unless told that none is wanted."""
    if unsafe:
        return SandboxChoice(kind="unsafe", layers=("rlimits",), warnings=("programs ran without a sandbox",))
    version = landlock.abi()
    filters = seccomp.is_supported()
    reason = _why_no_namespaces()
    kernel = (*((f"landlock {version}",) if version else ()), "seccomp", "rlimits")
    if filters and not isinstance(reason, str):
        layers = (f"namespaces ({', '.join(bubblewrap.NAMESPACES)})", *kernel)
        warnings = () if version else ("this kernel has no Landlock",)
        return SandboxChoice(kind="namespaces", layers=layers, warnings=warnings, as_root=reason)
    if filters and version:
        warning = f"no namespaces ({reason}): programs are kept by Landlock, seccomp and rlimits alone"
        return SandboxChoice(kind="kernel", layers=kernel, warnings=(warning,))
    raise InputError(
        f"no sandbox to run programs in: {reason}; Landlock {'found' if version else 'is missing'}, "
        f"seccomp for {os.uname().machine} {'found' if filters else 'is missing'}",
        hint=f"{_INSTALL}; or say --unsafe, which the result will show",
    )


def kernel_only() -> SandboxChoice:
    """The fallback, wherever it would not be needed: for tests and for those who want to compare."""
    return SandboxChoice(
        kind="kernel", layers=(f"landlock {landlock.abi()}", "seccomp", "rlimits"), warnings=("asked",)
    )


def _why_no_namespaces() -> str | bool:
    """A reason; or whether root makes them, which they can be made by."""
    if which("bwrap") is None:
        return f"bubblewrap is not installed ({_INSTALL})"
    said = ""
    for as_root in (True, False) if os.geteuid() == 0 else (False,):
        line = [*bubblewrap.isolation(as_root=as_root), "--ro-bind", "/", "/", "--proc", "/proc", "--", "true"]
        try:
            tried = subprocess.run(line, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603  (our own line)
        except subprocess.TimeoutExpired:
            return "bubblewrap hangs"
        if tried.returncode == 0:
            return as_root
        said = tried.stderr.strip()
    return f"bubblewrap: {said}" if said else "bubblewrap ends without a word"
