"""Every way in which an upstream can fail: a clear error for that request, and nothing else."""

import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import pytest

from starsmith.inference.backends.errors import UpstreamError
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from upstreams import MODEL, PATIENT, TEXT, Talk, backend, free_port, upstream, well
from upstreams import Upstream as Server

pytestmark = pytest.mark.slow  # since some faults show by time only

SHORT_S = 1.0
HASTY = replace(PATIENT, first_token_s=SHORT_S, next_token_s=SHORT_S, check_s=SHORT_S)
INFILL = CompletionRequest(prefix="def fib(n):\n    ", suffix="\n", params=SamplingParams(max_tokens=20))


def chunked(talk: Talk) -> Talk:
    """The head of an answer that says where it ends."""
    return talk.head(Transfer_Encoding="chunked")


Faulty = Callable[[Talk, Server], object]
FAULTS: dict[str, tuple[Faulty, str]] = {
    "says nothing at all": (lambda talk, server: server.hang(talk), r"sent nothing for 1 s"),
    "says nothing after its head": (lambda talk, server: server.hang(talk.head()), r"sent nothing for 1 s"),
    "hangs between two tokens": (lambda talk, server: server.hang(talk.head().say("a")), "for 1 s after 1 events"),
    "closes without an answer": (lambda talk, server: None, "broke off before its first event"),
    "dies without a good-bye": (lambda talk, server: talk.head().say("a").reset(), "broke off after|broke off before"),
    "dies within a chunk": (lambda talk, server: chunked(talk).write(b"40\r\ndata: {"), "broke off before its first"),
    "dies within an event": (lambda talk, server: talk.head().say("a").write(b'data: {"cho'), "ended before the"),
    "ends without a reason": (lambda talk, server: talk.head().say("a").done(), "ended before the completion did"),
    "is a page": (lambda talk, server: talk.head(kind="text/html").write(b"<html>\nHello\n"), "completion: '<html>'"),
    "sends no JSON": (lambda talk, server: talk.head().write(b"data: {oops\n\n"), "no completion: '{oops'"),
    "sends JSON of no use": (lambda talk, server: talk.head().event([1, 2]), "is no completion"),
    "has no choices": (lambda talk, server: talk.head().event({"id": 1}), "is no completion"),
    "has text that is none": (lambda talk, server: talk.head().event({"choices": [{"text": 3}]}), "is no completion"),
    "has no numbers": (lambda talk, server: talk.head().write(b'data: {"choices": [NaN]}\n\n'), "is no completion"),
    "has broken logprobs": (lambda talk, server: talk.head().say("a", logprobs={"tokens": 1}), "is no completion"),
    "sends no UTF-8": (lambda talk, server: talk.head().write(b"data: \xff\xfe\n\n"), "is no completion"),
    "nests too deep": (lambda talk, server: talk.head().write(b"data: " + b"[" * 200_000 + b"\n\n"), "no completion"),
    "never ends a line": (lambda talk, server: talk.head().write(b"data: " + b"x" * 3_000_000), "is no completion"),
    "fails while it writes": (
        lambda talk, server: talk.head().say("a").event({"error": {"message": "out of memory"}}),
        "failed while it wrote: out of memory",
    ),
    "ends for its own reason": (lambda talk, server: talk.head().say("a", "abort"), "completion with 'abort'"),
    "is at fault": (lambda talk, server: talk.json({"error": {"message": "boom"}}, 500), "answered 500: 'boom'"),
    "fails with a long page": (lambda talk, server: talk.head(502).write(b"x" * 300_000), "answered 502: more than"),
    "locks us out": (lambda talk, server: talk.json({"detail": "no key"}, 401), "answered 401: 'no key'"),
    "is elsewhere": (lambda talk, server: talk.head(307, Location="http://b/"), "answered 307"),
    "has no such model": (lambda talk, server: talk.json({"message": "none"}, 404), "answered 404: 'none'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_there_is_an_error_for_one_request_alone_from_an_upstream_that(fault: str) -> None:
    faulty, message = FAULTS[fault]
    silent = "nothing" in fault or "hangs" in fault
    with upstream() as server, backend(server.url, timeouts=HASTY if silent else PATIENT) as engine:
        server.answer = lambda talk: faulty(talk, server)
        with pytest.raises(UpstreamError, match=message) as raised:
            engine.complete(INFILL)
        server.answer = well

        assert engine.complete(INFILL).text == "".join(TEXT)
        assert raised.value.hint


def test_one_that_only_says_that_it_lives_is_not_waited_for() -> None:
    with upstream() as server, backend(server.url, timeouts=HASTY) as engine:

        def lively(talk: Talk) -> None:
            talk.head()
            for _ in range(100):
                talk.write(b": ping\n\n")
                time.sleep(0.03)

        server.answer = lively
        with pytest.raises(UpstreamError, match=r"sent nothing for 1 s"):
            engine.complete(INFILL)


def test_one_that_does_not_keep_to_max_tokens_is_left() -> None:
    with upstream() as server, backend(server.url) as engine:

        def endless(talk: Talk) -> None:
            talk.head()
            while True:
                talk.say("x")

        server.answer = endless
        with pytest.raises(UpstreamError, match="writes on behind the 20 tokens"):
            engine.complete(INFILL)


def test_nobody_there_is_an_error_that_says_where() -> None:
    with (
        backend(f"http://127.0.0.1:{free_port()}/v1", model=MODEL) as engine,
        pytest.raises(UpstreamError, match=r"http://127\.0\.0\.1:\d+/v1 cannot be reached"),
    ):
        engine.complete(INFILL)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("a date", 500, 600), ("soon", None, None)],
)
def test_an_overloaded_upstream_says_when_to_come_again(header: str, least: float | None, most: float | None) -> None:
    told = formatdate(time.time() + 600, usegmt=True) if header == "a date" else header
    with upstream() as server, backend(server.url) as engine:
        server.answer = lambda talk: talk.json({"error": "busy"}, 429, Retry_After=told)
        with pytest.raises(UpstreamError, match="answered 429: 'busy'") as raised:
            engine.complete(INFILL)

    wait_s = raised.value.retry_after_s
    assert wait_s is None if least is None or most is None else wait_s is not None and least <= wait_s <= most


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (lambda talk: talk.json({"error": "down"}, 503), "answered 503"),
        (lambda talk: talk.json({"data": 3}), "is no completion"),
        (lambda talk: talk.head(kind="text/html").write(b"<html>"), "is no completion"),
        (lambda talk: talk.until_hung_up(), "did not answer within 1 s"),
    ],
)
def test_a_check_finds_a_fault(models: Callable[[Talk], object], message: str) -> None:
    with upstream() as server, backend(server.url, model=MODEL, timeouts=HASTY) as engine:
        server.models = models
        with pytest.raises(UpstreamError, match=message):
            engine.check()
