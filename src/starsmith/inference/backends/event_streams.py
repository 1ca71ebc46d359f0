"""Requests to a server of ours or others, as plain iterators over the events that it sends.

Reading must stop the moment somebody types on, and no server can be trusted to send anything, so the sockets live in
an event loop in a thread of their own: there a request is cancelled, and its connection closed, wherever it stands.
What comes in is bounded: the size of an event, of an error's text, and the time until each of them.
"""

import asyncio
import email.utils
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx2

from starsmith.core.errors import ConfigError, InputError
from starsmith.inference.backends.errors import UpstreamError
from starsmith.inference.engine import never

T = TypeVar("T")

POLL_S = 0.02  # how often a request without news looks whether it was cancelled
# Below the five seconds after which uvicorn, and so vLLM, closes an idle connection: else it may close while we write.
KEEP_ALIVE_S = 4.0
MOST_EVENT_BYTES = 1_000_000
MOST_ANSWER_BYTES = 8_000_000  # of an answer in one piece
MOST_ERROR_BYTES = 65_536
SHOWN_CHARACTERS = 200  # of what an upstream said, in an error
REFUSED = (400, 413, 422)  # statuses that blame the request
LOCKED = (401, 403)
MISSING = (404, 405, 501)
ADDRESS = "give http://HOST:PORT/v1 or https://HOST/v1"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
FIELDS = ("data", "event", "id", "retry", "")  # of server-sent events; "" is a comment


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long to wait for an upstream."""

    connect_s: float = 5.0
    first_token_s: float = 60.0  # queue and prompt included
    next_token_s: float = 30.0  # between two tokens
    check_s: float = 3.0  # for the answer to "are you there?"

    def __post_init__(self) -> None:
        if min(self.connect_s, self.first_token_s, self.next_token_s, self.check_s) <= 0:
            raise ConfigError(f"{self}: every time must be above 0", hint="give seconds")


class EventClient:
    """Asks one server."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts,
    ) -> None:
        self.name = name  # of the server in errors
        self._url = url.rstrip("/")
        self.timeouts = timeouts
        # httpx2 times reading by bytes, of which a hung server may well send some; `_ask` times events.
        waits = httpx2.Timeout(None, connect=timeouts.connect_s)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=KEEP_ALIVE_S)
        headers = {"Accept-Encoding": "identity", "User-Agent": "starsmith", **(headers or {})}
        near = _host_of(self._url) in LOOPBACK
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=waits,
            limits=limits,
            trust_env=not near,  # proxies are for what is not on this machine
            verify=not near or self._url.startswith("https:"),  # reading certificates that nobody needs takes 60 ms
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"ask {name}", daemon=True)
        self._thread.start()

    def events(self, path: str, body: Mapping[str, Any], cancelled: Callable[[], bool] = never) -> Generator[str]:
        """POST, and the data of each event of the answer until its end or `cancelled()`."""
        items: SimpleQueue[str | None] = SimpleQueue()  # None: no more
        future = self._run(self._ask(path, json.dumps(body).encode(), items.put))
        future.add_done_callback(lambda _: items.put(None))
        try:
            while not cancelled():
                try:
                    item = items.get(timeout=POLL_S)
                except Empty:
                    continue
                if item is None:
                    self._outcome(future)
                    return
                yield item
        finally:
            future.cancel()  # which closes the connection, and does nothing where all is read

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One question and its JSON answer, within `check_s`."""
        content = None if body is None else json.dumps(body).encode()
        return parse_json(self._outcome(self._run(self._call(method, path, content))), self.name)

    def close(self) -> None:
        """Close every connection, which ends what is being read."""
        if not self._thread.is_alive():
            return
        self._run(self._finish()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _outcome(self, future: Future[T]) -> T:
        """What the work returned; raises what it raised."""
        try:
            return future.result()
        except CancelledError:
            raise UpstreamError(f"the connection to {self.name} was closed here", hint="open it again") from None

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()
        await asyncio.sleep(0)  # a transport is closed in the loop's next round

    async def _ask(self, path: str, content: bytes, put: Callable[[str], None]) -> None:
        waits, begun = self.timeouts, 0
        try:
            async with asyncio.timeout(waits.first_token_s) as limit, self._open("POST", path, content) as response:
                async for data in _data_of(response, self.name):
                    begun += 1
                    put(data)
                    limit.reschedule(asyncio.get_running_loop().time() + waits.next_token_s)
        except TimeoutError:
            waited = f"{waits.next_token_s:g} s after {begun} events" if begun else f"{waits.first_token_s:g} s"
            raise UpstreamError(f"{self.name} sent nothing for {waited}", hint="see whether it hangs") from None
        except httpx2.HTTPError as error:
            self._explain(error, begun)

    async def _call(self, method: str, path: str, content: bytes | None) -> bytes:
        try:
            async with asyncio.timeout(self.timeouts.check_s), self._open(method, path, content) as response:
                await _check(response, self.name)
                return await _read(response, self.name, MOST_ANSWER_BYTES)
        except TimeoutError:
            waited = f"{self.timeouts.check_s:g} s"
            raise UpstreamError(
                f"{self.name}{path} did not answer within {waited}", hint="see whether it hangs"
            ) from None
        except httpx2.HTTPError as error:
            self._explain(error, 0)

    def _open(self, method: str, path: str, content: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"} if content is not None else None
        return self._client.stream(method, self._url + path, content=content, headers=headers)

    def _explain(self, error: httpx2.HTTPError, begun: int) -> NoReturn:
        about = str(error) or type(error).__name__
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            raise UpstreamError(f"{self.name} cannot be reached: {about}", hint="see whether it runs") from None
        when = f"after {begun} events" if begun else "before its first event"
        raise UpstreamError(f"{self.name} broke off {when}: {about}", hint="see its log") from None


def _host_of(url: str) -> str:
    """The host in an address, which is checked."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{url} is no address: {error}", hint=ADDRESS) from None
    if parts.scheme.lower() not in ("http", "https") or not re.fullmatch(r"[\w.:%-]+", host):
        raise ConfigError(f"{url} is no address: it names no host", hint=ADDRESS)
    if parts.username is not None or parts.query:
        raise ConfigError(f"the address of {host} has a user or a query in it", hint="keys go through the environment")
    return host


