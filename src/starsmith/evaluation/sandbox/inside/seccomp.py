"""Which system calls a program may make: a filter in the kernel's BPF, written here so that nothing needs installing.

A call that no honest program makes (ptrace, io_uring, mount ...) kills the process, and the verdict is `violation`; one
that an honest program may try (fork, socket ...) is refused with an error, which the program may handle.
"""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

from starsmith.evaluation.sandbox.inside import kernel

# Linux audit numbers of the architectures that the tables below are for.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_KILLED = {  # name: (x86_64, aarch64)
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "sethostname": (170, 161), "setdomainname": (171, 162), "quotactl": (179, 60), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "syslog": (103, 116), "vhangup": (153, 58),
    "lookup_dcookie": (212, 18), "process_madvise": (440, 440), "quotactl_fd": (443, 443),
}  # fmt: skip
_KILLED_X86 = {"iopl": 172, "ioperm": 173, "modify_ldt": 154, "uselib": 134, "ustat": 136, "sysfs": 139}
_REFUSED = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194),
    "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "setpriority": (141, 140),
    "sched_setaffinity": (203, 122), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "mbind": (237, 235), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "mlockall": (151, 230), "landlock_create_ruleset": (444, 444),
}  # fmt: skip
# Landlock lets these through (Linux 6.18), on files of the same user wherever they are; a mount namespace does not.
_REFUSED_WITHOUT_MOUNTS = {
    "fchmodat": (268, 53), "fchmodat2": (452, 452), "fchownat": (260, 54), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "removexattr": (197, 14), "lremovexattr": (198, 15), "setxattrat": (463, 463),
    "removexattrat": (466, 466),
}  # fmt: skip
_REFUSED_WITHOUT_MOUNTS_X86 = {"chmod": 90, "chown": 92, "lchown": 94, "utime": 132, "utimes": 235, "futimesat": 261}
_REFUSED_UNLESS_TOOLS = {"execve": (59, 221), "execveat": (322, 281)}
_REFUSED_UNLESS_TOOLS_X86 = {"fork": 57, "vfork": 58}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_OWN_ONLY = {"kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261)}  # the first argument is a process
_LAST_KNOWN = 462  # mseal, Linux 6.10: newer calls do not exist as far as a program can see
_CLONE_THREAD, _CLONE_NAMESPACES = 0x10000, 0x7E020000

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_OWN_PID_MARK = 0x5AFE5AFE


@dataclass(frozen=True)
class Filter:
    """Instructions for one kind of program; the id of its process goes in where the mark stands."""

    code: bytes

    def apply(self) -> None:
        """To this process and all it starts, for good."""
        own = self.code.replace(struct.pack("<I", _OWN_PID_MARK), struct.pack("<I", os.getpid()))
        instructions = ctypes.create_string_buffer(own, len(own))
        program = _Program(len(own) // 8, ctypes.addressof(instructions))
        kernel.prctl(kernel.PR_SET_SECCOMP, 2, ctypes.addressof(program))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def is_supported() -> bool:
    """Whether there is a table for this machine's processor."""
    return os.uname().machine in _ARCHITECTURES


def compile_base(*, tools: bool) -> Filter:
    """What neither a program nor the process it is forked from needs: long, and put on once.

    tools  for compilers and what they build, which start programs
    """
    machine, column = os.uname().machine, _column()
    on_x86 = machine == "x86_64"
    killed = [numbers[column] for numbers in _KILLED.values()] + (list(_KILLED_X86.values()) if on_x86 else [])
    refused = [numbers[column] for numbers in _REFUSED.values()]
    if not tools:
        refused += [numbers[column] for numbers in _REFUSED_UNLESS_TOOLS.values()]
    code = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_JUMP_EQUAL, _ARCHITECTURES[machine], 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
        *_when_above(_X32_BIT - 1, _KILL),
        *_when_above(_LAST_KNOWN, _ERROR | errno.ENOSYS),
        *(line for number in killed for line in _when(number, _KILL)),
        *(line for number in refused for line in _when(number, _ERROR | errno.EPERM)),
        _step(_RETURN, _ALLOW),
    ]
    return Filter(b"".join(code))


def compile_rest(*, tools: bool, mounts: bool) -> Filter:
    """What only the process above may do, which starts and ends processes and cleans up: short, for every child anew.

    mounts  whether there is a file system of its own, so that modes and times may be changed there

    The kernel runs a new filter on every call's number when it is put on, which for the long one takes 0.3 ms.
    """
    column = _column()
    kill, other_kill, limits = (_OWN_ONLY[name][column] for name in ("kill", "tgkill", "prlimit64"))
    on_x86 = os.uname().machine == "x86_64"
    refused = [] if mounts else [numbers[column] for numbers in _REFUSED_WITHOUT_MOUNTS.values()]
    refused += _REFUSED_WITHOUT_MOUNTS_X86.values() if on_x86 and not mounts else []
    refused += _REFUSED_UNLESS_TOOLS_X86.values() if on_x86 and not tools else []
    code = [
        _step(_LOAD, _NUMBER_AT),
        *_when(_CLONE3[column], _ERROR | errno.ENOSYS),  # its flags are behind a pointer; libc then uses clone
        *_clone(_CLONE[column], tools=tools),
        *(line for number in refused for line in _when(number, _ERROR | errno.EPERM)),
        *(_when_about(limits, 0) if tools else _when_about(limits, 0, _OWN_PID_MARK)),
        # With tools, signals stay within a process namespace, and Landlock's scope within the program.
        *([] if tools else _when_about(kill, _OWN_PID_MARK) + _when_about(other_kill, _OWN_PID_MARK)),
        _step(_RETURN, _ALLOW),
    ]
    return Filter(b"".join(code))


def _column() -> int:
    return list(_ARCHITECTURES).index(os.uname().machine)


def _step(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, when_true, when_false, value)


def _when(number: int, result: int) -> list[bytes]:
    return [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, result)]


def _when_above(number: int, result: int) -> list[bytes]:
    return [_step(_JUMP_ABOVE, number, 0, 1), _step(_RETURN, result)]


def _clone(number: int, *, tools: bool) -> list[bytes]:
    """Threads only; with tools processes too, but no namespace."""
    bits = _CLONE_NAMESPACES if tools else _CLONE_THREAD
    refuse, allow = _step(_RETURN, _ERROR | errno.EPERM), _step(_RETURN, _ALLOW)
    yes, no = (refuse, allow) if tools else (allow, refuse)
    return [
        _step(_JUMP_EQUAL, number, 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT_AT),
        _step(_JUMP_BITS, bits, 0, 1),
        yes,
        no,
    ]


def _when_about(number: int, *processes: int) -> list[bytes]:
    """Refused unless the first argument is one of these (0 is the caller itself in prlimit64, its group in kill)."""
    allowed = [line for process in processes for line in _when(process, _ALLOW)]
    body = [_step(_LOAD, _FIRST_ARGUMENT_AT), *allowed, _step(_RETURN, _ERROR | errno.EPERM)]
    return [_step(_JUMP_EQUAL, number, 0, len(body)), *body]
