"""Keystrokes become requests: sent when the person pauses, given up when the next key comes first.

An editor gives a request up by closing the connection, and asks anew. Where the person waits the request runs to its
end, whatever comes: only these are measured, or the slow ones, given up before their end, would not count.
"""

import http.client
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from typists.servers import Address, Told
from typists.trace import Keystroke

DEBOUNCE_S = 0.075
AFTER_LINES = 40  # llama-server's `/infill` reads at most 510 tokens behind the cursor
READING_S = 0.3  # after a suggestion that the person waited for
LONGEST_S = 300.0


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    waited: bool
    whole: bool  # it ran to its end
    first_s: float | None = None  # until the first text
    whole_s: float | None = None
    told: Told | None = None  # of the last event


def replay(keystrokes: Sequence[Keystroke], address: Address, *, user: str, tokens: int) -> list[Answer]:
    """Type in real time; one answer for each request."""
    answers: list[Answer] = []
    due = time.monotonic()
    for keystroke in keystrokes:
        due += keystroke.pause_s
        if not keystroke.waits and keystroke.pause_s <= DEBOUNCE_S:
            _sleep_until(due)
            continue
        time.sleep(DEBOUNCE_S)
        answers.append(ask(keystroke, address, user=user, tokens=tokens, until=None if keystroke.waits else due))
        if keystroke.waits:
            due = max(due, time.monotonic() + READING_S)
        _sleep_until(due)
        due = max(due, time.monotonic())
    return answers


def together(
    traces: Sequence[Sequence[Keystroke]], address: Address, *, tokens: int, opening_s: float = 0.0
) -> list[list[Answer]]:
    """As many people as traces, at the same time; one begins `opening_s` after the other."""

    def type_one(number: int) -> list[Answer]:
        time.sleep(number * opening_s)
        return replay(traces[number], address, user=f"typist-{number}", tokens=tokens)

    with ThreadPoolExecutor(len(traces)) as typists:
        return list(typists.map(type_one, range(len(traces))))


def warm_up(address: Address) -> None:
    """The first request of a process is slower than all others."""
    ask(Keystroke("type", "def warm():\n", "\n", 0, True), address, user="nobody", tokens=2, until=None)


def ask(keystroke: Keystroke, address: Address, *, user: str, tokens: int, until: float | None) -> Answer:
    """One request, given up at the time `until`."""
    began = time.monotonic()
    end = until if until is not None else began + LONGEST_S
    after = "".join(keystroke.after.splitlines(keepends=True)[:AFTER_LINES])
    body = address.manners.body(keystroke.before, after, user, tokens)
    first: float | None = None
    told: Told | None = None
    connection = http.client.HTTPConnection(address.host, address.port, timeout=max(end - began, 1e-3))
    try:
        for event in _events(connection, address.manners.path, body, end):
            told = address.manners.told(event)
            if told.text and first is None:
                first = time.monotonic() - began
    except TimeoutError:
        if keystroke.waits:
            raise SystemExit(f"{address.manners.name}: no end within {LONGEST_S:.0f} s") from None
        return Answer(keystroke.waits, False, first)
    finally:
        connection.close()
    return Answer(keystroke.waits, True, first, time.monotonic() - began, told)


def _events(
    connection: http.client.HTTPConnection, path: str, body: dict[str, object], end: float
) -> Iterator[dict[str, object]]:
    """The JSON of each server-sent event; TimeoutError at `end`, which stands on the monotonic clock."""
    connection.connect()
    socket = connection.sock
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    socket.settimeout(max(end - time.monotonic(), 1e-3))
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise SystemExit(f"{path}: status {response.status}: {response.read(2000)!r}")
    while line := response.readline():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])
        socket.settimeout(max(end - time.monotonic(), 1e-3))


def _sleep_until(due: float) -> None:
    time.sleep(max(due - time.monotonic(), 0))
