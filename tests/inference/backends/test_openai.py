"""An OpenAI-compatible upstream: what is asked, and what becomes of the answer."""

import threading
import time
from typing import Any

import pytest

from scripted import FIB, make_service, running
from starsmith.core.errors import ConfigError, EngineError, InputError
from starsmith.inference.backends.errors import UpstreamError
from starsmith.inference.backends.openai import OpenAIBackend, Upstream
from starsmith.inference.backends.templates import TEMPLATES
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.inference.text_engine import TextToken, Usage
from starsmith.inference.trimming import Manners
from upstreams import MODEL, TEXT, Talk, backend, free_port, upstream, well

pytestmark = pytest.mark.slow

INFILL = CompletionRequest(prefix="def fib(n):\n    ", suffix="\n", params=SamplingParams(max_tokens=20))


def request(prefix: str = "x", *, max_tokens: int = 20, **fields: Any) -> CompletionRequest:
    params = SamplingParams(max_tokens=max_tokens, **fields.pop("params", {}))
    return CompletionRequest(prefix=prefix, params=params, **fields)


def test_text_comes_in_the_pieces_in_which_it_is_sent() -> None:
    with upstream() as server, backend(server.url) as engine:
        chunks = list(engine.stream(INFILL))

    assert [chunk.text for chunk in chunks] == [*TEXT[:-1], TEXT[-1]]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, "stop"]


def test_a_server_is_asked_by_the_name_of_its_model_with_what_it_knows_only() -> None:
    with upstream() as server, backend(server.url) as engine:
        engine.complete(INFILL)

    assert server.bodies == [
        {
            "model": MODEL, "prompt": INFILL.prefix, "suffix": "\n", "max_tokens": 20, "temperature": 0.0, "top_p": 1.0,
            "stop": [], "stream": True, "stream_options": {"include_usage": True},
        }
    ]  # fmt: skip


def test_what_is_asked_for_beside_that_goes_along() -> None:
    wanted = request(
        params={"top_k": 5, "seed": 7, "top_logprobs": 2, "temperature": 0.5}, stop=("a", "b", "c", "d", "e")
    )

    with upstream() as server, backend(server.url) as engine:
        engine.complete(wanted)

    (body,) = server.bodies
    assert (body["top_k"], body["seed"], body["logprobs"], body["temperature"]) == (5, 7, 2, 0.5)
    assert body["stop"] == ["a", "b", "c", "d"]  # OpenAI takes four


def test_an_infill_is_rendered_for_a_server_whose_family_is_known() -> None:
    with upstream() as server, backend(server.url, template=TEMPLATES["qwen"]) as engine:
        engine.complete(INFILL)

    assert server.bodies[0]["prompt"] == "<|fim_prefix|>def fib(n):\n    <|fim_suffix|>\n<|fim_middle|>"
    assert "suffix" not in server.bodies[0]


def test_a_control_token_that_the_server_lets_through_ends_the_text() -> None:
    def leak(talk: Talk) -> None:
        talk.head().say("one<|fim_").say("pad|>two", "length").done()

    with upstream(leak) as server, backend(server.url, template=TEMPLATES["qwen"]) as engine:
        done = engine.complete(INFILL)

    assert (done.text, done.finish_reason) == ("one", "stop")


def test_a_stop_string_across_events_is_never_shown_and_ends_the_request() -> None:
    with upstream() as server, backend(server.url) as engine:

        def talkative(talk: Talk) -> None:
            talk.head().say("one\n").say("\ntwo")
            server.hang(talk)

        server.answer = talkative
        chunks = list(engine.stream(request(stop=("\n\n",))))
        gone = server.hung_up.wait(5)

    assert [(chunk.text, chunk.finish_reason) for chunk in chunks] == [("one", None), ("", "stop")]
    assert gone


def test_the_manners_of_an_editor_are_kept() -> None:
    def talkative(talk: Talk) -> None:
        talk.head().say("return 1\n").say("\ndef other():\n").say("    pass\n", "stop").done()

    with upstream(talkative) as server, backend(server.url) as engine:
        plain = engine.complete(INFILL)
        trimmed = engine.complete(
            CompletionRequest(prefix=INFILL.prefix, suffix="", params=INFILL.params, manners=Manners.of_editor())
        )

    assert "other" in plain.text
    assert "return 1" in trimmed.text
    assert "other" not in trimmed.text
    assert trimmed.finish_reason == "stop"


def test_text_that_no_utf_8_could_carry_is_replaced() -> None:
    def odd(talk: Talk) -> None:
        talk.head().write(b'data: {"choices": [{"text": "a\\ud800b", "finish_reason": "stop"}]}\n\n').done()

    with upstream(odd) as server, backend(server.url) as engine:
        assert engine.complete(INFILL).text == "a\ufffdb"


