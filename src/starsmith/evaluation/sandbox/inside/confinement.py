"""What a process inside gives up: at its start what it needs no longer, in every child all the rest."""

import fcntl
import math
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starsmith.evaluation.sandbox.inside import kernel, landlock, seccomp

_FIRST_FREE = 3  # descriptor; below are the standard streams, which lead nowhere
OUTSIDER = 65534  # nobody
_INODES = 4096


@dataclass(frozen=True)
class Confinement:
    """What children put on; made once. What `common` holds, the process above puts on as well, unless it has tools."""

    files: landlock.Ruleset | None
    common: seccomp.Filter | None
    rest: seccomp.Filter | None
    bounded_threads: bool  # whether RLIMIT_NPROC counts this sandbox's processes only

    def put_on_common(self) -> None:
        """Inherited by all children, which then need not do it one by one."""
        if self.files:
            self.files.apply()
        if self.common:
            self.common.apply()

    def put_on_rest(self) -> None:
        """Nothing is started or signalled any more."""
        if self.rest:
            self.rest.apply()


@dataclass(frozen=True)
class Bounds:
    """The limits of one program, as they come over the wire."""

    cpu_s: float
    wall_s: float
    memory_bytes: int
    file_bytes: int
    open_files: int
    threads: int


def bound_scratch(path: str, size_bytes: int) -> bool:
    """A tmpfs with a limit of inodes over `path`; False where mounting is not ours to do."""
    try:
        kernel.mount_tmpfs(path, f"size={size_bytes},nr_inodes={_INODES},mode=0700")
    except OSError:
        return False
    return True


def become_nobody(uid: int, scratch: str) -> bool:
    """Root for real becomes `uid`, which owns nothing but the scratch folder; False where that is not to be had."""
    try:
        os.chown(scratch, uid, uid)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        return False
    return True


def enter_user_namespace() -> None:
    """Whoever was root outside gets a user namespace of its own, in which its processes are counted."""
    uid, gid = os.getuid(), os.getgid()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # or our own /proc/self would not be ours
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path("/proc/self", name).write_text(line)


def close_down() -> None:
    """For the long-lived process: no capability, no new privilege, unreadable for its children."""
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine(confinement: Confinement, bounds: Bounds, descriptors: Sequence[int]) -> list[int]:
    """For a child, before it reads a line of anybody's program; it keeps these descriptors: where they are then."""
    kept = keep_only(descriptors)
    limit(confinement, bounds)
    _limit(resource.RLIMIT_CPU, _cpu_backstop_s(bounds))
    _limit(resource.RLIMIT_AS, bounds.memory_bytes)
    confinement.put_on_rest()
    return kept


def confine_tool(confinement: Confinement, bounds: Bounds) -> None:
    """The same for a compiler, or for what it built, between fork and exec."""
    limit(confinement, bounds)
    _limit(resource.RLIMIT_CPU, _cpu_backstop_s(bounds))
    _limit(resource.RLIMIT_DATA, bounds.memory_bytes)  # Java, Go and Node reserve far more addresses than they use
    confinement.put_on_common()
    confinement.put_on_rest()


def limit(confinement: Confinement, bounds: Bounds) -> None:
    """Everything but time and memory."""
    _limit(resource.RLIMIT_FSIZE, bounds.file_bytes)
    _limit(resource.RLIMIT_NOFILE, bounds.open_files)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    if confinement.bounded_threads:
        _limit(resource.RLIMIT_NPROC, bounds.threads)


def keep_only(descriptors: Sequence[int]) -> list[int]:
    """Close all descriptors but the standard streams and these, which move to the lowest numbers."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64) for descriptor in descriptors]
    low = [os.dup2(descriptor, _FIRST_FREE + number, False) for number, descriptor in enumerate(high)]
    os.closerange(_FIRST_FREE + len(low), 1 << 20)
    return low


def _cpu_backstop_s(bounds: Bounds) -> int:
    """Whoever watches is exact; this counts in ticks, on a busy machine half as many again, and must not be first."""
    return 2 * math.ceil(bounds.cpu_s) + 2


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))
