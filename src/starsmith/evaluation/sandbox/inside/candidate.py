"""The untrusted half of a split program: runs the candidate, then answers calls of its functions until hung up on."""

import os
import sys
from types import ModuleType
from typing import NoReturn

from starsmith.evaluation.sandbox.inside import plain, wire
from starsmith.evaluation.sandbox.inside.verdict import describe

RETURNED, RAISED, NOT_PLAIN = b"=", b"!", b"?"
NAME = "solution"  # of the candidate's module, so that dataclasses, pickle and typing find it


def load(source: str) -> dict[str, object]:
    """Run the source as a module of its own; its names."""
    module = ModuleType(NAME)
    sys.modules[NAME] = module
    exec(compile(source, f"<{NAME}>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102  (what we are here for)
    return module.__dict__


def serve(source: str, calls: int) -> NoReturn:
    """Answer every call with a value, an exception or the type that cannot cross."""
    failed, names = b"", dict[str, object]()
    try:
        names = load(source)
    except BaseException as error:  # noqa: BLE001  (whatever the candidate does is its answer)
        failed = _raised(error)
    while (frame := wire.receive_frame(calls)) is not None:
        wire.send_frame(calls, failed or _answer(names, frame))
    os._exit(0)


def _answer(names: dict[str, object], frame: bytes) -> bytes:
    name, arguments, keywords = plain.decode(frame)
    try:
        if name not in names:
            raise NameError(f"name {name!r} is not defined")
        result = names[name](*arguments, **keywords)  # type: ignore[operator]
        data = plain.encode(result, foreign=True)
        if len(data) >= wire.MOST_FRAME_BYTES:
            return NOT_PLAIN + plain.encode("a value of more than 256 MB")
    except plain.NotPlainError as error:
        return NOT_PLAIN + plain.encode(str(error))
    except BaseException as error:  # noqa: BLE001
        return _raised(error)
    return RETURNED + data


def _raised(error: BaseException) -> bytes:
    known = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    return RAISED + plain.encode([known, describe(error)])