def test_log_probabilities_and_the_count_of_tokens_are_passed_on() -> None:
    def precise(talk: Talk) -> None:
        table = {
            "tokens": ["re", "turn"],
            "token_logprobs": [-0.5, None],
            "top_logprobs": [{"re": -0.5, "x": -2}, None],
        }
        talk.head().say("return", "length", logprobs=table, token_ids=[7, 8])
        counted = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
        talk.event({"choices": [], "usage": counted}).done()

    with upstream(precise) as server, backend(server.url) as engine:
        done = engine.complete(request(params={"top_logprobs": 2}))

    assert done.text_tokens == (TextToken("re", 7, -0.5, (("re", -0.5), ("x", -2.0))), TextToken("turn", 8))
    assert [token.id for token in done.tokens] == [7, 8]
    assert done.usage == Usage(prompt_tokens=9, completion_tokens=2, cached_tokens=4)
    assert (done.prompt_tokens, done.completion_tokens, done.finish_reason) == (9, 2, "length")


def test_a_server_that_does_not_stream_is_read_all_the_same() -> None:
    def at_once(talk: Talk) -> None:
        talk.json({"choices": [{"text": "all of it", "finish_reason": "stop"}]})

    with upstream(at_once) as server, backend(server.url) as engine:
        assert engine.complete(INFILL).text == "all of it"


def test_after_the_end_nobody_waits_long_for_the_count() -> None:
    with upstream() as server, backend(server.url) as engine:
        server.answer = lambda talk: server.hang(talk.head().say("whole", "stop"))
        begun = time.monotonic()

        done = engine.complete(INFILL)

    assert (done.text, done.finish_reason, done.usage) == ("whole", "stop", None)
    assert time.monotonic() - begun < 10  # and not next_token_s, 20 s


def test_no_tokens_are_asked_of_nobody() -> None:
    with upstream() as server, backend(server.url) as engine:
        done = engine.complete(request(max_tokens=0))

    assert (done.text, done.finish_reason, server.asked) == ("", "length", [])


def test_a_cancelled_request_closes_its_connection_while_the_server_is_silent() -> None:
    with upstream() as server, backend(server.url) as engine:
        server.answer = lambda talk: server.hang(talk.head().say("one"))
        typed_on = threading.Event()
        chunks = engine.stream(INFILL, typed_on.is_set)
        next(chunks)

        typed_on.set()
        rest = list(chunks)
        gone = server.hung_up.wait(5)

    assert [(chunk.text, chunk.finish_reason) for chunk in rest] == [("", "cancelled")]
    assert gone


def test_closing_the_iterator_closes_the_connection() -> None:
    with upstream() as server, backend(server.url) as engine:
        server.answer = lambda talk: server.hang(talk.head().say("one"))
        chunks = engine.stream(INFILL)
        next(chunks)

        chunks.close()

        assert server.hung_up.wait(5)


def test_a_request_that_is_refused_for_what_is_in_it_is_the_requests_fault() -> None:
    with upstream() as server, backend(server.url) as engine:
        server.answer = lambda talk: talk.json({"error": {"message": "top_p is wrong"}}, 400)
        with pytest.raises(InputError, match="answered 400: 'top_p is wrong'"):
            engine.complete(INFILL)


def test_a_server_that_takes_no_suffix_needs_to_be_told_its_family() -> None:
    with upstream() as server, backend(server.url) as engine:
        server.answer = lambda talk: talk.json({"error": {"message": "suffix is not currently supported"}}, 400)
        with pytest.raises(EngineError, match="suffix is not currently supported") as raised:
            engine.complete(INFILL)

    assert "#template=starcoder" in raised.value.hint


def test_a_prompt_that_is_too_long_loses_its_outer_ends_until_it_fits() -> None:
    def small(talk: Talk) -> None:
        if len(talk.body["prompt"]) > 600:
            talk.json({"error": {"message": "This model's maximum context length is 100 tokens"}}, 400)
        else:
            well(talk)

    before, after = "b" * 3000 + "BEFORE", "AFTER" + "a" * 3000
    long = CompletionRequest(prefix=before, suffix=after, params=SamplingParams(max_tokens=10))
    with upstream(small) as server, backend(server.url, template=TEMPLATES["starcoder"], context_tokens=300) as engine:
        done = engine.complete(long)

    assert done.text == "".join(TEXT)
    assert len(server.bodies) > 1
    assert "BEFORE<fim_suffix>AFTER" in server.bodies[-1]["prompt"]
    assert server.bodies[-1]["prompt"].startswith("<fim_prefix>b")
    assert server.bodies[-1]["prompt"].endswith("a<fim_middle>")


