"""How a program ended, in one word and a line for people."""

import json
import os
import traceback
from typing import NoReturn

MOST_DETAIL = 400  # characters
GONE = "gone"  # the candidate's process ended under a call; why, whoever watched it knows


def describe(error: BaseException) -> str:
    """`ValueError: message`, cut; a message that cannot be had is left out."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  (a class of the program's own)
        message = ""
    name = type(error).__name__
    return shorten(f"{name}: {message}" if message else name)


def shorten(text: str) -> str:
    """One line that can be stored and printed anywhere."""
    text = " ".join(text[: 4 * MOST_DETAIL].split()).encode("utf-8", "replace").decode()
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= MOST_DETAIL else printable[: MOST_DETAIL - 1] + "…"


def judge(error: BaseException | None) -> tuple[str, str]:
    """Verdict and detail of a program that ended with `error`, or without."""
    if error is None:
        return "pass", ""
    if isinstance(error, AssertionError):
        return "fail", describe(error)
    if isinstance(error, MemoryError):
        return "memory", describe(error)
    if isinstance(error, PermissionError):
        return "violation", describe(error)
    return "error", describe(error)


def tell(descriptor: int, verdict: str, detail: str, token: str = "") -> NoReturn:
    """Send the verdict and end this process at once: no handler of the program's own runs any more."""
    os.write(descriptor, json.dumps({"verdict": verdict, "detail": detail, "token": token}).encode())
    os._exit(0)


def tell_own_fault(descriptor: int) -> NoReturn:
    """The exception being handled is ours."""
    tell(descriptor, "harness_error", shorten(traceback.format_exc(limit=-3)))