def parse_json(text: str | bytes, name: str) -> Any:
    """The value of a JSON text that a server sent; NaN and Infinity, which Python would take, are none."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise nonsense(name, text) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def nonsense(name: str, seen: object) -> UpstreamError:
    """The error for what is not the protocol."""
    return UpstreamError(
        f"{name} sent what is no completion: {_shown(seen)}", hint="see whether it speaks OpenAI's API"
    )


def _shown(seen: object) -> str:
    text = seen.decode("utf-8", errors="replace") if isinstance(seen, bytes) else str(seen)
    return repr(text[:SHOWN_CHARACTERS] + ("…" if len(text) > SHOWN_CHARACTERS else ""))


async def _check(response: httpx2.Response, name: str) -> None:
    """Raise for a status that is not success, telling whose fault it is."""
    status = response.status_code
    if status == 200:
        return
    try:
        said = _message_in(await _read(response, name, MOST_ERROR_BYTES))
    except UpstreamError:
        said = "more than can be read"
    told = f"{name} answered {status}: {said}"
    if status in REFUSED:
        raise InputError(told, hint="change what the upstream refuses in the request")
    wait_s = _retry_after(response.headers.get("retry-after"))
    raise UpstreamError(told, hint=_advice(response), status=status, retry_after_s=wait_s)


def _advice(response: httpx2.Response) -> str:
    """What to do about a status."""
    status = response.status_code
    if status in LOCKED:
        return "put its key into an environment variable, and name that"
    if status in MISSING:
        return "see whether the address ends as it should, and whether the model is served there"
    if 300 <= status < 400:
        return f"give the address it points to: {response.headers.get('location', 'none')[:SHOWN_CHARACTERS]}"
    return "try again later; see its log"


def _message_in(body: bytes) -> str:
    """What an error's body says: OpenAI's message, or the beginning of whatever it is."""
    try:
        value = json.loads(body)
        error = value.get("error", value) if isinstance(value, dict) else value
        message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
    except (ValueError, RecursionError):
        message = None
    return _shown(message if isinstance(message, str) else body)


def _retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


async def _read(response: httpx2.Response, name: str, most: int) -> bytes:
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > most:
            raise UpstreamError(f"{name} answered with more than {most:,} bytes", hint="see whether it is the server")
    return body


async def _data_of(response: httpx2.Response, name: str) -> AsyncIterator[str]:
    """The data of server-sent events, each whole; a server that does not stream has one."""
    await _check(response, name)
    if response.headers.get("content-type", "").startswith("application/json"):
        yield _text(await _read(response, name, MOST_ANSWER_BYTES), name)
        return
    held: list[str] = []
    async for line in _lines(response, name):
        field, _, value = line.partition(":")
        if line and field not in FIELDS and field != "error":
            raise nonsense(name, line)
        if field == "error":  # llama.cpp's own
            raise UpstreamError(f"{name} failed while it wrote: {_message_in(value.encode())}", hint="see its log")
        if field == "data":
            held.append(value.removeprefix(" "))
        elif not line and held:
            yield "\n".join(held)
            held = []


async def _lines(response: httpx2.Response, name: str) -> AsyncIterator[str]:
    """Whole lines; what a server that died left of one is dropped."""
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield _text(line.removesuffix(b"\r"), name)
        if len(rest) > MOST_EVENT_BYTES:
            raise nonsense(name, rest)


def _text(line: bytes, name: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise nonsense(name, line) from None
