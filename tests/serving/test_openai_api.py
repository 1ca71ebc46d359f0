import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from scripted import FIB, MODEL, ScriptedEngine, make_service, tiny_tokenizer
from starsmith.core.errors import EngineError
from starsmith.serving.app import create_app
from starsmith.serving.clients import Client, digest_of
from starsmith.tokenizer.bpe import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, SPECIAL_TOKENS

pytestmark = pytest.mark.slow  # starts a server for each


def client_of(engine: ScriptedEngine | None = None, **fields: Any) -> TestClient:
    return TestClient(create_app(make_service(engine, **fields)), raise_server_exceptions=False)


def complete(engine: ScriptedEngine | None = None, **body: Any) -> Any:
    response = client_of(engine).post("/v1/completions", json={"max_tokens": 64, **body})
    assert response.status_code == 200, response.text
    return response.json()


def events(text: str) -> list[Any]:
    """The events of a stream, whose last is [DONE]."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def stream(engine: ScriptedEngine | None = None, **body: Any) -> list[Any]:
    response = client_of(engine).post("/v1/completions", json={"max_tokens": 64, "stream": True, **body})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return events(response.text)


def test_a_prompt_gets_an_answer_in_the_shape_of_the_api() -> None:
    answer = complete(prompt="def fib(n):\n    ", model=MODEL)

    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["model"] == MODEL
    (choice,) = answer["choices"]
    assert (choice["index"], choice["text"], choice["finish_reason"]) == (0, FIB, "stop")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] == len(tiny_tokenizer().encode("def fib(n):\n    "))


def test_without_max_tokens_an_answer_has_at_most_sixteen_as_in_the_api() -> None:
    answer = client_of().post("/v1/completions", json={"prompt": "x"}).json()

    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 16


def test_a_suffix_makes_an_infilling_prompt_in_which_text_is_only_text() -> None:
    engine = ScriptedEngine()

    complete(engine, prompt="a <fim_middle> b", suffix="c <|endoftext|>")

    (prompt,) = engine.prompts
    assert [token for token in prompt if token < len(SPECIAL_TOKENS)] == [FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE]


def test_infilling_markers_in_a_prompt_without_suffix_are_control_tokens() -> None:
    engine = ScriptedEngine()

    complete(engine, prompt="<fim_prefix>a<fim_suffix>b<fim_middle>")

    encode = tiny_tokenizer().encode
    assert engine.prompts == [[FIM_PREFIX, *encode("a"), FIM_SUFFIX, *encode("b"), FIM_MIDDLE]]


def test_prompts_may_be_text_texts_token_ids_or_lists_of_them() -> None:
    ids = tiny_tokenizer().encode("x = 1")
    engine = ScriptedEngine()

    for prompt in ("x = 1", ["x = 1"], ids, [ids]):
        complete(engine, prompt=prompt)

    assert engine.prompts == [ids] * 4


def test_choices_are_numbered_by_prompt_and_then_by_n() -> None:
    engine = ScriptedEngine()

    answer = complete(engine, prompt=["one", "two"], n=2, seed=5, temperature=0.7, top_p=0.9)

    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [tiny_tokenizer().decode(prompt) for prompt in engine.prompts] == ["one", "one", "two", "two"]
    assert [params.seed for params in engine.params] == [5, 6, 5, 6]
    assert {(params.temperature, params.top_p) for params in engine.params} == {(0.7, 0.9)}


@pytest.mark.parametrize("stop", [" + ", [" + ", "never"]])
def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(stop: Any) -> None:
    answer = complete(prompt="x", stop=stop)

    assert answer["choices"][0]["text"] == "return fib(n - 1)"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_echo_puts_the_prompt_in_front() -> None:
    assert complete(prompt="x = ", echo=True)["choices"][0]["text"] == f"x = {FIB}"
    assert "".join(event["choices"][0]["text"] for event in stream(prompt="x = ", echo=True)) == f"x = {FIB}"


def test_logprobs_are_four_parallel_lists_over_the_text() -> None:
    choice = complete(prompt="x", logprobs=2)["choices"][0]

    table = choice["logprobs"]
    assert "".join(table["tokens"]) == choice["text"] == FIB
    assert [FIB[offset:].startswith(token) for token, offset in zip(table["tokens"], table["text_offset"], strict=True)]
    assert set(table["token_logprobs"]) == {-0.5}
    assert table["top_logprobs"][0] == {table["tokens"][0]: -0.5, "<|endoftext|>": -2.0}


def test_logprobs_stop_where_the_text_stops() -> None:
    choice = complete(prompt="x", logprobs=0, stop="fib")["choices"][0]

    assert "".join(choice["logprobs"]["tokens"]) == choice["text"] == "return "


def test_an_echoed_prompt_is_scored_as_evaluation_harnesses_want_it() -> None:
    choice = complete(prompt="x = 1", echo=True, logprobs=1, max_tokens=1)["choices"][0]

    table = choice["logprobs"]
    length = len(tiny_tokenizer().encode("x = 1"))
    assert "".join(table["tokens"]) == choice["text"]
    assert table["token_logprobs"] == [None, *[-1.0] * (length - 1), -0.5]
    assert table["text_offset"][length] == len("x = 1")


def test_a_stream_has_the_same_text_and_ends_with_its_reason_and_done() -> None:
    chunks = stream(prompt="x")

    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == FIB
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len(chunks) > 3
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_comes_in_a_last_chunk_of_a_stream_when_asked_for() -> None:
    chunks = stream(prompt="x", stream_options={"include_usage": True})

    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == complete(prompt="x")["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_streamed_logprobs_continue_their_offsets() -> None:
    tables = [chunk["choices"][0]["logprobs"] for chunk in stream(prompt="x", logprobs=0)]

    tokens = [token for table in tables if table for token in table["tokens"]]
    offsets = [offset for table in tables if table for offset in table["text_offset"]]
    assert "".join(tokens) == FIB
    assert offsets == [len("".join(tokens[:place])) for place in range(len(tokens))]


def test_without_an_index_an_answer_does_not_claim_to_share_nothing() -> None:
    assert "attribution" not in complete(prompt="x")["choices"][0]["starsmith"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": 3}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [999_999]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["x", [1]]}, "prompt"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "x", "temperature": 3}, "temperature"),
        ({"prompt": "x", "top_p": 0}, "top_p"),
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": ["x"] * 100, "n": 2}, "prompt"),
        ({"prompt": "x", "stop": ""}, "stop"),
        ({"prompt": "x", "logprobs": 6}, "logprobs"),
        ({"prompt": "x", "stream": "perhaps"}, "stream"),
        ({"prompt": "x", "presence_penalty": 0.5}, "presence_penalty"),
        ({"prompt": "x", "logit_bias": {"5": 1}}, "logit_bias"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "suffix": "y", "echo": True}, "echo"),
        ({"prompt": "x " * 600}, "prompt"),
        ({"prompt": "x " * 600, "stream": True}, "prompt"),
    ],
)
def test_a_bad_request_is_a_400_that_names_the_field(body: dict[str, Any], param: str) -> None:
    response = client_of().post("/v1/completions", json=body)

    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert param in error["message"]


def test_a_prompt_that_fills_the_context_has_the_code_that_clients_know() -> None:
    error = client_of().post("/v1/completions", json={"prompt": "x " * 600}).json()["error"]

    assert error["code"] == "context_length_exceeded"


def test_an_infill_that_does_not_fit_loses_what_is_far_from_the_cursor() -> None:
    engine = ScriptedEngine()
    prompt = f"<fim_prefix>{'x ' * 600}near = <fim_suffix>{'y ' * 600}<fim_middle>"

    complete(engine, prompt=prompt)
    complete(engine, prompt=tiny_tokenizer().encode_prompt(prompt))

    first, again = engine.prompts
    assert first == again
    assert len(first) == 512 - 64
    assert [token for token in first if token < len(SPECIAL_TOKENS)] == [FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE]
    assert "near = " in tiny_tokenizer().decode(first)


def test_a_plain_answer_is_raw_and_has_manners_when_asked() -> None:
    def text(**more: Any) -> str:
        answer = complete(ScriptedEngine("value) + 1"), prompt="print(", suffix=")\n", **more)
        return str(answer["choices"][0]["text"])

    assert text() == "value) + 1"
    assert text(starsmith={"manners": ["no_extra_closers"]}) == "value"


def test_a_plain_question_is_asked_again_each_time_and_ends_no_other() -> None:
    engine = ScriptedEngine()

    for _ in range(2):
        complete(engine, prompt="x = ", suffix="\n", temperature=0)

    assert engine.sessions == [None, None]


def test_what_is_typed_for_a_user_is_a_session_and_what_programs_ask_is_none() -> None:
    engine = ScriptedEngine()
    client = client_of(engine)
    typed = {"prompt": "x = ", "suffix": "\n", "max_tokens": 4}

    for body in (
        {**typed, "user": "ann"},
        {**typed, "user": "ann", "prompt": "x = y"},
        {**typed, "user": "bob"},
        typed,
        {**typed, "user": "ann", "n": 2},
        {**typed, "user": "ann", "prompt": ["x = "]},
        {"prompt": "x = ", "user": "ann"},
    ):
        assert client.post("/v1/completions", json=body).status_code == 200

    ann, again, bob, *nobody = engine.sessions
    assert ann == again is not None
    assert bob not in (None, ann)
    assert nobody == [None] * 5


def test_users_who_share_a_clients_token_do_not_end_each_others_requests() -> None:
    engine = ScriptedEngine()
    client = client_of(engine, clients={digest_of("key"): Client(name="gateway")})

    for user in ("ann", "bob"):
        body = {"prompt": "x", "suffix": "y", "user": user}
        client.post("/v1/completions", json=body, headers={"Authorization": "Bearer key"})

    assert len(set(engine.sessions)) == 2


def test_a_user_who_types_a_suggestion_gets_the_rest_without_a_call_of_the_model() -> None:
    engine = ScriptedEngine()
    client = client_of(engine)

    def ask(typed: int) -> Any:
        body = {"prompt": "x = " + FIB[:typed], "suffix": "\n", "user": "ann", "temperature": 0, "max_tokens": 64}
        return client.post("/v1/completions", json=body).json()

    first, rest = ask(0), ask(7)

    assert (first["choices"][0]["text"], rest["choices"][0]["text"]) == (FIB, FIB[7:])
    assert len(engine.prompts) == 1
    usage = rest["usage"]
    assert usage["completion_tokens"] == 0
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]


def test_an_engine_that_does_not_tell_what_it_had_read_before_is_not_said_to_have_read_none() -> None:
    assert "prompt_tokens_details" not in complete(prompt="x")["usage"]


def test_a_user_of_endless_length_is_refused() -> None:
    response = client_of().post("/v1/completions", json={"prompt": "x", "suffix": "y", "user": "u" * 1000})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "user")


def test_penalties_and_best_of_at_their_defaults_pass() -> None:
    complete(prompt="x", presence_penalty=0, frequency_penalty=0.0, logit_bias={}, best_of=1, user="somebody", other=1)


def test_an_unknown_model_is_404_and_the_served_one_is_named() -> None:
    for response in (
        client_of().post("/v1/completions", json={"prompt": "x", "model": "gpt"}),
        client_of().get("/v1/models/gpt"),
    ):
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (404, "model_not_found")
        assert MODEL in error["message"]


def test_the_served_model_is_listed() -> None:
    listed = client_of().get("/v1/models").json()

    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [MODEL]
    assert client_of().get(f"/v1/models/{MODEL}").json() == listed["data"][0]


@pytest.mark.parametrize(
    ("content", "told"), [(b'{"prompt": ', "not JSON"), (b"[]", "`prompt`"), (b"{}", "`segments`")]
)
def test_a_body_of_neither_protocol_is_a_400_in_the_same_shape(content: bytes, told: str) -> None:
    response = client_of().post("/v1/completions", content=content, headers={"Content-Type": "application/json"})

    assert response.status_code == 400
    assert told in response.json()["error"]["message"]


def test_text_that_is_no_unicode_is_a_400() -> None:
    content = b'{"prompt": "x \\ud800 y"}'

    response = client_of().post("/v1/completions", content=content, headers={"Content-Type": "application/json"})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"


def test_a_forgotten_content_type_is_what_the_error_is_about() -> None:
    response = client_of().post("/v1/completions", content=b'{"prompt": "x"}')

    assert response.status_code == 400
    assert "Content-Type: application/json" in response.json()["error"]["message"]


def test_an_unknown_route_or_method_is_told_in_the_same_shape() -> None:
    missing, wrong = client_of().get("/v1/embeddings"), client_of().delete("/v1/completions")

    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert "GET /v1/embeddings" in missing.json()["error"]["message"]


class BrokenEngine(ScriptedEngine):
    """Fails after three tokens, as a bug would."""

    def generate(self, *arguments: Any, **more: Any) -> Any:
        for number, token in enumerate(super().generate(*arguments, **more)):
            if number == 3:
                raise RuntimeError("a bug")
            yield token


def test_a_bug_is_a_500_without_its_details() -> None:
    response = client_of(BrokenEngine()).post("/v1/completions", json={"prompt": "x"})

    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "a bug in the server" in response.json()["error"]["message"]


def test_a_model_that_fails_at_a_request_is_a_503_and_says_why() -> None:
    class Failing(ScriptedEngine):
        def generate(self, *arguments: Any, **more: Any) -> Any:
            raise EngineError("out of memory")

    response = client_of(Failing()).post("/v1/completions", json={"prompt": "x"})

    assert response.status_code == 503
    assert response.json()["error"]["message"] == "out of memory"


def test_a_bug_in_the_middle_of_a_stream_is_told_as_its_last_event() -> None:
    response = client_of(BrokenEngine()).post("/v1/completions", json={"prompt": "x", "stream": True})

    last = response.text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
    assert "[DONE]" not in response.text
