"""Whatever goes wrong in a request becomes OpenAI's error body, with a status that clients act on.

400 the request is wrong · 401 no token · 403 foreign host · 404 no such model or route · 413 too large · 503 try later
"""

import math
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from starsmith.core.errors import EngineError, InputError, StarsmithError
from starsmith.inference.backends.errors import UpstreamError

HUNG_UP = 499  # nginx's status for a client that closed the connection; nobody receives it


class ApiError(HTTPException):
    """A request that cannot be answered; `param` names the field of the body that is to blame."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers=dict(headers or {}))
        self.param = param
        self.code = code


def error_json(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body that the OpenAI SDKs parse."""
    kind = "authentication_error" if status == 401 else "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def from_exception(error: Exception) -> ApiError:
    """What to tell the client about an exception of a handler or of the work behind it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, InputError):  # the one input that our engine refuses is a prompt that fills the context
        return ApiError(400, error.message, param="prompt", code="context_length_exceeded")
    if isinstance(error, EngineError):
        return _from_engine(error)
    if isinstance(error, StarsmithError):
        return ApiError(400, error.message)
    return ApiError(500, f"a bug in the server: {type(error).__name__}; its log has the traceback")


def _from_engine(error: EngineError) -> ApiError:
    """The hint goes along: who reads the answer may know who runs the server, whose log does not have it."""
    told = f"{error.message} ({error.hint})" if error.hint else error.message
    if not isinstance(error, UpstreamError):
        return ApiError(503, told, code="engine_failed")
    wait_s = error.retry_after_s
    headers = {} if wait_s is None else {"Retry-After": str(max(math.ceil(wait_s), 1))}
    return ApiError(503, told, code="upstream_failed", headers=headers)


async def answer_error(_: Request, error: Exception) -> Response:
    """Handler for every exception with a status, and for bugs."""
    told = from_exception(error)
    body = error_json(told.status_code, told.detail, told.param, told.code)
    return JSONResponse(body, status_code=told.status_code, headers=told.headers)


async def answer_no_route(request: Request, error: Exception) -> Response:
    """Handler for 404 and 405: say which route was asked for."""
    told = from_exception(error)
    if not isinstance(error, ApiError):
        told.detail = f"{request.method} {request.url.path} is not served here; GET /openapi.json lists what is"
    return await answer_error(request, told)


async def answer_invalid_body(request: Request, error: Exception) -> Response:
    """Handler for a body that does not fit its model: the first bad field, named."""
    assert isinstance(error, RequestValidationError)
    param, message = blame(error)
    if param is None and "json" not in request.headers.get("content-type", ""):
        message = "send the body as JSON, with the header Content-Type: application/json"
    return await answer_error(request, ApiError(400, message, param=param))


async def answer_nobody(_request: Request, _error: Exception) -> Response:
    """Handler for a client that hung up: nobody reads the answer."""
    return Response(status_code=HUNG_UP)


def blame(error: RequestValidationError) -> tuple[str | None, str]:
    """The first field that is wrong, and everything that is wrong with it."""
    problems = error.errors()
    first = problems[0]
    if first["type"] == "json_invalid":
        return None, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
    param = _param(first["loc"])
    messages = dict.fromkeys(problem["msg"] for problem in problems if _param(problem["loc"]) == param)
    told = ", or ".join(messages)
    return param, f"{param}: {told}" if param else told


def _param(location: tuple[Any, ...]) -> str | None:
    """`("body", "openai", "prompt", "str")` is about `prompt`: source, protocol, field, and where inside it."""
    fields = [part for part in location[1:] if part not in ("openai", "tabby")]
    return str(fields[0]) if fields else None
