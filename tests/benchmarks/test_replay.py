"""Typing against a real server on this machine, which is slow on purpose."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typists.replay import replay, together
from typists.servers import Address, OpenAI
from typists.trace import Keystroke

pytestmark = pytest.mark.slow

PIECES, PIECE_S = 5, 0.1


class Slow(BaseHTTPRequestHandler):
    """Half a second for five pieces of text."""

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.asked.append(json.loads(self.rfile.read(size)))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        usage = {"prompt_tokens": 9, "completion_tokens": PIECES, "prompt_tokens_details": {"cached_tokens": 7}}
        try:
            for _ in range(PIECES):
                time.sleep(PIECE_S)
                self._send({"choices": [{"text": "x"}], "usage": None})
            self._send({"choices": [], "usage": usage})
        except OSError:
            self.server.hung_up.set()  # type: ignore[attr-defined]

    def _send(self, event: dict[str, object]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.asked, server.hung_up = [], threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def address_of(server: ThreadingHTTPServer) -> Address:
    return Address(OpenAI(), "127.0.0.1", server.server_address[1])


def key(pause_s: float, *, waits: bool = False) -> Keystroke:
    return Keystroke("type", "x = ", "\ny\n", pause_s, waits)


def test_who_waits_gets_the_whole_completion_and_its_figures(server: ThreadingHTTPServer) -> None:
    (answer,) = replay([key(0.1, waits=True)], address_of(server), user="a", tokens=PIECES)

    assert (answer.whole, answer.waited) == (True, True)
    assert answer.first_s is not None
    assert answer.whole_s is not None
    assert PIECE_S <= answer.first_s < answer.whole_s
    assert answer.whole_s >= PIECES * PIECE_S
    assert answer.told is not None
    assert (answer.told.written, answer.told.prompt, answer.told.recomputed) == (PIECES, 9, 2)
    (asked,) = server.asked  # type: ignore[attr-defined]
    assert (asked["prompt"], asked["suffix"]) == ("x = ", "\ny\n")


def test_the_next_key_closes_the_connection(server: ThreadingHTTPServer) -> None:
    given_up, _ = replay([key(0.3), key(0.3, waits=True)], address_of(server), user="a", tokens=PIECES)

    assert (given_up.whole, given_up.whole_s) == (False, None)
    assert given_up.first_s is not None  # it came within the pause
    assert server.hung_up.wait(5)  # type: ignore[attr-defined]


def test_keys_in_quick_succession_ask_nothing(server: ThreadingHTTPServer) -> None:
    answers = replay([key(0.01)] * 5, address_of(server), user="a", tokens=PIECES)

    assert answers == []
    assert server.asked == []  # type: ignore[attr-defined]


def test_people_type_at_the_same_time(server: ThreadingHTTPServer) -> None:
    began = time.monotonic()

    found = together([[key(0.1, waits=True)]] * 4, address_of(server), tokens=PIECES)

    assert [len(answers) for answers in found] == [1] * 4
    assert time.monotonic() - began < 4 * PIECES * PIECE_S
