from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from indexed import indexed
from scripted import FIB, MODEL, ScriptedEngine, make_service, tiny_tokenizer
from starsmith.serving.app import create_app
from starsmith.serving.clients import Client, digest_of
from starsmith.tokenizer.bpe import END_OF_TEXT, FILE_SEP, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, REPO_NAME


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


def test_other_files_stand_in_front_of_the_prompt_the_most_useful_last() -> None:
    engine = ScriptedEngine()

    complete(engine, segments=SEGMENTS)

    encode = tiny_tokenizer().encode
    assert engine.prompts == [
        [
            *(REPO_NAME, *encode("team/fib")),
            *(FILE_SEP, *encode("src/sub.py\n"), *encode("def sub(a, b): ...")),
            *(FILE_SEP, *encode("src/num.py\n"), *encode("class Num: ...")),
            *(FILE_SEP, FIM_PREFIX, FIM_SUFFIX, *encode(SEGMENTS["suffix"])),
            *(FIM_MIDDLE, *encode("src/fib.py\n"), *encode(SEGMENTS["prefix"])),
        ]
    ]


def test_other_files_stay_as_they_are_while_somebody_types_and_change_with_the_cursor() -> None:
    engine = ScriptedEngine()
    client = client_of(engine)
    new = [{"filepath": "src/new.py", "body": "new = 1"}]

    for prefix, suffix, declarations in (
        ("def fib(n):\n", "\n", SEGMENTS["declarations"]),
        ("def fib(n):\n    x", "\n", new),
        ("def fib(n):\n    x", "\ny = 2\n", new),
    ):
        segments = {**SEGMENTS, "prefix": prefix, "suffix": suffix, "declarations": declarations}
        client.post("/v1/completions", json={"segments": segments})

    texts = [tiny_tokenizer().decode(prompt) for prompt in engine.prompts]
    assert ["class Num" in text for text in texts] == [True, True, False]
    assert ["new = 1" in text for text in texts] == [False, False, True]


def test_who_types_a_suggestion_gets_the_rest_without_a_call_of_the_model() -> None:
    engine = ScriptedEngine()
    client = client_of(engine)

    texts = [
        client.post("/v1/completions", json={"segments": {**SEGMENTS, "prefix": "x = " + FIB[:typed]}}).json()
        for typed in (0, 1, 8)
    ]

    assert [answer["choices"][0]["text"] for answer in texts] == [FIB, FIB[1:], FIB[8:]]
    assert texts[2]["usage"]["completion_tokens"] == 0
    assert len(engine.prompts) == 1
    assert client.get("/v1/health").json()["starsmith"]["completions"] == {"completions": 3, "typed_along": 2}


@pytest.mark.slow
def test_the_rest_of_a_suggestion_that_is_typed_has_its_sources_too(numbers: Path) -> None:
    engine = ScriptedEngine()
    client = client_of(engine, **indexed(numbers, "annotate"))

    answers = [
        client.post("/v1/completions", json={"segments": {"prefix": "def fib(n):\n    " + FIB[:typed]}}).json()
        for typed in (0, 7)
    ]

    assert len(engine.prompts) == 1
    assert answers[1]["choices"][0]["text"] == FIB[7:]
    (match,) = answers[1]["choices"][0]["starsmith"]["attribution"]
    assert match["sources"] == answers[0]["choices"][0]["starsmith"]["attribution"][0]["sources"]


def test_a_session_is_one_file_of_one_person() -> None:
    engine = ScriptedEngine()
    clients = {digest_of(name): Client(name=name) for name in ("ann", "bob")}
    client = client_of(engine, clients=clients)

    for name, path in (("ann", "a.py"), ("ann", "a.py"), ("ann", "b.py"), ("bob", "a.py")):
        segments = {"prefix": f"{len(engine.prompts)} = ", "filepath": path}
        headers = {"Authorization": f"Bearer {name}"}
        client.post("/v1/completions", json={"segments": segments}, headers=headers)

    first, again, other_file, other_person = engine.sessions
    assert first == again is not None
    assert len({first, other_file, other_person}) == 3


def test_people_with_one_token_are_told_apart_by_what_their_editors_say() -> None:
    engine = ScriptedEngine()
    client = client_of(engine, token="shared")

    for user in ("ann", "bob"):
        body = {"segments": {"prefix": "x"}, "user": user}
        client.post("/v1/completions", json=body, headers={"Authorization": "Bearer shared"})

    assert len(set(engine.sessions)) == 2


def test_a_completion_keeps_its_manners_unless_told_otherwise() -> None:
    segments = {"prefix": "print(", "suffix": ")\n"}

    def text(**more: Any) -> str:
        return str(complete(ScriptedEngine("value) + 1"), segments=segments, **more)["choices"][0]["text"])

    assert text() == "value"
    assert text(starsmith={"manners": ["no_repetition"]}) == "value) + 1"
    assert text(starsmith={"manners": []}) == "value) + 1"


def test_a_completion_has_at_most_sixty_four_tokens() -> None:
    engine = ScriptedEngine(" ".join(str(number) for number in range(200)))

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
        ({"segments": SEGMENTS, "starsmith": {"manners": ["polite"]}}, "starsmith"),
        ({"segments": {**SEGMENTS, "declarations": [{"filepath": 3}]}}, "segments"),
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
