"""The two servers that an editor asks while a person types, each in a process of its own, and how each is asked.

Both stream, are greedy, and are given the same text on both sides of the cursor.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

START_S = 300.0
LLAMA_SCRIPT = Path(__file__).with_name("llama_server.py")


@dataclass(frozen=True)
class Told:
    """What one event of a stream says."""

    text: str = ""
    written: int | None = None  # tokens of the completion, in the last event
    prompt: int | None = None  # tokens of the prompt
    recomputed: int | None = None  # of them read anew


class Manners(Protocol):
    """How a server is asked."""

    name: str
    path: str

    def body(self, before: str, after: str, user: str, tokens: int) -> dict[str, Any]:
        """The request at a cursor."""
        ...

    def told(self, event: Mapping[str, Any]) -> Told:
        """What an event says."""
        ...


class OpenAI:
    """Ours: OpenAI's completions with a suffix."""

    name, path = "starsmith", "/v1/completions"

    def body(self, before: str, after: str, user: str, tokens: int) -> dict[str, Any]:
        """See `Manners`."""
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        return {"prompt": before, "suffix": after, "user": user, "max_tokens": tokens, "temperature": 0, **streamed}

    def told(self, event: Mapping[str, Any]) -> Told:
        """See `Manners`."""
        if "error" in event:
            raise SystemExit(f"starsmith serve: {event['error']}")
        text = "".join(choice["text"] for choice in event["choices"])
        if not (usage := event.get("usage")):
            return Told(text)
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        recomputed = None if cached is None else usage["prompt_tokens"] - cached
        return Told(text, usage["completion_tokens"], usage["prompt_tokens"], recomputed)


class Infill:
    """llama-server's own `/infill`."""

    name, path = "llama-server", "/infill"

    def body(self, before: str, after: str, user: str, tokens: int) -> dict[str, Any]:
        """See `Manners`."""
        del user  # it tells its users apart by their prompts
        greedy = {"temperature": 0, "samplers": ["top_k"], "top_k": 1}
        return {"input_prefix": before, "input_suffix": after, "n_predict": tokens, "stream": True, **greedy}

    def told(self, event: Mapping[str, Any]) -> Told:
        """See `Manners`."""
        if "error" in event:
            raise SystemExit(f"llama-server: {event['error']}")
        if not event.get("stop"):
            return Told(event["content"])
        timings = event["timings"]
        return Told(event["content"], event["tokens_predicted"], event["tokens_evaluated"], timings["prompt_n"])


@dataclass(frozen=True)
class Address:
    """A running server."""

    manners: Manners
    host: str
    port: int


@contextmanager
def ours(model: Path, *, threads: int, options: Sequence[str]) -> Iterator[Address]:
    """`starsmith serve`."""
    command = [str(Path(sys.executable).with_name("starsmith")), "serve", str(model), "--port", "0", *options]
    with _running(command, threads) as (host, port):
        yield Address(OpenAI(), host, port)


@contextmanager
def llama(gguf: Path, *, threads: int, users: int) -> Iterator[Address]:
    """llama-server with a slot for each user."""
    command = [sys.executable, str(LLAMA_SCRIPT), str(gguf), str(threads), str(users)]
    with _running(command, threads) as (host, port):
        yield Address(Infill(), host, port)


@contextmanager
def _running(command: Sequence[str], threads: int) -> Iterator[tuple[str, int]]:
    """A server in a process, once it has told its address; ended at the end."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        try:
            yield _address(process, Path(log.name))
        finally:
            process.terminate()
            process.wait(60)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> tuple[str, int]:
    """The first address in what the server says."""
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < START_S:
        if found := re.search(r"http://([\d.]+):(\d+)/", log.read_text(errors="replace")):
            return found[1], int(found[2])
        time.sleep(0.05)
    raise SystemExit(f"{process.args} did not start:\n{log.read_text(errors='replace')[-3000:]}")
