"""Watching one child: stops it at its limit, says what it used, and leaves nothing of it behind."""

import contextlib
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsmith.evaluation.sandbox.inside import wire
from starsmith.evaluation.sandbox.inside.confinement import Bounds

_SHORTEST_WAIT_S = 0.002
_TOOLS_WAIT_S = 0.05  # between two looks at a whole tree of processes
_CPU_CLOCK = 2  # of a process, in the kernel's numbering of clocks


@dataclass(frozen=True)
class Watch:
    """Which limits hold, and over what."""

    bounds: Bounds
    tree: bool  # of the child's processes too, all of which are ours to end

    def stops(self, pid: int, started: float) -> tuple[str | None, float]:
        """The limit that is reached, if one is, and how long none can be."""
        wall_left = self.bounds.wall_s - (time.monotonic() - started)
        cpu_left = self.bounds.cpu_s - (tree_cpu_s() if self.tree else process_cpu_s(pid))
        if cpu_left <= 0:
            return "cpu", 0.0
        if wall_left <= 0:
            return "wall", 0.0
        soonest = min(cpu_left / (os.cpu_count() or 1), wall_left)
        return None, max(_SHORTEST_WAIT_S, min(soonest, _TOOLS_WAIT_S) if self.tree else soonest)


def watch(pid: int, watching: Watch, control: socket.socket) -> dict[str, Any]:
    """Wait for the child to end, or end it: at a limit, when told to, or when whoever asked is gone."""
    started = time.monotonic()
    child = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(child, select.POLLIN)
    poller.register(control, select.POLLIN)
    stopped: str | None = None
    cpu_s = 0.0
    while True:
        stopped, wait_s = watching.stops(pid, started)
        if stopped:
            break
        ready = {descriptor for descriptor, _ in poller.poll(wait_s * 1000)}
        if child in ready:
            break
        if control.fileno() in ready:
            wire.receive_message(control)  # "stop"; at the end of the connection the next read ends us as well
            stopped = "asked"
            break
    if watching.tree:
        cpu_s = tree_cpu_s()
    os.close(child)
    _end(pid, everything=watching.tree)
    _, status, usage = os.wait4(pid, 0)
    _reap()
    return {
        "status": status,
        "stopped": stopped,
        "cpu_s": max(cpu_s, usage.ru_utime + usage.ru_stime),
        "wall_s": time.monotonic() - started,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def process_cpu_s(pid: int) -> float:
    """Processor time that all threads of a process have used."""
    try:
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK)
    except OSError:
        return 0.0


def tree_cpu_s() -> float:
    """Processor time of everything in this process namespace but its first process, the ended ones included."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and folder.name != "1":
            with contextlib.suppress(OSError):
                ticks += sum(map(int, (folder / "stat").read_bytes().rpartition(b")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def wipe(folder: str) -> None:
    """Empty a folder that a program may have filled as it liked: depth, names and modes are no obstacle."""
    number = 0
    while entries := list(os.scandir(folder)):
        for entry in entries:
            path = Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                path.unlink()
                continue
            path.chmod(0o700)
            for inner in list(os.scandir(path)):
                number += 1
                _lift(inner, Path(folder, f".wiped-{number}"))
            path.rmdir()


def _lift(entry: os.DirEntry[str], free: Path) -> None:
    """Take a folder's folder one step up, or a file away: paths never get longer than two names."""
    if not entry.is_dir(follow_symlinks=False):
        Path(entry.path).unlink()
        return
    Path(entry.path).chmod(0o700)  # a folder is moved only by who may write to it
    while os.path.lexists(free):
        free = free.with_name(free.name + "-")
    Path(entry.path).rename(free)


def _end(pid: int, *, everything: bool) -> None:
    os.kill(pid, signal.SIGKILL)
    if everything and os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.getpid() == 1 and os.wait4(-1, 0)[0]:
            pass