def test_a_prompt_with_somebody_elses_control_tokens_is_not_cut() -> None:
    with upstream() as server, backend(server.url) as engine:
        server.answer = lambda talk: talk.json({"error": {"message": "maximum context length"}}, 400)
        with pytest.raises(InputError, match="maximum context length"):
            engine.complete(request("<fim_prefix>" + "x" * 999, special_tokens=True))

    assert {len(body["prompt"]) for body in server.bodies} == {len("<fim_prefix>") + 999}


def test_ids_are_passed_on_and_cannot_be_infilled() -> None:
    ids = CompletionRequest(prefix=[5, 6], params=SamplingParams(max_tokens=5))
    with upstream() as server, backend(server.url) as engine:
        engine.complete(ids)
        with pytest.raises(InputError, match="no tokenizer"):
            engine.complete(CompletionRequest(prefix=[5, 6], suffix="x", params=ids.params))

    assert server.bodies[0]["prompt"] == [5, 6]


def test_the_key_comes_from_the_environment_and_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_KEY", "s3cret-key")
    with upstream() as server, backend(server.url, key_variable="GPU_KEY") as engine:
        engine.complete(INFILL)
        server.answer = lambda talk: talk.json({"error": "no"}, 403)
        with pytest.raises(UpstreamError) as raised:
            engine.complete(INFILL)

    assert server.asked[0].headers["Authorization"] == "Bearer s3cret-key"
    assert "s3cret" not in raised.value.message + raised.value.hint + repr(engine)


@pytest.mark.parametrize(("value", "message"), [("", "GPU_KEY is empty"), ("a\nb", "GPU_KEY holds no key")])
def test_a_key_that_is_none_is_refused(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_KEY", value)

    with pytest.raises(ConfigError, match=message):
        OpenAIBackend(Upstream(url="http://127.0.0.1:1/v1", key_variable="GPU_KEY"))


def test_another_starsmith_is_an_upstream() -> None:
    with running(make_service()) as url, backend(f"{url}/v1") as engine:
        engine.check()
        plain = engine.complete(request("def fib(n):\n    ", max_tokens=40))
        filled = engine.complete(request("def fib(n):\n    ", max_tokens=40, suffix="\n"))
        precise = engine.complete(request("x", max_tokens=3, params={"top_logprobs": 1}))

    assert (plain.text, plain.finish_reason) == (FIB, "stop")
    assert filled.text == FIB
    assert plain.usage is not None
    assert plain.usage.completion_tokens > 0
    assert [token.logprob for token in precise.text_tokens] == [-0.5] * 3


def test_without_a_key_none_is_sent() -> None:
    with upstream() as server, backend(server.url) as engine:
        engine.complete(INFILL)

    assert "Authorization" not in server.asked[0].headers


def test_a_server_with_several_models_wants_a_name() -> None:
    with upstream() as server:
        server.models = lambda talk: talk.json({"data": [{"id": "one"}, {"id": "two"}]})
        with backend(server.url) as engine, pytest.raises(EngineError, match="has 2 models") as raised:
            engine.complete(INFILL)
        with backend(server.url, model="two") as engine:
            engine.complete(INFILL)

    assert "one, two" in raised.value.hint
    assert [body["model"] for body in server.bodies] == ["two"]


def test_a_check_learns_the_model_anew() -> None:
    with upstream() as server, backend(server.url) as engine:
        engine.complete(INFILL)
        server.models = lambda talk: talk.json({"data": [{"id": "newer", "max_model_len": 100}]})

        engine.check()
        engine.complete(INFILL)

    assert [body["model"] for body in server.bodies] == [MODEL, "newer"]


def test_a_server_that_keeps_no_list_of_models_is_there_all_the_same() -> None:
    with upstream() as server, backend(server.url, model=MODEL) as engine:
        server.models = lambda talk: talk.json({}, 404)

        engine.check()


@pytest.mark.parametrize("url", ["http://[oops", "http://", "ftp://host/v1", "http://a b/v1", "http://h:99999/v1"])
def test_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        OpenAIBackend(Upstream(url=url))


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="has a user or a query in it") as raised:
        OpenAIBackend(Upstream(url="http://me:s3cret@host/v1"))

    assert "s3cret" not in raised.value.message + raised.value.hint


def test_a_proxy_of_the_environment_is_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with upstream() as server, backend(server.url) as engine:
        assert engine.complete(INFILL).text == "".join(TEXT)
