from typing import Any

import pytest
from fastapi.testclient import TestClient

from scripted import FIB, MODEL, ScriptedEngine, make_service, tiny_tokenizer
from starsmith.serving.app import create_app
from starsmith.tokenizer.bpe import END_OF_TEXT, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX


def client_of(engine: ScriptedEngine | None = None, **fields: Any) -> TestClient:
    return TestClient(create_app(make_service(engine, **fields)))


def complete(engine: ScriptedEngine | None = None, **body: Any) -> Any:
    response = client_of(engine).post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


SEGMENTS = {
    "prefix": "def fib(n):\n    ",
    "suffix": "\n\nprint(fib(1))\n",
    "filepath": "src/fib.py",
    "git_url": "git@example.org:team/fib.git",
    "declarations": [{"filepath": "src/num.py", "body": "class Num: ..."}],
    "relevant_snippets_from_changed_files": [{"filepath": "src/sub.py", "body": "def sub(a, b): ...", "score": 0.8}],
    "clipboard": "a + b",
}


def test_segments_get_a_completion_with_an_id_and_a_choice_index() -> None:
    answer = complete(language="python", segments=SEGMENTS, user="alice", temperature=0.1, seed=7)

    assert answer["id"].startswith("cmpl-")
    (choice,) = answer["choices"]
    assert (choice["index"], choice["text"], choice["finish_reason"]) == (0, FIB, "stop")
    assert answer["mode"] == "standard"


def test_the_prompt_is_suffix_first_and_typed_markers_stay_text() -> None:
    engine = ScriptedEngine()

    complete(engine, segments={"prefix": "a<fim_middle>", "suffix": "b<|endoftext|>"})

    encode = tiny_tokenizer().encode
    suffix, prefix = encode("b<|endoftext|>"), encode("a<fim_middle>")
    assert engine.prompts == [[FIM_PREFIX, FIM_SUFFIX, *suffix, FIM_MIDDLE, *prefix]]
    assert END_OF_TEXT not in [*suffix, *prefix]


def test_a_completion_has_at_most_sixty_four_tokens() -> None:
    engine = ScriptedEngine("ab" * 500)

    answer = complete(engine, segments={"prefix": "x"})

    assert engine.decoded == 64
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_completion_ends_before_the_next_function_of_its_language() -> None:
    engine = ScriptedEngine("return 1\ndef other():\n    pass")

    assert complete(engine, language="python", segments={"prefix": "x"})["choices"][0]["text"] == "return 1"


def test_in_the_middle_of_a_line_a_completion_ends_with_the_line() -> None:
    engine = ScriptedEngine("first\nsecond")

    assert complete(engine, segments={"prefix": "x = ", "suffix": " + 1\n"})["choices"][0]["text"] == "first"


def test_control_tokens_never_show_in_a_completion() -> None:
    assert "<|endoftext|>" not in complete(segments={"prefix": "x"})["choices"][0]["text"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"segments": {}}, "segments"),
        ({"segments": {"prefix": 3}}, "segments"),
        ({"segments": "x"}, "segments"),
        ({"segments": SEGMENTS, "temperature": -1}, "temperature"),
        ({"segments": SEGMENTS, "mode": "next_edit_suggestion"}, "mode"),
    ],
)
def test_a_bad_request_is_a_400_that_names_the_field(body: dict[str, Any], param: str) -> None:
    response = client_of().post("/v1/completions", json=body)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_health_has_every_field_that_agents_read(method: str) -> None:
    health = client_of().request(method, "/v1/health").json()

    assert health["model"] == MODEL
    assert health["device"] == "cpu"
    assert health["webserver"] is False
    assert set(health["version"]) == {"build_date", "build_timestamp", "git_sha", "git_describe"}
    major, minor, _ = health["version"]["git_describe"].removeprefix("v").split(".")
    assert (int(major), int(minor)) >= (0, 27)
    assert {"cuda_devices", "models", "arch", "cpu_info", "cpu_count"} <= set(health)


def test_settings_turn_the_telemetry_of_clients_off() -> None:
    assert client_of().get("/v1beta/server_setting").json() == {"disable_client_side_telemetry": True}


def test_models_are_listed_by_use() -> None:
    assert client_of().get("/v1beta/models").json() == {"completion": [MODEL], "chat": []}


def test_events_are_counted_by_type() -> None:
    client = client_of()
    event = {"completion_id": "cmpl-1", "choice_index": 0, "view_id": "view-1"}

    client.post("/v1/events", json={"type": "view", **event})
    client.post("/v1/events", json={"type": "view", **event})
    taken = client.post(
        "/v1/events?select_kind=line", json={"type": "select", "elapsed": 900, "select_kind": "line", **event}
    )

    assert (taken.status_code, taken.content) == (200, b"")
    assert client.get("/v1/health").json()["starsmith"]["events"] == {"view": 2, "select": 1}


def test_an_event_of_another_type_is_a_400() -> None:
    response = client_of().post("/v1/events", json={"type": "stare", "completion_id": "cmpl-1", "choice_index": 0})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "type"
