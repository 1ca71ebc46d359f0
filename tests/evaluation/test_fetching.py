"""A benchmark's file is fetched once, is the one that is known, and nothing is left of one that is not."""

import gzip
import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from starsmith.core.errors import InputError
from starsmith.evaluation import fetching
from starsmith.evaluation.benchmarks import tasks

NAME = "HumanEval.jsonl"
CONTENT = b'{"task_id": "one"}\n'


class Authors:
    """A server of files, and how often each was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                content = files.get(self.path)
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@pytest.fixture
def authors() -> Iterator[Authors]:
    files = {"/plain": CONTENT, "/packed.gz": gzip.compress(CONTENT), "/broken.gz": b"\x1f\x8b\x08nothing"}
    found = Authors(files)
    yield found
    found.server.shutdown()
    found.server.server_close()


def publish(monkeypatch: pytest.MonkeyPatch, url: str, digest: str | None) -> None:
    monkeypatch.setattr(fetching, "_published", lambda: {NAME: {"url": url, "sha256": digest}})


@pytest.mark.parametrize("path", ["/plain", "/packed.gz"])
@pytest.mark.parametrize("digest", [hashlib.sha256(CONTENT).hexdigest(), None])
def test_a_file_is_fetched_once(
    path: str, digest: str | None, authors: Authors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, authors.url(path), digest)

    first = fetching.kept_or_fetched(NAME, task="humaneval", folder=tmp_path)
    again = fetching.kept_or_fetched(NAME, task="humaneval", folder=tmp_path)

    assert first == again
    assert authors.asked == [path]
    assert fetching.read_content(first) == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == [first.name]


@pytest.mark.parametrize(
    ("path", "message"), [("/plain", "another HumanEval"), ("/gone", "404"), ("/broken.gz", "no gzip file")]
)
def test_another_file_is_refused_and_nothing_is_left(
    path: str, message: str, authors: Authors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, authors.url(path), "0" * 64)

    with pytest.raises(InputError, match=message):
        fetching.kept_or_fetched(NAME, task="humaneval", folder=tmp_path)

    assert not list(tmp_path.iterdir())


def test_without_a_network_the_file_and_the_way_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "http://127.0.0.1:9/nobody", None)

    with pytest.raises(InputError, match=r"needs the file HumanEval\.jsonl, and it could not be fetched") as error:
        fetching.kept_or_fetched(NAME, task="humaneval", folder=tmp_path)

    assert error.value.hint is not None
    assert "--data DIR" in error.value.hint


def test_the_published_files_are_those_that_tasks_read() -> None:
    wanted = {task.files[0] for task in tasks.TASKS.values()}
    published = fetching._published()

    assert wanted - set(published) == {"santacoder-fim-task.jsonl"}
    assert all(entry["url"] is not None and entry["url"].startswith("https://") for entry in published.values())


def test_the_known_contents_are_those_of_the_real_files() -> None:
    data = Path(__file__).parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"SKIPPED: {data} is not there")
    published = fetching._published()
    seen = 0
    for path in data.rglob("*.json*"):
        entry = published.get(path.name.removesuffix(".gz"), {"sha256": None})
        if entry["sha256"] is not None:
            assert hashlib.sha256(fetching.read_content(path)).hexdigest() == entry["sha256"]
            seen += 1

    assert seen >= 20
