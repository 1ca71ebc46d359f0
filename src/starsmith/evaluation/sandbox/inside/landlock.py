"""Which files a program may reach: Landlock, which needs no namespace and no privilege (Linux 5.13 and later).

Whatever no rule names is closed, TCP and (Linux 6.12) signals and abstract sockets to processes outside included.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from starsmith.evaluation.sandbox.inside import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_RIGHTS_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
# In its scratch folder a program makes files and folders, but no device, socket or named pipe.
_DEVICES = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | 1 << 15

READ, LIST, WRITE, RUN = "read", "list", "write", "run"


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


def abi() -> int:
    """The version that the kernel offers; 0 without Landlock."""
    try:
        return kernel.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


class Ruleset:
    """Made once, applied by every child in one call."""

    def __init__(self, rules: Iterable[tuple[str, str]]) -> None:
        """`rules`: (READ, LIST, WRITE or RUN; path); a path that is missing is nothing to reach."""
        version = abi()
        self._handled = max(rights for known, rights in _RIGHTS_OF_ABI.items() if known <= version)
        attributes = _RulesetAttributes(self._handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
        # An older kernel knows a shorter struct.
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        self.descriptor = kernel.syscall(
            _CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0)
        )
        for kind, path in rules:
            self._allow(kind, path)

    def apply(self) -> None:
        """To this process and all it starts, for good."""
        kernel.syscall(_RESTRICT_SELF, ctypes.c_int(self.descriptor), ctypes.c_uint32(0))

    def _allow(self, kind: str, path: str) -> None:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        rights = self._rights(kind)
        if not Path(path).is_dir():
            rights &= _OF_FILES
        rule = _PathRule(rights & self._handled, folder)
        kernel.syscall(
            _ADD_RULE, ctypes.c_int(self.descriptor), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0)
        )
        os.close(folder)

    def _rights(self, kind: str) -> int:
        if kind == WRITE:
            return self._handled & ~_DEVICES & ~_EXECUTE
        return {READ: _READ_FILE | _READ_DIR, LIST: _READ_DIR, RUN: _READ_FILE | _READ_DIR | _EXECUTE}[kind]
