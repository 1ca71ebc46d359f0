"""Blocking generation becomes asynchronous items that stop within one step of the client's hanging up.

The only sign by which an editor cancels is closing the connection, and it does so at nearly every keystroke. So each
run has a flag that its thread reads between tokens, and everything that can end a request sets that flag.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from starsmith.serving.errors import ApiError

T = TypeVar("T")
Cancelled = Callable[[], bool]

RETRY_AFTER_S = 1


class Run(Generic[T]):
    """Work in a thread, seen from the event loop as an asynchronous iterator of what it yields."""

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._stopped = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[T | None] = asyncio.Queue()  # None: the thread is done
        self._future: Future[None] | None = None

    def launch(self, pool: ThreadPoolExecutor, work: Callable[[Cancelled], Iterator[T]]) -> Future[None]:
        """Give the work to a thread of the pool."""
        self._future = pool.submit(self._feed, work)
        self._future.add_done_callback(lambda _: self._put(None))
        return self._future

    def stop(self) -> None:
        """End the work at its next step, or before it starts. Safe to call twice and from any thread."""
        self._stopped.set()
        if self._future is not None:
            self._future.cancel()

    def cancelled(self) -> bool:
        """What the work asks between two steps."""
        return self._stopped.is_set() or self._closing.is_set()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the items; raise what the work raised."""
        try:
            while (item := await self._items.get()) is not None:
                yield item
            if self._future is not None:
                await asyncio.wrap_future(self._future)
        finally:
            self.stop()

    def _feed(self, work: Callable[[Cancelled], Iterator[T]]) -> None:
        for item in work(self.cancelled):
            self._put(item)
            if self.cancelled():
                break

    def _put(self, item: T | None) -> None:
        self._loop.call_soon_threadsafe(self._items.put_nowait, item)


class Worker:
    """A few threads and a short queue; who comes when it is full is told to try again.

    parallel     runs at once: an engine computes them together, in batches
    max_waiting  runs in the queue; an answer that comes much later is of no use to an editor
    """

    def __init__(self, *, parallel: int = 1, max_waiting: int = 16) -> None:
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="generate")
        self._room = parallel + max_waiting
        self._inside = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def start(self, work: Callable[[Cancelled], Iterator[T]]) -> Run[T]:
        """Queue the work, or refuse it. Call from the event loop."""
        with self._lock:
            if self._inside >= self._room:
                raise ApiError(
                    503,
                    f"{self._inside} requests are being answered or wait",
                    code="overloaded",
                    headers={"Retry-After": str(RETRY_AFTER_S)},
                )
            self._inside += 1
        run: Run[T] = Run(self._closing)
        run.launch(self._pool, work).add_done_callback(self._leave)
        return run

    def close(self) -> None:
        """Stop what runs, drop what waits, and wait for the threads."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _leave(self, _: Future[None]) -> None:
        with self._lock:
            self._inside -= 1


async def until_hang_up(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is cancelled if the client closes the connection first."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_hang_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


class EventStream(StreamingResponse):
    """Server-sent events whose run is stopped however the response ends, even before its first byte."""

    def __init__(self, events: AsyncIterator[str], run: Run[Any], headers: Mapping[str, str]) -> None:
        unbuffered = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers={**headers, **unbuffered})
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, then stop."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._run.stop()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
