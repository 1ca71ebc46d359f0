import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from indexed import LONG, indexed
from scripted import ENDLESS, FIB, MODEL, ScriptedEngine, make_service, running, wait_for
from starsmith.provenance.completion_log import CompletionLog, check
from starsmith.serving.app import create_app
from starsmith.serving.clients import Client, digest_of
from starsmith.serving.prompt import editor_request
from starsmith.serving.service import Job, Service


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def records_of(log: Path) -> list[dict[str, Any]]:
    """The records of a log whose chain holds."""
    records: list[dict[str, Any]] = []
    assert check(log, each=records.append).fault is None
    return records


def service_with(log: Path, numbers: Path, answer: str = FIB, **fields: Any) -> Service:
    engine = ScriptedEngine(answer, context_tokens=4_096)
    policy = fields.pop("policy", "annotate")
    return make_service(engine, **indexed(numbers, policy), **{"log": CompletionLog.open(log), **fields})


def ask(service: Service, *bodies: dict[str, Any], **headers: str) -> list[Any]:
    with TestClient(create_app(service)) as client:
        return [client.post("/v1/completions", json=body, headers=headers) for body in bodies]


def test_every_choice_of_every_answer_is_a_line_with_digests_and_no_text(numbers: Path, tmp_path: Path) -> None:
    clients = {digest_of("secret token"): Client(name="alice")}
    bodies = [
        {"prompt": "x = ", "n": 2, "max_tokens": 64},
        {"prompt": "x = ", "suffix": "\n", "stream": True, "max_tokens": 64},
        {"segments": {"prefix": "x = ", "suffix": "\n"}},
    ]

    answers = ask(
        service_with(tmp_path / "log", numbers, clients=clients), *bodies, Authorization="Bearer secret token"
    )

    records = records_of(tmp_path / "log")
    assert [record["choice"] for record in records] == [0, 1, 0, 0]
    assert records[0]["id"] == records[1]["id"] == answers[0].json()["id"]
    assert records[3]["id"] == answers[2].json()["id"]
    for record in records:
        assert (record["client"], record["policy"], record["model"]["id"]) == ("alice", "annotate", MODEL)
        assert record["prompt_sha256"] == sha256("x = ")
        assert record["completion_sha256"] == sha256(FIB)
        assert record["index"] == answers[2].json()["choices"][0]["starsmith"]["index"]
        (match,) = record["matches"]
        assert (match["kind"], match["tokens"], match["licences"], match["blocked"]) == ("source", 7, ["MIT"], False)
        assert match["swhids"][0].startswith("swh:1:cnt:")
    assert ["suffix_sha256" in record for record in records] == [False, False, True, True]
    content = (tmp_path / "log").read_text()
    assert "fib" not in content
    assert "secret" not in content


def test_the_texts_are_kept_where_that_is_asked_for(numbers: Path, tmp_path: Path) -> None:
    ask(service_with(tmp_path / "log", numbers, log_text=True), {"segments": {"prefix": "x = ", "suffix": "\n"}})

    (record,) = records_of(tmp_path / "log")
    assert record["texts"] == {"prompt": "x = ", "suffix": "\n", "completion": FIB}


@pytest.mark.parametrize("stream", [False, True])
def test_of_a_blocked_answer_the_log_has_what_left_and_what_stood_against_the_rest(
    numbers: Path, tmp_path: Path, stream: bool
) -> None:
    service = service_with(tmp_path / "log", numbers, LONG, policy="block", log_text=True)

    ask(service, {"prompt": "x\n", "max_tokens": 2_000, "stream": stream})

    (record,) = records_of(tmp_path / "log")
    assert record["finish_reason"] == "content_filter"
    assert LONG.startswith(record["texts"]["completion"])
    assert [match["blocked"] for match in record["matches"]] == [True]


def test_where_nobody_looked_the_matches_are_null_and_not_none(tmp_path: Path) -> None:
    ask(make_service(log=CompletionLog.open(tmp_path / "log")), {"prompt": "x"})

    (record,) = records_of(tmp_path / "log")
    assert (record["matches"], record["policy"], record["client"]) == (None, "off", "anyone")


def test_of_a_stream_that_nobody_reads_to_its_end_the_log_has_what_left(tmp_path: Path) -> None:
    service = make_service(ScriptedEngine(ENDLESS), log=CompletionLog.open(tmp_path / "log"), log_text=True)
    stopped = False
    pieces = service.stream([Job(0, editor_request("x", ""))], lambda: stopped)

    seen = [next(pieces).text for _ in range(3)]
    stopped = True
    pieces.close()

    (record,) = records_of(tmp_path / "log")
    assert record["finish_reason"] == "cancelled"
    assert record["texts"]["completion"] == "".join(seen)


def test_a_refused_prompt_is_no_completion(tmp_path: Path) -> None:
    service = make_service(log=CompletionLog.open(tmp_path / "log"))

    (answer,) = ask(service, {"prompt": "x " * 600, "stream": True})

    assert answer.status_code == 400
    assert records_of(tmp_path / "log") == []


def test_a_completion_that_cannot_be_logged_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service(ScriptedEngine("a"), log=CompletionLog.open(tmp_path / "log"))

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with TestClient(create_app(service)) as client:
        whole = client.post("/v1/completions", json={"prompt": "x"})
        stream = client.post("/v1/completions", json={"prompt": "x", "stream": True})
    monkeypatch.undo()

    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "log_failed")
    assert "log_failed" in stream.text
    assert "[DONE]" not in stream.text
    assert records_of(tmp_path / "log") == []


@pytest.mark.slow
def test_lines_of_many_requests_at_once_are_one_chain_and_the_server_closes_the_log(
    numbers: Path, tmp_path: Path
) -> None:
    import threading
    import urllib.request

    service = service_with(tmp_path / "log", numbers)

    def send(url: str) -> None:
        body = json.dumps({"prompt": "x", "max_tokens": 8}).encode()
        request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=20).read()

    with running(service) as url:
        threads = [threading.Thread(target=send, args=(url,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert service.log is not None
        wait_for(lambda: service.log is not None and service.log.lines == 12)

    assert len(records_of(tmp_path / "log")) == 12
    CompletionLog.open(tmp_path / "log").close()
