"""The server against OpenAI's own Python SDK."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from indexed import LONG, indexed, numbers_index
from scripted import ENDLESS, FIB, MODEL, ScriptedEngine, make_service, running
from starsmith.serving.worker import Worker

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two files."""
    return numbers_index(tmp_path_factory.mktemp("numbers"))


@pytest.fixture(scope="module")
def url(numbers: Path) -> Iterator[str]:
    with running(make_service(**indexed(numbers))) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as opened:
        yield opened


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "starsmith"


@pytest.mark.parametrize("suffix", [None, "\n\nprint(fib(10))\n"])
def test_a_completion_with_and_without_suffix(client: openai.OpenAI, suffix: str | None) -> None:
    answer = client.completions.create(model=MODEL, prompt="def fib(n):\n    ", suffix=suffix, max_tokens=64)

    assert answer.choices[0].text == FIB
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize("suffix", [None, "\n\nprint(fib(10))\n"])
def test_a_stream_with_and_without_suffix_has_usage_at_its_end(client: openai.OpenAI, suffix: str | None) -> None:
    stream = client.completions.create(
        model=MODEL,
        prompt="def fib(n):\n    ",
        suffix=suffix,
        max_tokens=64,
        stream=True,
        stream_options={"include_usage": True},
    )

    chunks = list(stream)

    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == FIB
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


def test_the_sources_are_an_extra_field_that_the_sdk_hands_on(client: openai.OpenAI) -> None:
    choice = client.completions.create(model=MODEL, prompt="x", max_tokens=64).choices[0]

    assert choice.model_extra is not None
    assert choice.model_extra["starsmith"]["attribution"][0]["sources"][0]["license"] == "MIT"


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_completion_has_the_finish_reason_that_the_sdk_knows(numbers: Path, stream: bool) -> None:
    engine = ScriptedEngine(LONG, context_tokens=4_096)
    with (
        running(make_service(engine, **indexed(numbers, "block"))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        if stream:
            chunks = list(client.completions.create(model=MODEL, prompt="x\n", max_tokens=2_000, stream=True))
            text, last = "".join(chunk.choices[0].text for chunk in chunks), chunks[-1].choices[0]
        else:
            last = client.completions.create(model=MODEL, prompt="x\n", max_tokens=2_000).choices[0]
            text = last.text

    assert last.finish_reason == "content_filter"
    assert LONG.startswith(text)
    assert len(text) < len(LONG)


def test_logprobs_and_several_choices_arrive_as_the_sdk_types_them(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["a", "b"], n=2, logprobs=1, max_tokens=4, seed=1)

    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert len(logprobs.tokens) == 4


def test_errors_become_the_exceptions_of_the_sdk(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature") as bad:
        client.completions.create(model=MODEL, prompt="x", temperature=5)
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=MODEL, prompt="x " * 600)
    with pytest.raises(openai.NotFoundError, match=MODEL):
        client.completions.create(model="gpt", prompt="x")
    with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])

    assert bad.value.param == "temperature"
    assert long.value.code == "context_length_exceeded"


def test_a_wrong_key_is_an_authentication_error() -> None:
    with running(make_service(token="secret")) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with openai.OpenAI(base_url=f"{url}/v1", api_key="secret") as client:
            assert client.models.list().data[0].id == MODEL


def test_closing_a_stream_stops_the_work() -> None:
    engine = ScriptedEngine(ENDLESS, delay_s=0.01)

    with running(make_service(engine)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        stream = client.completions.create(model=MODEL, prompt="x", max_tokens=400, stream=True)
        next(iter(stream))
        stream.close()
        at_close = engine.decoded
        client.completions.create(model=MODEL, prompt="y", max_tokens=1)

    assert engine.decoded <= at_close + 5


def test_a_timeout_of_the_client_stops_the_work_and_frees_the_place() -> None:
    engine = ScriptedEngine(ENDLESS, delay_s=0.01)

    with (
        running(make_service(engine, worker=Worker(max_waiting=0))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=0.5) as client,
    ):
        with pytest.raises(openai.APITimeoutError):
            client.completions.create(model=MODEL, prompt="x", max_tokens=400)
        decoded = engine.decoded
        patient = client.with_options(max_retries=5, timeout=20)
        patient.completions.create(model=MODEL, prompt="y", max_tokens=1)

    assert engine.decoded < decoded + 10


def test_a_full_server_is_retried_after_the_time_it_says() -> None:
    engine = ScriptedEngine("ab" * 15, delay_s=0.01)

    with (
        running(make_service(engine, worker=Worker(max_waiting=0))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=3) as client,
    ):
        stream = client.completions.create(model=MODEL, prompt="x", max_tokens=60, stream=True)
        answer = client.completions.create(model=MODEL, prompt="y", max_tokens=1)
        stream.close()

    assert answer.choices[0].text
