"""Calls to the kernel that Python has no name for."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 47, 4
CLONE_NEWUSER = 0x10000000
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522


def prctl(option: int, *arguments: int) -> int:
    """prctl(2), with an exception for a failure."""
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_LIBC.prctl(option, *words), f"prctl {option}")


def syscall(number: int, *arguments: object) -> int:
    """syscall(2), with an exception for a failure."""
    return _checked(_LIBC.syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def mount_tmpfs(path: str, options: str) -> None:
    """A fresh tmpfs over `path`: nosuid, nodev."""
    _checked(_LIBC.mount(b"tmpfs", path.encode(), b"tmpfs", ctypes.c_ulong(2 | 4), options.encode()), f"mount {path}")


def unshare(flags: int) -> None:
    """unshare(2), with an exception for a failure."""
    _checked(_LIBC.unshare(flags), "unshare")


def drop_capabilities() -> None:
    """From every set of this process, for good."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # past the last one that this kernel knows, or not ours to drop: exec gives none back anyway
            break
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    syscall(SYS_CAPSET[os.uname().machine], header, (ctypes.c_uint32 * 6)())


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
