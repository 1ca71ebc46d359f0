import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from indexed import LONG, index_of, indexed
from scripted import FIB, MODEL, ScriptedEngine, make_service
from starsmith.core.hashing import TOKEN, code_tokens
from starsmith.inference.engine import never
from starsmith.provenance.attribution import Match, Source
from starsmith.serving.app import create_app
from starsmith.serving.attribution import POLICIES, Policy, Rules
from starsmith.serving.clients import Client, digest_of
from starsmith.serving.prompt import editor_request
from starsmith.serving.service import Job
from worlds import source_file

pytestmark = pytest.mark.slow

BODY = {"prompt": "x = 1\n", "max_tokens": 2_000}


def client_of(numbers: Path, policy: Policy = "annotate", answer: str = FIB, **fields: Any) -> TestClient:
    engine = fields.pop("engine", None) or ScriptedEngine(answer, context_tokens=4_096)
    return TestClient(create_app(make_service(engine, **indexed(numbers, policy), **fields)))


def ask(client: TestClient, **body: Any) -> Any:
    response = client.post("/v1/completions", json={**BODY, **body})
    assert response.status_code == 200, response.text
    return response


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def streamed(client: TestClient, **body: Any) -> tuple[str, Any]:
    """The text of a stream, and its last choice."""
    chunks = [chunk["choices"][0] for chunk in events(ask(client, stream=True, **body).text)]
    return "".join(choice["text"] for choice in chunks), chunks[-1]


def match_of(kind: Any, *licenses: str, count: int | None = None) -> Match:
    sources = tuple(
        Source("swh:1:cnt:" + "a" * 40, "r", "", f"{n}.py", 1, 2, name, "") for n, name in enumerate(licenses)
    )
    return Match(0, 100, 70, kind, len(sources) if count is None else count, sources)


# what is found


def test_an_answer_carries_its_matches_at_offsets_of_its_text(numbers: Path) -> None:
    choice = ask(client_of(numbers)).json()["choices"][0]

    (match,) = choice["starsmith"]["attribution"]
    assert choice["text"][match["start"] : match["end"]] == "return fib(n - 1)"
    assert (match["kind"], match["tokens"], match["count"], match["blocked"]) == ("source", 7, 1, False)
    (source,) = match["sources"]
    assert (source["path"], source["first_line"], source["license"]) == ("numbers/recursive.py", 4, "MIT")
    assert choice["starsmith"]["model"]["id"] == MODEL
    assert 0 < choice["starsmith"]["attribution_ms"] < 1_000


def test_an_echoed_prompt_moves_the_offsets(numbers: Path) -> None:
    choice = ask(client_of(numbers), echo=True).json()["choices"][0]

    (match,) = choice["starsmith"]["attribution"]
    assert choice["text"][match["start"] : match["end"]] == "return fib(n - 1)"


def test_a_copy_that_begins_before_the_cursor_is_found_whole_and_begins_at_nought(numbers: Path) -> None:
    answer = client_of(numbers).post("/v1/completions", json={"segments": {"prefix": "def fib(n):\n    "}}).json()

    (match,) = answer["choices"][0]["starsmith"]["attribution"]
    assert (match["start"], match["end"], match["tokens"]) == (0, len("return fib(n - 1)"), 13)


