"""How this folder's functions are compiled, and when what numba keeps of them on disk is out of date.

Only what Python calls gets a wrapper for Python and a place in the cache, the functions that it calls are part of it:
numba would spend as much time on the wrappers as on the code.
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core import event
from numba.extending import intrinsic

from starsmith.core.console import note

_JIT: Callable[..., Any] = njit  # which is typed without the options that leave the wrappers out
_OPTIONS = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}  # _nrt: no arrays are made or counted

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """For functions that compiled ones call; Python must not, there is nothing that checks what it gives."""
    return _JIT(**_OPTIONS, no_cpython_wrapper=True)(function)  # type: ignore[no-any-return]


def reordered(function: F) -> F:
    """As `compiled`, where sums may be taken in the order of vectors, which is the code's and not the data's."""
    return _JIT(**_OPTIONS, no_cpython_wrapper=True, fastmath={"reassoc"})(function)  # type: ignore[no-any-return]


def inside(generate: Callable[..., Any]) -> Callable[..., Any]:
    """Numba's `intrinsic`, which is typed as if its caller gave it the first argument, too."""
    return intrinsic(generate)


def _digest() -> int:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return int.from_bytes(hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()[:7], "little")


SOURCES = _digest()  # differs with every version of this folder


def entry(function: Callable[..., Any]) -> Any:
    """For functions that Python calls.

    Numba keeps them under their name, as long as the one file that they stand in is the same; so a function's name
    here says which version of the functions it calls is part of it.
    """
    function.__qualname__ += f"_{SOURCES:x}"
    return _JIT(**_OPTIONS, nogil=True, cache=True)(function)


class _Note(event.Listener):
    """Says once, at the first function that is compiled, what the waiting is for."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, _: Any) -> None:
        if not self._said:
            note("compiling for this processor, some seconds; later starts take what is kept")
        self._said = True

    def on_end(self, _: Any) -> None: ...


def announced() -> AbstractContextManager[None]:
    """Within it the first compilation is told to the person who waits; loading what was kept is not."""
    return event.install_listener("numba:compile", _Note())
