import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from scripted import ENDLESS, ScriptedEngine, make_service, running, wait_for
from starsmith.serving.worker import Worker

pytestmark = pytest.mark.slow


def connect(url: str, body: dict[str, Any]) -> socket.socket:
    """Send a completion request, and leave the connection open."""
    content = json.dumps({"max_tokens": 400, **body}).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    client = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=20)
    client.sendall(head.encode() + content)
    return client


def reply(client: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    with client, client.makefile("rb") as stream:
        return stream.read()


def settled(engine: ScriptedEngine) -> int:
    """The number of decoded tokens once it no longer grows."""
    while True:
        before = engine.decoded
        time.sleep(0.1)
        if engine.decoded == before:
            return before


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x"},
        {"prompt": "x", "stream": True},
        {"prompt": ["x", "y"], "n": 3},
        {"prompt": ["x", "y"], "n": 3, "stream": True},
        {"segments": {"prefix": "x"}},
    ],
)
def test_closing_the_connection_stops_decoding_at_once(body: dict[str, Any]) -> None:
    engine = ScriptedEngine(ENDLESS, delay_s=0.01)

    with running(make_service(engine)) as url:
        client = connect(url, body)
        wait_for(lambda: engine.decoded >= 3)
        client.close()
        at_hang_up = engine.decoded

        assert settled(engine) <= at_hang_up + 3  # the step under way, and what the socket takes to tell


def test_a_request_that_hangs_up_in_the_queue_is_never_begun() -> None:
    engine = ScriptedEngine(ENDLESS, delay_s=0.01)

    with running(make_service(engine)) as url:
        first = connect(url, {"prompt": "first"})
        wait_for(lambda: engine.decoded > 0)
        waiting = [connect(url, {"prompt": "later"}), connect(url, {"prompt": "later", "stream": True})]
        time.sleep(0.1)
        for client in waiting:
            client.close()
        time.sleep(0.1)
        first.close()
        settled(engine)

        assert len(engine.prompts) == 1


def test_a_full_queue_answers_503_and_when_to_come_again() -> None:
    engine = ScriptedEngine(ENDLESS, delay_s=0.01)

    with running(make_service(engine, worker=Worker(max_waiting=1))) as url:
        first, second = connect(url, {"prompt": "1"}), connect(url, {"prompt": "2"})
        time.sleep(0.2)
        head, _, body = reply(connect(url, {"prompt": "3"})).partition(b"\r\n\r\n")
        first.close()
        second.close()

    assert b" 503 " in head
    assert b"retry-after: 1" in head.lower()
    assert json.loads(body)["error"]["code"] == "overloaded"


def test_room_in_the_queue_is_given_back_by_those_who_hang_up() -> None:
    engine = ScriptedEngine("ab" * 40, delay_s=0.002)

    with running(make_service(engine, worker=Worker(max_waiting=0))) as url:
        connect(url, {"prompt": "1"}).close()
        wait_for(lambda: engine.decoded > 0)
        settled(engine)
        answer = reply(connect(url, {"prompt": "2", "max_tokens": 2}))

    assert b" 200 " in answer


def test_stopping_the_server_stops_a_long_answer() -> None:
    engine = ScriptedEngine(ENDLESS, delay_s=0.01)

    with running(make_service(engine)) as url:
        client = connect(url, {"prompt": "x", "stream": True})
        wait_for(lambda: engine.decoded > 0)
    decoded = engine.decoded
    client.close()

    assert settled(engine) == decoded < 400


def test_requests_at_once_all_get_their_answers() -> None:
    engine = ScriptedEngine("ab" * 5, delay_s=0.001)

    with running(make_service(engine)) as url:
        clients = [connect(url, {"prompt": "x" * number}) for number in range(1, 9)]
        answers = [reply(client) for client in clients]

    assert all(b" 200 " in answer and b"ababababab" in answer for answer in answers)
    assert len(engine.prompts) == 8


def test_several_requests_are_with_the_engine_at_once() -> None:
    engine = ScriptedEngine(ENDLESS, delay_s=0.01)

    with running(make_service(engine, worker=Worker(parallel=3, max_waiting=1))) as url:
        clients = [connect(url, {"prompt": str(number)}) for number in range(3)]
        wait_for(lambda: len(engine.prompts) == 3)
        for client in clients:
            client.close()