def test_a_stream_carries_the_same_with_its_last_chunk(numbers: Path) -> None:
    client = client_of(numbers)

    whole = ask(client).json()["choices"][0]
    chunks = events(ask(client, stream=True).text)

    assert ["starsmith" in chunk["choices"][0] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    last = chunks[-1]["choices"][0]["starsmith"]
    assert last["attribution"] == whole["starsmith"]["attribution"]
    assert last["index"] == whole["starsmith"]["index"]


def test_code_of_one_s_own_has_an_empty_list(numbers: Path) -> None:
    assert ask(client_of(numbers, answer="quite other code")).json()["choices"][0]["starsmith"]["attribution"] == []


# what is blocked


def test_a_copy_is_cut_before_its_sixty_fifth_code_token_leaves(numbers: Path) -> None:
    choice = ask(client_of(numbers, "block", LONG)).json()["choices"][0]

    assert LONG.startswith(choice["text"])
    assert len(code_tokens(choice["text"].encode())) == 64
    assert choice["finish_reason"] == "content_filter"
    (match,) = choice["starsmith"]["attribution"]
    assert match["blocked"]
    assert match["tokens"] > 64
    assert (match["start"], match["end"]) == (0, len(choice["text"]))
    assert match["sources"][0]["path"] == "parts/long.py"


def test_a_blocked_stream_ends_at_the_same_place_with_the_match(numbers: Path) -> None:
    client = client_of(numbers, "block", LONG)

    text, last = streamed(client)
    whole = ask(client).json()["choices"][0]

    assert text == whole["text"]
    assert last["finish_reason"] == "content_filter"
    assert last["starsmith"]["attribution"] == whole["starsmith"]["attribution"]


def test_no_token_is_computed_after_the_block(numbers: Path) -> None:
    whole = ScriptedEngine(LONG, context_tokens=4_096)
    engine = ScriptedEngine(LONG, context_tokens=4_096)
    ask(client_of(numbers, "annotate", engine=whole))

    answer = ask(client_of(numbers, "block", engine=engine)).json()

    shown = len(answer["choices"][0]["text"])
    assert engine.decoded < whole.decoded * (shown + 20) / len(LONG) + 10  # the next look is 16 characters on, at most
    assert answer["usage"]["completion_tokens"] == engine.decoded


@pytest.mark.parametrize("stream", [False, True])
def test_code_tokens_before_the_cursor_count_too(numbers: Path, stream: bool) -> None:
    lines = LONG.splitlines(keepends=True)
    prompt, rest = "".join(lines[:6]), "".join(lines[6:])
    client = client_of(numbers, "block", rest)

    text = streamed(client, prompt=prompt)[0] if stream else ask(client, prompt=prompt).json()["choices"][0]["text"]

    assert len(code_tokens((prompt + text).encode())) == 64
    assert text


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_prompt_is_the_copy_nothing_of_it_goes_on(numbers: Path, stream: bool) -> None:
    lines = LONG.splitlines(keepends=True)
    client = client_of(numbers, "block", "".join(lines[20:]))
    body = {"prompt": "".join(lines[:20])}

    text, choice = streamed(client, **body) if stream else ("", ask(client, **body).json()["choices"][0])

    assert text == choice["text"] == ""
    assert choice["finish_reason"] == "content_filter"
    assert [match["blocked"] for match in choice["starsmith"]["attribution"]] == [True]


@given(cut=st.integers(0, len(LONG) - 1), ahead=st.sampled_from(["", "x = 1\n", "other(code)\n" * 300]))
def test_wherever_the_cursor_stands_no_copy_goes_beyond_sixty_four_tokens(numbers: Path, cut: int, ahead: str) -> None:
    engine = ScriptedEngine(LONG[cut:], context_tokens=8_192)
    service = make_service(engine, **indexed(numbers, "block"))
    request = editor_request("", "", max_tokens=2_000)

    (finished,) = service.complete([Job(0, request, before=ahead + LONG[:cut])], never)
    pieces = list(service.stream([Job(0, request, before=ahead + LONG[:cut])], never))

    assert LONG[cut:].startswith(finished.text)
    assert not finished.text.strip() or len(code_tokens((LONG[:cut] + finished.text).encode())) <= 64
    assert "".join(piece.text for piece in pieces) == finished.text
    assert pieces[-1].finish_reason == finished.finish_reason
    left = len(code_tokens(LONG[cut:].encode()))
    assert (finished.finish_reason == "content_filter") == (len(code_tokens(LONG.encode())) > 64 and left > 0)


def test_text_up_to_sixty_four_tokens_of_a_copy_is_given_whole(numbers: Path) -> None:
    places = [found.end() for found in TOKEN.finditer(LONG.encode())]
    answer = LONG[: places[63]] + ";\nand_then = other()"

    choice = ask(client_of(numbers, "block", answer)).json()["choices"][0]

    assert (choice["text"], choice["finish_reason"]) == (answer, "stop")
    assert [match["tokens"] for match in choice["starsmith"]["attribution"]] == [64]


def test_the_pieces_of_a_stream_that_is_watched_are_those_of_one_that_is_not(numbers: Path) -> None:
    answer = "".join(f"quite_{number} = other(code, {number})\n" for number in range(30))

    def texts(policy: Policy) -> list[str]:
        chunks = events(ask(client_of(numbers, policy, answer), stream=True).text)
        return [chunk["choices"][0]["text"] for chunk in chunks]

    assert texts("block") == texts("off")


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_a_blocked_answer_are_those_of_its_text(numbers: Path, stream: bool) -> None:
    client = client_of(numbers, "block", LONG)

    if stream:
        choices = [chunk["choices"][0] for chunk in events(ask(client, stream=True, logprobs=0).text)]
    else:
        choices = ask(client, logprobs=0).json()["choices"]

    text = "".join(choice["text"] for choice in choices)
    tables = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    tokens = [token for table in tables for token in table["tokens"]]
    offsets = [offset for table in tables for offset in table["text_offset"]]
    assert "".join(tokens).startswith(text)
    assert all(offset < len(text) for offset in offsets)


def test_a_tabby_client_gets_a_valid_answer_that_is_shorter(numbers: Path) -> None:
    client = client_of(numbers, "block", LONG)
    body = {"segments": {"prefix": "".join(LONG.splitlines(keepends=True)[:6])}}
    rest = "".join(LONG.splitlines(keepends=True)[6:])
    client = client_of(numbers, "block", rest)

    (choice,) = client.post("/v1/completions", json=body).json()["choices"]

    assert rest.startswith(choice["text"])
    assert choice["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("policy", "answer", "reason"),
    [
        ("off", LONG, "stop"),
        ("annotate", LONG, "stop"),
        ("block", LONG, "content_filter"),
        ("block", FIB, "stop"),
        ("block-nonpermissive", LONG, "content_filter"),
        ("block-nonpermissive", FIB, "stop"),
    ],
)
def test_a_policy_decides_what_may_leave(numbers: Path, policy: Policy, answer: str, reason: str) -> None:
    choice = ask(client_of(numbers, policy, answer)).json()["choices"][0]

    assert choice["finish_reason"] == reason
    assert ("attribution" in choice["starsmith"]) == (policy != "off")


@pytest.mark.parametrize("kind", ["source", "common", "licence", "low-information"])
def test_verbatim_code_is_blocked_and_boilerplate_is_not(kind: str) -> None:
    match = match_of(kind, "MIT", "GPL-3.0-only")
    rules = Rules(permissive=lambda name: name == "MIT")

    for policy in ("block", "block-nonpermissive"):
        blocks = rules.blocks(policy)  # type: ignore[arg-type]
        assert blocks is not None
        assert blocks(match) == (kind in ("source", "common"))


@pytest.mark.parametrize("policy", ["off", "annotate"])
def test_the_other_policies_block_nothing(policy: Policy) -> None:
    assert Rules().blocks(policy) is None


@pytest.mark.parametrize(
    ("match", "everything", "permissive"),
    [
        (match_of("source", "MIT"), False, True),
        (match_of("source", "MIT", count=3), False, True),  # three places in the one file
        (match_of("source", "MIT", "GPL-3.0-only"), False, False),
        (match_of("source", ""), False, False),
        (match_of("source", *["MIT"] * 5), False, True),
        (match_of("source", *["MIT"] * 5, count=6), False, False),  # the sixth may be in a file that is not listed
        (match_of("source", *["MIT"] * 5, count=6), True, True),
        (match_of("common", "MIT", count=90), False, False),
        (match_of("common", "MIT", count=90), True, True),
        (match_of("source", "MIT", "GPL-3.0-only"), True, False),
    ],
)
def test_a_match_is_permissive_if_every_file_it_stands_in_is_known_to_be(
    match: Match, everything: bool, permissive: bool
) -> None:
    rules = Rules(permissive=lambda name: name == "MIT", all_permissive=everything)

    assert rules.is_permissive(match) == permissive


# who asks


@pytest.mark.parametrize("server", POLICIES)
@pytest.mark.parametrize("own", [None, *POLICIES])
def test_a_client_s_own_policy_goes_before_the_server_s(numbers: Path, server: Policy, own: Policy | None) -> None:
    clients = {digest_of("t"): Client(name="alice", policy=own)}
    client = client_of(numbers, server, clients=clients)

    response = client.post("/v1/completions", json={"prompt": "x"}, headers={"Authorization": "Bearer t"})
    health = client.get("/v1/health", headers={"Authorization": "Bearer t"}).json()

    assert response.headers["x-starsmith-attribution"].split(",")[0] == f"policy={own or server}"
    assert health["starsmith"]["attribution"] == (own or server)


# headers


def test_the_headers_of_an_answer_have_the_sum_of_its_choices(numbers: Path) -> None:
    response = ask(client_of(numbers), n=2)

    counts = "source=2, common=0, licence=0, low-information=0, blocked=0"
    assert response.headers["x-starsmith-attribution"] == f"policy=annotate, {counts}"
    assert response.headers["x-starsmith-index"] == response.json()["choices"][0]["starsmith"]["index"][:16]


def test_the_headers_count_what_was_blocked(numbers: Path) -> None:
    assert "blocked=1" in ask(client_of(numbers, "block", LONG)).headers["x-starsmith-attribution"]


def test_the_headers_of_a_stream_have_what_is_known_before_it(numbers: Path) -> None:
    headers = ask(client_of(numbers, "block"), stream=True).headers

    assert headers["x-starsmith-attribution"] == "policy=block"
    assert len(headers["x-starsmith-index"]) == 16


def test_where_nobody_looks_the_header_says_so() -> None:
    headers = TestClient(create_app(make_service())).post("/v1/completions", json={"prompt": "x"}).headers

    assert headers["x-starsmith-attribution"] == "policy=off"
    assert "x-starsmith-index" not in headers


def test_pages_of_this_machine_may_read_the_headers(numbers: Path) -> None:
    headers = {"Origin": "http://localhost:1"}

    response = client_of(numbers).post("/v1/completions", json={"prompt": "x"}, headers=headers)

    assert "X-Starsmith-Attribution" in response.headers["access-control-expose-headers"]


# the source itself


def swhid_of(numbers: Path) -> str:
    (match,) = ask(client_of(numbers)).json()["choices"][0]["starsmith"]["attribution"]
    return str(match["sources"][0]["swhid"])


def test_the_lines_of_a_source_can_be_read(numbers: Path) -> None:
    params = {"swhid": swhid_of(numbers), "first": 3, "last": 4}

    found = client_of(numbers).get("/v1/starsmith/source", params=params).json()

    assert found["text"] == "def fib(n):\n    return fib(n - 1) * 2"
    assert (found["first_line"], found["cut"]) == (3, False)


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"swhid": "swh:1:cnt:" + "0" * 40}, 404, "swhid"),
        ({"swhid": "x" * 65}, 400, "swhid"),
        ({"first": 0}, 400, "first"),
        ({"first": 5}, 400, "last"),
        ({"last": 10_000}, 400, "last"),
        ({"last": "x"}, 400, "last"),
    ],
)
def test_what_is_no_source_is_told(numbers: Path, change: dict[str, Any], status: int, param: str) -> None:
    params = {"swhid": swhid_of(numbers), "first": 3, "last": 4, **change}

    response = client_of(numbers).get("/v1/starsmith/source", params=params)

    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_a_client_without_attribution_is_shown_no_source(numbers: Path) -> None:
    params = {"swhid": swhid_of(numbers), "first": 3, "last": 4}

    response = client_of(numbers, "off").get("/v1/starsmith/source", params=params)

    assert (response.status_code, response.json()["error"]["code"]) == (404, "attribution_off")


def test_a_permissive_file_with_one_line_more_does_not_hide_one_that_is_not(tmp_path: Path) -> None:
    files = [
        source_file("mit.py", f"import os_mit\n{LONG}", license="MIT"),
        source_file("gpl.py", f"class gpl:\n{LONG}", license="GPL-3.0-only"),
    ]
    index = index_of(tmp_path, files, ngram_tokens=24, window=17)
    client = client_of(index, "block-nonpermissive", f"import os_mit\n{LONG}")

    choice = ask(client).json()["choices"][0]

    (blocked,) = [match for match in choice["starsmith"]["attribution"] if match["blocked"]]
    assert [source["license"] for source in blocked["sources"]] == ["GPL-3.0-only"]
    assert choice["finish_reason"] == "content_filter"
    assert len(TOKEN.findall(choice["text"].removeprefix("import os_mit").encode())) <= 64
