"""Servers that speak OpenAI's completions well, badly or not at all: real sockets on this machine."""

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from starsmith.inference.backends.event_streams import Timeouts
from starsmith.inference.backends.openai import OpenAIBackend
from starsmith.inference.backends.openai import Upstream as BackendSettings

MODEL = "tiny"
PATIENT = Timeouts(connect_s=10.0, first_token_s=20.0, next_token_s=20.0, check_s=20.0)
TEXT = ("return ", "fib(n", " - 1)")


class Talk:
    """One request, and what to answer it with, byte by byte."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.body = body
        self.path = handler.path
        self.headers = dict(handler.headers.items())
        self._handler = handler

    def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> "Talk":
        lines = [f"HTTP/1.1 {status} whatever", f"Content-Type: {kind}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return self.write("\r\n".join([*lines, "", ""]).encode())

    def write(self, content: bytes) -> "Talk":
        self._handler.wfile.write(content)
        self._handler.wfile.flush()
        return self

    def event(self, value: Any) -> "Talk":
        return self.write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def say(self, text: str, finish: str | None = None, **fields: Any) -> "Talk":
        return self.event({"choices": [{"index": 0, "text": text, "finish_reason": finish, **fields}]})

    def done(self) -> "Talk":
        return self.write(b"data: [DONE]\n\n")

    def json(self, value: Any, status: int = 200, **headers: str) -> "Talk":
        return self.head(status, "application/json", **headers).write(json.dumps(value).encode())

    def until_hung_up(self) -> None:
        """Wait for the client to close its side."""
        with suppress(ConnectionError):
            while self._handler.connection.recv(1024):
                pass

    def reset(self) -> None:
        """Die without a good-bye."""
        connection = self._handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())


Answer = Callable[[Talk], object]


def well(talk: Talk) -> None:
    """What a good server does."""
    talk.head()
    for number, text in enumerate(TEXT):
        talk.say(text, "stop" if number == len(TEXT) - 1 else None)
    talk.done()


class Upstream:
    """A server whose answers can be changed while it runs."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        self.asked: list[Talk] = []  # completions, in order
        self.checked = 0  # times that somebody asked for its models
        self.answer: Answer = well
        self.models: Answer = lambda talk: talk.json({"data": [{"id": MODEL}]})
        self.hung_up = threading.Event()  # a client was waited for and has gone

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [talk.body for talk in self.asked]

    def hang(self, talk: Talk) -> None:
        """Say no more, until the client gives up."""
        talk.until_hung_up()
        self.hung_up.set()

    def handle(self, talk: Talk) -> None:
        if talk.path.endswith("/models"):
            self.checked += 1
            self.models(talk)
        else:
            self.asked.append(talk)
            self.answer(talk)


@contextmanager
def upstream(answer: Answer = well) -> Iterator[Upstream]:
    """A server on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._talk({})

        def do_POST(self) -> None:
            self._talk(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: object) -> None:
            pass

        def _talk(self, body: dict[str, Any]) -> None:
            self.close_connection = True
            with suppress(ConnectionError):
                running.handle(Talk(self, body))

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        running = Upstream(server)
        running.answer = answer
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def backend(url: str, **fields: Any) -> Iterator[OpenAIBackend]:
    """Our side, which waits a while on a busy machine and not for ever."""
    opened = OpenAIBackend(BackendSettings(**{"url": url, "timeouts": PATIENT, **fields}))
    try:
        yield opened
    finally:
        opened.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
