"""Who writes completions: a model in this process, an OpenAI-compatible server, or a chat model behind one."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.evaluation.problem import Problem
from starsmith.evaluation.problem import Protocol as Drawing

if TYPE_CHECKING:
    from starsmith.inference.completion import CompletionRequest
    from starsmith.inference.text_engine import TextEngine

_FENCED = re.compile(r"^```[\w+-]*[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
CHAT_TIMEOUT_S = 600.0  # an answer comes in one piece


@dataclass(frozen=True)
class Written:
    """What came back."""

    text: str
    finish_reason: str
    truncated: bool = False


class Writer(Protocol):
    """Writes one sample; safe to call from several threads."""

    identity: str  # of the model, with everything about it that changes what it writes
    chat: bool

    def write(self, problem: Problem, drawing: Drawing, seed: int) -> Written:
        """One completion. Raises EngineError for what may go well another time."""
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...


class CompletionWriter:
    """A model that continues texts, ours or a server's.

    fits  whether a prompt fits the context beside so many tokens; None: the engine does not tell
    """

    chat = False

    def __init__(
        self,
        engine: "TextEngine",
        identity: str,
        *,
        fits: Callable[["CompletionRequest"], bool] | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.identity = identity
        self.close = close
        self._engine = engine
        self._fits = fits

    def write(self, problem: Problem, drawing: Drawing, seed: int) -> Written:
        """See `Writer.write`."""
        request = completion_request(problem, drawing, seed)
        found = self._engine.complete(request)
        return Written(found.text, found.finish_reason, self._fits is not None and not self._fits(request))


class ChatWriter:
    """A server that answers messages: the code is taken out of the first fenced block of the answer."""

    chat = True

    def __init__(self, call: Callable[[dict[str, Any]], Any], model: str, identity: str, close: Callable[[], None]):
        self.identity = identity
        self.close = close
        self._call = call
        self._model = model

    def write(self, problem: Problem, drawing: Drawing, seed: int) -> Written:
        """See `Writer.write`."""
        if problem.suffix is not None and problem.chat is None:
            raise InputError("a chat model cannot fill in", hint="leave --chat out, or choose another task")
        answer = self._call(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": problem.chat or problem.prompt}],
                "max_tokens": drawing.max_tokens,
                "temperature": drawing.temperature,
                "top_p": drawing.top_p,
                "seed": seed,
            }
        )
        return _chat_answer(answer, self.identity)


def _chat_answer(answer: Any, name: str) -> Written:
    from starsmith.inference.backends.event_streams import nonsense

    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
        return Written("" if text is None else str(text), str(choice.get("finish_reason") or "stop"))
    except (TypeError, KeyError, IndexError, AttributeError):
        raise nonsense(name, answer) from None


def code_in(text: str) -> str:
    """The code of an answer: its first fenced block, or all of it."""
    found = _FENCED.search(text)
    if found:
        return found.group(1)
    opened = text.partition("```")[2]  # an answer that was cut off inside its block
    return opened.partition("\n")[2] if opened else text


def completion_request(problem: Problem, drawing: Drawing, seed: int) -> "CompletionRequest":
    """The problem as the engines take it."""
    from starsmith.inference.completion import CompletionRequest
    from starsmith.inference.engine import SamplingParams

    params = SamplingParams(
        max_tokens=drawing.max_tokens, temperature=drawing.temperature, top_p=drawing.top_p, seed=seed
    )
    return CompletionRequest(
        prefix=problem.prompt,
        suffix=problem.suffix,
        layout="spm" if drawing.layout == "spm" else "psm",
        stop=(*drawing.stop, *problem.stop),
        params=params,
    )


def open_writer(target: str, *, chat: bool = False) -> Writer:
    """A checkpoint's directory, or the address of a server (settings behind a #, see inference.backends.targets)."""
    from starsmith.inference.backends.targets import SCHEMES

    if target.lower().startswith(SCHEMES):
        return _open_chat(target) if chat else _open_server(target)
    if chat:
        raise InputError(f"{target} is no address, and --chat asks a server", hint="give http://HOST:PORT/v1")
    return _open_directory(Path(target))


def _open_directory(path: Path) -> CompletionWriter:
    from starsmith.inference.completion import Completer
    from starsmith.inference.local import load_engine
    from starsmith.tokenizer.bpe import Tokenizer

    if not path.is_dir():
        fault = "is not a directory" if path.exists() else "does not exist"
        raise ArtifactError(f"{path} {fault}", hint="give a checkpoint's directory or an address: http://HOST:PORT/v1")
    engine = load_engine(path)  # which reads the requests of several threads in one step
    completer = Completer(engine, Tokenizer.load(path))

    def fits(request: "CompletionRequest") -> bool:
        tokens = sum(len(completer.tokenizer.encode(str(part))) for part in (request.prefix, request.suffix or ""))
        return tokens + request.params.max_tokens <= completer.engine.context_tokens

    return CompletionWriter(completer, identity_of(path), fits=fits, close=engine.close)


def _open_server(target: str) -> CompletionWriter:
    from starsmith.inference.backends.openai import OpenAIBackend
    from starsmith.inference.backends.targets import upstream_of

    backend = OpenAIBackend(upstream_of(target))
    return CompletionWriter(backend, target, close=backend.close)


def _open_chat(target: str) -> ChatWriter:
    import os

    from starsmith.inference.backends.event_streams import EventClient, Timeouts
    from starsmith.inference.backends.openai import parse_models
    from starsmith.inference.backends.targets import upstream_of

    upstream = upstream_of(target)
    key = os.environ.get(upstream.key_variable or "", "")
    headers = {"Authorization": f"Bearer {key}"} if key else None
    waits = Timeouts(check_s=max(CHAT_TIMEOUT_S, upstream.timeouts.first_token_s))
    client = EventClient(upstream.url, name=upstream.url, headers=headers, timeouts=waits)
    model = upstream.model
    if model is None:
        models = list(parse_models(client.call("GET", "/models"), upstream.url))
        if len(models) != 1:
            client.close()
            raise InputError(f"{upstream.url} has {len(models)} models", hint=f"name one: {upstream.url}#model=NAME")
        model = models[0]
    name = model
    return ChatWriter(lambda body: client.call("POST", "/chat/completions", body), name, target, client.close)


def identity_of(path: Path) -> str:
    """The id of a model artefact, or the digest of the files of a plain directory, wherever it lies."""
    try:
        return f"model {artifact.read(path).id}"
    except ArtifactError:
        pass
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.is_file() and file.suffix in (".json", ".safetensors", ".txt"):
            with file.open("rb") as stream:
                digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return f"files {digest.hexdigest()}"
