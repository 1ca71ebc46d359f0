"""Several upstreams: who is asked, and what happens when one fails."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from scripted import wait_for
from starsmith.core.errors import ConfigError, EngineError, InputError
from starsmith.inference.backends.balancer import Balancer
from starsmith.inference.backends.circuit import FIRST_WAIT_S
from starsmith.inference.backends.errors import UpstreamError
from starsmith.inference.backends.event_streams import Timeouts
from starsmith.inference.backends.openai import OpenAIBackend, Upstream
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from upstreams import PATIENT, TEXT, Talk, upstream, well
from upstreams import Upstream as Server

pytestmark = pytest.mark.slow

NEVER_S = 3600.0  # between two checks
OFTEN_S = 0.02
WHOLE = "".join(TEXT)


def asked(session: str | None = None) -> CompletionRequest:
    return CompletionRequest(prefix="x", params=SamplingParams(max_tokens=9), session=session)


@contextmanager
def balanced(
    number: int, *, check_every_s: float = NEVER_S, times: Timeouts = PATIENT
) -> Iterator[tuple[Balancer, list[Server]]]:
    with ExitStack() as stack:
        servers = [stack.enter_context(upstream()) for _ in range(number)]
        backends = [OpenAIBackend(Upstream(url=server.url, timeouts=times)) for server in servers]
        balancer = Balancer(backends, check_every_s=check_every_s)
        stack.callback(balancer.close)
        wait_for(lambda: all(server.checked for server in servers))  # each is asked once at once
        yield balancer, servers


def counts(servers: list[Server]) -> list[int]:
    return [len(server.asked) for server in servers]


def fail(talk: Talk) -> None:
    talk.json({"error": "boom"}, 500)


def test_requests_spread_evenly() -> None:
    with balanced(3) as (balancer, servers):
        for _ in range(9):
            assert balancer.complete(asked()).text == WHOLE

        assert counts(servers) == [3, 3, 3]


def test_a_new_request_goes_where_least_is_going_on() -> None:
    with balanced(2) as (balancer, servers):
        servers[0].answer = lambda talk: servers[0].hang(talk.head().say("a"))
        slow = balancer.stream(asked())
        next(slow)

        for _ in range(4):
            balancer.complete(asked())
        busy = [health.outstanding for health in balancer.health()]
        slow.close()

        assert counts(servers) == [1, 4]
        assert busy == [1, 0]
        assert [health.outstanding for health in balancer.health()] == [0, 0]
        assert all(health.healthy for health in balancer.health())  # closing is nobody's fault


def test_before_the_first_text_another_upstream_takes_over() -> None:
    with balanced(2) as (balancer, servers):
        servers[0].answer = fail

        texts = [balancer.complete(asked()).text for _ in range(4)]

        assert texts == [WHOLE] * 4
        assert counts(servers) == [1, 4]  # the first is left alone after its fault
        assert [health.healthy for health in balancer.health()] == [False, True]


def test_one_that_hangs_before_the_first_text_is_given_up() -> None:
    with balanced(2, times=replace(PATIENT, first_token_s=1.0)) as (balancer, servers):
        servers[0].answer = servers[0].hang

        assert balancer.complete(asked()).text == WHOLE

        assert counts(servers) == [1, 1]
        assert servers[0].hung_up.wait(5)


def test_what_is_wrong_with_an_upstream_is_said_again_while_it_is_left_alone() -> None:
    with balanced(1) as (balancer, servers):
        servers[0].answer = lambda talk: talk.json({"error": "suffix is not supported"}, 400)
        infill = replace(asked(), suffix="y")
        for _ in range(2):
            with pytest.raises(EngineError, match="suffix is not supported") as raised:
                balancer.complete(infill)

            assert "#template=starcoder" in raised.value.hint

        assert counts(servers) == [1]


def test_after_the_first_text_the_request_fails_alone() -> None:
    with balanced(2) as (balancer, servers):
        servers[0].answer = lambda talk: talk.head().say("half of ").reset()

        got: list[str] = []
        with pytest.raises(UpstreamError, match=r"broke off|ended before"):
            got += [chunk.text for chunk in balancer.stream(asked())]

        assert counts(servers) == [1, 0]
        assert balancer.complete(asked()).text == WHOLE


def test_a_session_stays_with_its_upstream() -> None:
    with balanced(3) as (balancer, servers):
        for _ in range(5):
            for session in ("a", "b", "c"):
                balancer.complete(asked(session))
            balancer.complete(asked())

        before = counts(servers)
        for _ in range(6):
            balancer.complete(asked("a"))
        assert sorted(new - old for new, old in zip(counts(servers), before, strict=True)) == [0, 0, 6]


def test_a_session_moves_when_its_upstream_fails_and_then_stays_there() -> None:
    with balanced(2) as (balancer, servers):
        balancer.complete(asked("a"))
        home = counts(servers).index(1)
        servers[home].answer = fail

        for _ in range(3):
            assert balancer.complete(asked("a")).text == WHOLE

        assert counts(servers)[home] == 2
        assert counts(servers)[1 - home] == 3


def test_when_all_fail_the_error_has_the_word_of_each() -> None:
    with balanced(2) as (balancer, servers):
        for server in servers:
            server.answer = fail

        with pytest.raises(EngineError, match=r"no upstream could answer: .*answered 500.*; .*answered 500") as raised:
            balancer.complete(asked())
        with pytest.raises(UpstreamError, match=r"no upstream could answer: .*answered 500") as at_once:
            balancer.complete(asked())

        assert raised.value.hint
        assert at_once.value.retry_after_s == pytest.approx(FIRST_WAIT_S, abs=0.4)
        assert counts(servers) == [1, 1]


def test_a_lone_upstreams_error_is_its_own() -> None:
    with balanced(1) as (balancer, servers):
        servers[0].answer = fail

        with pytest.raises(UpstreamError, match=r"^http.* answered 500: 'boom'$"):
            balancer.complete(asked())


def test_a_lone_upstream_is_tried_again_after_a_moment() -> None:
    with balanced(1) as (balancer, servers):
        servers[0].answer = fail
        with pytest.raises(UpstreamError):
            balancer.complete(asked())
        servers[0].answer = well
        with pytest.raises(UpstreamError, match=r"answered 500: 'boom' \(it is tried again in 0\.\d s\)") as raised:
            balancer.complete(asked())

        time.sleep((raised.value.retry_after_s or 0) + 0.05)

        assert balancer.complete(asked()).text == WHOLE
        assert balancer.health()[0].healthy


def test_a_refused_request_is_no_fault_of_its_upstream() -> None:
    with balanced(2) as (balancer, servers):
        servers[0].answer = lambda talk: talk.json({"error": "bad"}, 400)

        with pytest.raises(InputError, match="answered 400"):
            balancer.complete(asked())

        assert counts(servers) == [1, 0]
        assert all(health.healthy for health in balancer.health())


def test_an_overloaded_upstream_is_left_alone_for_as_long_as_it_asks() -> None:
    with balanced(1) as (balancer, servers):
        servers[0].answer = lambda talk: talk.json({"error": "busy"}, 429, Retry_After="40")
        with pytest.raises(UpstreamError):
            balancer.complete(asked())

        with pytest.raises(UpstreamError, match=r"answered 429: 'busy' \(it is tried again in \d\d") as raised:
            balancer.complete(asked())

        assert raised.value.retry_after_s == pytest.approx(40, abs=5)


def test_checks_find_a_fault_before_users_do() -> None:
    with balanced(2, check_every_s=OFTEN_S) as (balancer, servers):
        servers[0].models = fail
        wait_for(lambda: not balancer.health()[0].healthy)

        for _ in range(4):
            balancer.complete(asked())

        assert counts(servers) == [0, 4]


def test_an_upstream_that_recovers_writes_a_token_in_the_background_before_users_are_sent_there() -> None:
    with balanced(2, check_every_s=OFTEN_S) as (balancer, servers):
        servers[0].answer = fail
        balancer.complete(asked())
        wait_for(lambda: len(servers[0].asked) >= 2)  # a trial, which fails: its list of models was fine all the time
        assert not balancer.health()[0].healthy
        servers[0].answer = well

        wait_for(lambda: balancer.health()[0].healthy)

        assert {body["max_tokens"] for body in servers[0].bodies[1:]} == {1}
        assert {body["max_tokens"] for body in servers[1].bodies} == {9}


def test_a_newer_request_of_a_session_ends_the_older_one() -> None:
    with balanced(1) as (balancer, servers):
        servers[0].answer = lambda talk: servers[0].hang(talk.head().say("a"))
        older = balancer.stream(asked("editor"))
        next(older)
        servers[0].answer = well

        newer = balancer.complete(asked("editor"))
        rest = list(older)

        assert newer.text == WHOLE
        assert [chunk.finish_reason for chunk in rest] == ["cancelled"]
        assert servers[0].hung_up.wait(5)
        assert balancer.health()[0].healthy


def test_many_at_once_all_get_their_text_while_one_upstream_fails_now_and_then() -> None:
    with balanced(3, check_every_s=OFTEN_S) as (balancer, servers):
        turn = iter(range(10_000))
        servers[1].answer = lambda talk: fail(talk) if next(turn) % 2 else well(talk)
        texts: list[str] = []
        threads = [
            threading.Thread(target=lambda: texts.extend(balancer.complete(asked()).text for _ in range(10)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert texts == [WHOLE] * 80
        wait_for(lambda: all(health.outstanding == 0 for health in balancer.health()))


def test_no_upstream_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no upstream"):
        Balancer([])
