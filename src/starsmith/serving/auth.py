"""The door: who may ask (a token), from where (the host name), and how much at once (the size of a body).

A server without a token answers only under names of this machine. Otherwise a web page could point a name of its own
at 127.0.0.1 (DNS rebinding) and read completions, and with them code, through a visitor's browser.
"""

from collections.abc import MutableMapping
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starsmith.serving.errors import ApiError, answer_error

MAX_BODY_BYTES = 4 * 2**20
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# Pages may load and ask this server only, run no inline code, and not be framed.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def hosts_of(bound_to: str, *, locked: bool) -> frozenset[str] | None:
    """The names to answer under: those of this machine when only it can connect and no token is asked for."""
    return LOOPBACK if not locked and bound_to in LOOPBACK else None


async def require_token(request: Request) -> None:
    """Refuse a request without a token of the server's; the client it belongs to is `request.state.client`."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    token = given.encode("latin-1").decode("utf-8", "replace") if scheme.lower() == "bearer" else ""
    client = request.app.state.service.client_of(token)
    if client is None:
        raise ApiError(
            401,
            "this server wants a token: Authorization: Bearer TOKEN",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    request.state.client = client


class Door:
    """ASGI middleware that every request passes first, and every response last."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts  # names to answer under; None: any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the host name and the size, and add the security headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            await send(_with_headers(message))

        if (refusal := self._refusal(scope)) is not None:
            response = await answer_error(Request(scope), refusal)
            await response(scope, receive, guarded_send)
            return
        await self._app(scope, _bounded(receive), guarded_send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        host = Request(scope).url.hostname or ""
        if self._hosts is not None and host not in self._hosts:
            return ApiError(
                403, f"without a token this server answers to {', '.join(sorted(self._hosts))}, not {host!r}"
            )
        length = Headers(scope=scope).get("content-length", "0")
        return _too_large() if length.isdigit() and int(length) > MAX_BODY_BYTES else None


def _bounded(receive: Receive) -> Receive:
    """The same messages, until their bodies exceed the bound: a chunked body does not announce its length."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise _too_large()
        return message

    return bounded


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MAX_BODY_BYTES} bytes", code="body_too_large")


def _with_headers(message: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if message["type"] != "http.response.start":
        return message
    added = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
    return {**message, "headers": [*message.get("headers", []), *added]}
