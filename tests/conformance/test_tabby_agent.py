"""The server against tabby-agent 1.5.0, the language server behind Tabby's editor plugins.

It is installed from npm. Without node or without the registry the tests are skipped.
"""

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from indexed import LONG, indexed, numbers_index
from npm import npm_package
from scripted import FIB, ScriptedEngine, make_service, running, wait_for
from starsmith.core.hashing import code_tokens

pytestmark = pytest.mark.slow

VERSION = "1.5.0"
CODE = "def fib(n):\n    if n < 2:\n        return n\n    \n\n\nprint(fib(10))\n"
CURSOR = {"line": 3, "character": 4}


@pytest.fixture(scope="module")
def agent() -> Path:
    """The agent's program, installed if need be."""
    return npm_package("tabby-agent", VERSION) / "dist" / "cli.js"


class LanguageServer:
    """The agent over stdio, in LSP's framing."""

    def __init__(self, process: "subprocess.Popen[bytes]", configuration: dict[str, Any]) -> None:
        self._process = process
        self._configuration = configuration
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def send(self, method: str, params: Any, number: int | None = None) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        self._write(message if number is None else {**message, "id": number})

    def ask(self, method: str, params: Any, number: int) -> Any:
        """Send a request and wait for its own answer; those of earlier requests are dropped."""
        self.send(method, params, number)
        while (answer := self._answers.get(timeout=60))["id"] != number:
            pass
        return answer["result"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        content = json.dumps(message).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(content) + content)
        self._process.stdin.flush()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream:
            while line := stream.readline():
                if not line.lower().startswith(b"content-length:"):
                    continue
                stream.readline()
                message = json.loads(stream.read(int(line.split(b":")[1])))
                if "id" in message and "method" not in message:
                    self._answers.put(message)
                elif "id" in message:
                    wanted = message["method"] == "workspace/configuration"
                    result = [self._configuration] if wanted else None
                    self._write({"jsonrpc": "2.0", "id": message["id"], "result": result})


@contextmanager
def editor(agent: Path, url: str, home: Path, token: str = "") -> Iterator[LanguageServer]:
    """The agent with one file open, as an editor would start it. It gets a home of its own, and may not phone."""
    settings = home / ".tabby-client" / "agent"
    settings.mkdir(parents=True)
    (settings / "config.toml").write_text(
        f'[server]\nendpoint = "{url}"\ntoken = "{token}"\n[anonymousUsageTracking]\ndisable = true\n'
    )
    configuration = {"server": {"endpoint": url, "token": token}, "anonymousUsageTracking": {"disable": True}}
    process = subprocess.Popen(
        ["node", str(agent), "--lsp", "--stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(home)},
    )
    server = LanguageServer(process, configuration)
    try:
        options = {
            "processId": None,
            "rootUri": None,
            "capabilities": {"textDocument": {"completion": {}}},
            "clientInfo": {"name": "starsmith-tests", "version": "1"},
            "initializationOptions": {"config": configuration},
        }
        server.ask("initialize", options, 0)
        server.send("initialized", {})
        document = {"uri": "file:///demo.py", "languageId": "python", "version": 1, "text": CODE}
        server.send("textDocument/didOpen", {"textDocument": document})
        yield server
    finally:
        server.close()


def completion_at(place: dict[str, int]) -> dict[str, Any]:
    return {"textDocument": {"uri": "file:///demo.py"}, "position": place, "context": {"triggerKind": 1}}


def texts(result: Any) -> list[str]:
    return [item["textEdit"]["newText"] for item in (result["items"] if isinstance(result, dict) else result)]


@pytest.mark.parametrize("token", ["", "secret"])
def test_a_completion_arrives_in_the_editor(agent: Path, tmp_path: Path, token: str) -> None:
    engine = ScriptedEngine(FIB)

    with (
        running(make_service(engine, token=token or None)) as url,
        editor(agent, url, tmp_path, token) as server,
    ):
        result = server.ask("textDocument/completion", completion_at(CURSOR), 1)

    assert texts(result) == [FIB]
    assert len(engine.prompts) == 1


def test_a_blocked_completion_arrives_as_far_as_it_may_leave(agent: Path, tmp_path: Path) -> None:
    lines = LONG.splitlines(keepends=True)
    document = "".join(lines[:6])
    engine = ScriptedEngine("".join(lines[6:]), context_tokens=4_096)
    fields = indexed(numbers_index(tmp_path / "numbers"), "block")

    with running(make_service(engine, **fields)) as url, editor(agent, url, tmp_path) as server:
        change = {"textDocument": {"uri": "file:///demo.py", "version": 2}, "contentChanges": [{"text": document}]}
        server.send("textDocument/didChange", change)
        result = server.ask("textDocument/completion", completion_at({"line": 6, "character": 0}), 1)

    (text,) = texts(result)
    assert text
    assert "".join(lines[6:]).startswith(text)
    assert len(code_tokens((document + text).encode())) <= 64


def test_with_a_wrong_token_the_agent_lives_and_shows_nothing(agent: Path, tmp_path: Path) -> None:
    with (
        running(make_service(token="secret")) as url,
        editor(agent, url, tmp_path, "wrong") as server,
    ):
        assert texts(server.ask("textDocument/completion", completion_at(CURSOR), 1)) == []
        assert texts(server.ask("textDocument/completion", completion_at(CURSOR), 2)) == []


def test_of_a_burst_of_typing_only_the_last_request_is_decoded_to_its_end(agent: Path, tmp_path: Path) -> None:
    long = " + ".join(f"fib(n - {number})" for number in range(1, 40))
    engine = ScriptedEngine(long, delay_s=0.03)  # an answer of 64 tokens takes two seconds
    typed = "return"

    with running(make_service(engine)) as url, editor(agent, url, tmp_path) as server:
        place = dict(CURSOR)
        for number, character in enumerate(typed):
            server.send("textDocument/completion", completion_at(place), 100 + number)
            sent = number + 1
            wait_for(lambda: len(engine.prompts) == sent)  # noqa: B023 called at once
            edit = {"range": {"start": dict(place), "end": dict(place)}, "text": character}
            document = {"uri": "file:///demo.py", "version": 2 + number}
            server.send("textDocument/didChange", {"textDocument": document, "contentChanges": [edit]})
            place["character"] += 1
        result = server.ask("textDocument/completion", completion_at(place), 1)

    assert texts(result)
    assert len(engine.prompts) == len(typed) + 1
    assert engine.decoded < 64 * 3  # without watching the socket: 64 for each of the seven
