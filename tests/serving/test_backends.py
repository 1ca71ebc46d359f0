"""A service whose model is a server elsewhere: text goes in and comes back, and whatever is not told is not made up."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient

from indexed import LONG, numbers_index
from scripted import FIB, running, wait_for
from starsmith.serving.app import create_app
from starsmith.serving.attribution import Policy
from starsmith.serving.cards import foreign_model_id, server_model_id
from starsmith.serving.opening import open_backend_service
from starsmith.serving.service import Service
from upstreams import TEXT, Talk, Upstream, upstream, well

pytestmark = pytest.mark.slow

WHOLE = "".join(TEXT)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}


def counted(talk: Talk) -> None:
    """A good server that counts."""
    talk.head()
    for number, text in enumerate(TEXT):
        talk.say(text, "stop" if number == len(TEXT) - 1 else None)
    talk.event({"choices": [], "usage": USAGE})
    talk.done()


def scored(talk: Talk) -> None:
    """A good server that tells its tokens."""
    talk.head()
    for number, text in enumerate(TEXT):
        tables = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{text: -0.5, "other": -2.0}]}
        talk.say(text, "stop" if number == len(TEXT) - 1 else None, logprobs=tables)
    talk.done()


def refuse(talk: Talk) -> None:
    talk.json({"error": {"message": "prompt is not to my taste"}}, 400)


def busy(talk: Talk) -> None:
    talk.json({"error": "too many"}, 503, Retry_After="7")


def writes(text: str) -> Any:
    """A server that writes a text token by token."""

    def answer(talk: Talk) -> None:
        talk.head()
        with suppress(OSError):  # the client may have had enough
            for start in range(0, len(text), 4):
                talk.say(text[start : start + 4])
            talk.say("", "stop").done()

    return answer


@contextmanager
def served(*answers: Any, settings: str = "", **fields: Any) -> Iterator[tuple[TestClient, list[Upstream], Service]]:
    """A client of a service before servers that answer so."""
    stack = [upstream(answer) for answer in answers]
    servers = [one.__enter__() for one in stack]
    try:
        service = open_backend_service([server.url + settings for server in servers], **fields)
        with TestClient(create_app(service), raise_server_exceptions=False) as client:
            wait_for(lambda: all(server.checked for server in servers))
            yield client, servers, service
    finally:
        for one in reversed(stack):
            one.__exit__(None, None, None)


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/completions", json={"max_tokens": 64, **body})


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# what goes in and comes back


def test_an_answer_has_the_text_and_the_count_of_the_upstream() -> None:
    with served(counted) as (client, servers, _):
        answer = ask(client, prompt="def fib(n):\n    ", suffix="\n", temperature=0).json()

    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (WHOLE, "stop")
    assert answer["usage"] == {**USAGE, "total_tokens": 10}
    (body,) = servers[0].bodies
    assert (body["prompt"], body["suffix"], body["temperature"]) == ("def fib(n):\n    ", "\n", 0)


def test_a_stream_has_the_same_text_and_count() -> None:
    with served(counted) as (client, _, _):
        chunks = events(ask(client, prompt="x", stream=True, stream_options={"include_usage": True}).text)

    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == WHOLE
    assert chunks[-1]["usage"] == {**USAGE, "total_tokens": 10}


def test_where_the_upstream_does_not_count_nobody_makes_up_a_number() -> None:
    with served(well) as (client, _, _):
        whole = ask(client, prompt="x", n=2).json()
        chunks = events(ask(client, prompt="x", stream=True, stream_options={"include_usage": True}).text)

    assert (whole["usage"], chunks[-1]["usage"]) == (None, None)
    assert chunks[-1]["choices"] == []


def test_a_prompt_without_suffix_goes_through_as_it_is_text_or_ids() -> None:
    with served(well) as (client, servers, _):
        for prompt in ("<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", [5, 151_000], "x " * 5_000):
            assert ask(client, prompt=prompt).status_code == 200

    prompts = [body["prompt"] for body in servers[0].bodies]
    assert prompts == ["<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", [5, 151_000], "x " * 5_000]


def test_an_editor_gets_its_manners_from_any_model() -> None:
    with served(writes("value) + 1")) as (client, servers, _):
        answer = client.post("/v1/completions", json={"segments": {"prefix": "print(", "suffix": ")\n"}}).json()

    assert answer["choices"][0]["text"] == "value"
    assert (servers[0].bodies[0]["prompt"], servers[0].bodies[0]["suffix"]) == ("print(", ")\n")


def test_log_probabilities_are_of_the_tokens_that_the_upstream_tells() -> None:
    with served(scored) as (client, _, _):
        table = ask(client, prompt="x", logprobs=2).json()["choices"][0]["logprobs"]
        streamed = [
            chunk["choices"][0]["logprobs"] for chunk in events(ask(client, prompt="x", logprobs=2, stream=True).text)
        ]

    offsets = [0, len(TEXT[0]), len(TEXT[0] + TEXT[1])]
    assert table["tokens"] == list(TEXT)
    assert table["token_logprobs"] == [-0.5] * 3
    assert table["top_logprobs"][0] == {TEXT[0]: -0.5, "other": -2.0}
    assert table["text_offset"] == offsets
    assert [offset for part in streamed if part for offset in part["text_offset"]] == offsets


def test_log_probabilities_that_are_not_told_are_null() -> None:
    with served(well) as (client, _, _):
        assert ask(client, prompt="x", logprobs=2).json()["choices"][0]["logprobs"] is None


def test_an_echo_is_put_in_front_but_not_scored() -> None:
    with served(well) as (client, servers, _):
        echoed = ask(client, prompt="x = ", echo=True).json()
        refused = [ask(client, prompt="x", echo=True, logprobs=0), ask(client, prompt=[1, 2], echo=True)]

    assert echoed["choices"][0]["text"] == f"x = {WHOLE}"
    assert len(servers[0].asked) == 1
    for response in refused:
        error = response.json()["error"]
        assert (response.status_code, error["param"], error["code"]) == (400, "echo", "unsupported_parameter")


# what goes wrong


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_upstream_refuses_is_a_400_with_a_code_of_its_own(stream: bool) -> None:
    with served(refuse) as (client, _, _):
        response = ask(client, prompt="x", stream=stream)

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "refused_by_backend", None)
    assert "not to my taste" in error["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_is_busy_says_when_to_come_again(stream: bool) -> None:
    with served(busy) as (client, _, _):
        response = ask(client, prompt="x", stream=stream)

    assert response.status_code == 503
    assert response.headers["retry-after"] == "7"
    assert response.json()["error"]["code"] == "upstream_failed"


def test_an_upstream_that_takes_no_suffix_is_a_503_that_tells_how_to_mend_it() -> None:
    def no_suffix(talk: Talk) -> None:
        talk.json({"error": {"message": "suffix is not currently supported"}}, 400)

    with served(no_suffix) as (client, _, _):
        response = ask(client, prompt="x", suffix="y")

    assert response.status_code == 503
    assert "#template=" in response.json()["error"]["message"]


def test_an_upstream_that_dies_in_the_middle_of_a_stream_is_told_in_it() -> None:
    def dies(talk: Talk) -> None:
        talk.head().say("some text")
        talk.reset()

    with served(dies) as (client, _, _):
        text = ask(client, prompt="x", stream=True).text

    assert "some text" in text
    assert "upstream_failed" in text
    assert "[DONE]" not in text


def test_while_one_upstream_is_down_another_answers_and_the_health_shows_it() -> None:
    with served(busy, well) as (client, servers, _):
        answers = [ask(client, prompt="x").json() for _ in range(3)]
        health = client.get("/v1/health").json()["starsmith"]["upstreams"]

    assert [answer["choices"][0]["text"] for answer in answers] == [WHOLE] * 3
    assert {upstream["name"]: upstream["healthy"] for upstream in health} == {
        servers[0].url: False,
        servers[1].url: True,
    }


# whose code it is


def test_the_text_of_an_upstream_is_attributed(tmp_path: Path) -> None:
    with served(writes(FIB), index=numbers_index(tmp_path)) as (client, _, _):
        response = ask(client, prompt="x\n")

    (match,) = response.json()["choices"][0]["starsmith"]["attribution"]
    assert match["sources"][0]["license"] == "MIT"
    assert "source=1" in response.headers["X-Starsmith-Attribution"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_copy_that_an_upstream_writes_is_stopped(tmp_path: Path, stream: bool) -> None:
    def endless(talk: Talk) -> None:
        writes(LONG * 200)(talk)
        servers[0].hung_up.set()

    policy: Policy = "block"
    with served(endless, index=numbers_index(tmp_path), policy=policy) as (client, servers, _):
        response = ask(client, prompt="x\n", max_tokens=200_000, stream=stream)
        assert servers[0].hung_up.wait(20)

    choices = [event["choices"][0] for event in events(response.text)] if stream else response.json()["choices"]
    text = "".join(choice["text"] for choice in choices)
    assert choices[-1]["finish_reason"] == "content_filter"
    assert LONG.startswith(text)
    assert 0 < len(text) < len(LONG)


# sessions, and the end


def test_a_users_newer_question_ends_the_older_one_at_the_upstream() -> None:
    with upstream() as server:
        server.answer = server.hang
        service = open_backend_service([server.url])
        older: list[Any] = []

        def ask_first(url: str) -> None:
            with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as sdk:
                older.append(sdk.completions.create(model=service.card.id, prompt="x", suffix="y", user="ann"))

        with running(service) as url:
            asking = threading.Thread(target=ask_first, args=(url,))
            asking.start()
            wait_for(lambda: len(server.asked) == 1)
            server.answer = well
            with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as sdk:
                newer = sdk.completions.create(model=service.card.id, prompt="xx", suffix="y", user="ann")
            asking.join(20)

        assert server.hung_up.wait(20)
    assert newer.choices[0].text == WHOLE
    assert older[0].choices[0].finish_reason == "cancelled"


def test_with_the_server_its_connections_end() -> None:
    with served(well) as (client, servers, _):
        ask(client, prompt="x")
        name = f"ask {servers[0].url}"
        assert name in {thread.name for thread in threading.enumerate()}

    assert name not in {thread.name for thread in threading.enumerate()}


# its card


def test_what_is_not_known_of_an_upstreams_model_is_null() -> None:
    with served(well) as (client, servers, service):
        health = client.get("/v1/health").json()
        listed = client.get("/v1/models").json()["data"]

    assert health["model"] == listed[0]["id"] == "starsmith-127.0.0.1"
    assert isinstance(health["device"], str)
    about = health["starsmith"]
    assert (about["parameters"], about["context_tokens"], about["artefact"]) == (None, None, None)
    assert about["backend"] == service.card.backend == servers[0].url
    assert about["completions"] == {}


def test_a_model_that_was_named_keeps_its_name() -> None:
    with served(well, settings="#model=Qwen/Qwen2.5-Coder-1.5B") as (_, _, service):
        assert service.card.id == "qwen2.5-coder-1.5b"
    with served(well, model_id="ours") as (client, _, _):
        assert client.get("/v1/models/ours").status_code == 200


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Qwen2.5 Coder 1.5B Instruct", "qwen2.5-coder-1.5b-instruct"),
        ("bigcode/starcoder2-3b", "starsmith-3b"),
        ("StarCoder2", "starsmith-model"),
        ("模型", "starsmith-model"),
    ],
)
def test_a_foreign_model_keeps_its_name_unless_editors_would_cut_its_completions(name: str, found: str) -> None:
    assert foreign_model_id(name) == found


def test_a_server_is_named_after_its_host() -> None:
    assert server_model_id("http://gpu1:8000/v1") == "starsmith-gpu1"
