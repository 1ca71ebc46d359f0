"""The trusted half of a split program: runs the tests, which call the candidate in its own process by proxy."""

import builtins
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, NoReturn

from starsmith.evaluation.sandbox.inside import plain, verdict, wire
from starsmith.evaluation.sandbox.inside.candidate import NOT_PLAIN, RAISED, RETURNED


class CandidateError(Exception):
    """An exception of the candidate's that Python has no name for, or an answer that cannot cross."""


class CandidateGoneError(BaseException):
    """The candidate's process ended under a call; tests that catch every exception do not catch this."""


class CandidateViolationError(BaseException):
    """What came back is no answer."""


class NeedsSameError(BaseException):
    """The tests pass something that cannot cross."""


def check(code: CodeType | Exception, names: Sequence[str], calls: int, told: int) -> NoReturn:
    """Run the tests and tell the verdict."""
    if isinstance(code, Exception):
        verdict.tell(told, "harness_error", f"the tests do not compile: {verdict.describe(code)}")
    space: dict[str, object] = {"__name__": "tests", "__builtins__": builtins}
    space.update((name, _proxy(name, calls)) for name in names)
    try:
        exec(code, space)  # noqa: S102  (the tests are the user's own)
    except CandidateGoneError:
        verdict.tell(told, verdict.GONE, "")
    except CandidateViolationError as error:
        verdict.tell(told, "violation", f"the candidate answered with {error}")
    except NeedsSameError as error:
        verdict.tell(told, "harness_error", f"the tests pass {error}: run them with mode 'same'")
    except CandidateError as error:
        verdict.tell(told, "error", verdict.shorten(str(error)))
    except BaseException as error:  # noqa: BLE001
        _tell_exception(told, error)
    verdict.tell(told, "pass", "")


def _tell_exception(told: int, error: BaseException) -> NoReturn:
    word, detail = verdict.judge(error)
    verdict.tell(told, word, getattr(error, "__candidate__", detail))


def _proxy(name: str, calls: int) -> Callable[..., object]:
    def proxy(*arguments: object, **keywords: object) -> object:
        try:
            request = plain.encode([name, list(arguments), keywords])
        except plain.ForeignError:
            raise CandidateError("the tests hand back what the candidate returned, and that cannot cross") from None
        except plain.NotPlainError as error:
            raise NeedsSameError(str(error)) from None
        return _read(_ask(calls, request))

    proxy.__name__ = proxy.__qualname__ = name
    return proxy


def _ask(calls: int, request: bytes) -> bytes:
    try:
        wire.send_frame(calls, request)
        answer = wire.receive_frame(calls)
    except OSError:  # a broken pipe
        raise CandidateGoneError from None
    except wire.FrameError as error:
        raise CandidateViolationError(str(error)) from None
    if answer is None:
        raise CandidateGoneError
    return answer


def _read(answer: bytes) -> Any:
    kind = answer[:1]
    try:
        content = plain.decode(answer[1:])
        if kind == RETURNED:
            return content
        if kind == NOT_PLAIN:
            raise CandidateError(f"the candidate returned {content}")
        if kind == RAISED:
            name, detail = content
            raise _rebuilt(str(name), str(detail))
    except (plain.NotPlainError, ValueError) as error:
        if hasattr(error, "__candidate__"):
            raise
        raise CandidateViolationError(str(error)) from None
    raise CandidateViolationError("an unknown kind of answer")


def _rebuilt(name: str, detail: str) -> Exception:
    """A built-in exception of that name, so that tests which expect one get one."""
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(kind, UnicodeError | ExceptionGroup):
        return CandidateError(detail)
    error = kind(detail.partition(": ")[2])
    error.__candidate__ = detail  # type: ignore[attr-defined]
    return error
