"""A server that speaks OpenAI's completions (vLLM, llama-server, another Starsmith) as a `TextEngine`.

An infill is sent as `prompt` and `suffix` or, told the family of the model, as one prompt in its own format: vLLM,
for one, takes no suffix. The server's tokens are not known here, so a prompt's length is guessed from its characters,
and cut at its outer ends, never inside the format, until the server takes it.
"""

import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from starsmith.core.errors import ConfigError, EngineError, InputError, StarsmithError
from starsmith.inference.backends.assembly import Told, Wanted, assemble
from starsmith.inference.backends.errors import UpstreamError
from starsmith.inference.backends.event_streams import MISSING, EventClient, Timeouts, nonsense, parse_json
from starsmith.inference.backends.templates import Around, Template, fit
from starsmith.inference.completion import CompletionRequest, FinishReason
from starsmith.inference.engine import SamplingParams, never
from starsmith.inference.text_engine import TextChunk, TextCompletion, TextToken, Usage, join
from starsmith.tokenizer import fim

DONE = "[DONE]"
MOST_STOPS = 4  # what OpenAI takes; the others are looked for here
CHARACTERS_PER_TOKEN = 4  # of source code, rather more than less: too long is noticed, too short is not
SHRINK = 0.6  # of a prompt that was too long
TRIES = 8
TOO_LONG = ("context length", "context size", "context_length", "maximum model length", "max_model_len", "too long")
ENDS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """Which server, and how to ask it."""

    url: str  # with what stands before /completions, as http://gpu1:8000/v1
    model: str | None = None  # its name there; None: the only one that the server has
    template: Template | None = None  # None: the server takes a suffix
    key_variable: str | None = None  # environment variable that holds the key; a key is in no file and no argument
    context_tokens: int | None = None  # None: what the server says, if it does
    timeouts: Timeouts = field(default_factory=Timeouts)


class OpenAIBackend:
    """One upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self.name = upstream.url
        self._upstream = upstream
        headers = {"Authorization": f"Bearer {_key(upstream.key_variable)}"} if upstream.key_variable else None
        self._client = EventClient(upstream.url, name=upstream.url, headers=headers, timeouts=upstream.timeouts)
        self._model = upstream.model
        self._context_tokens = upstream.context_tokens

    def stream(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Generator[TextChunk]:
        """See `TextEngine.stream`."""
        if request.params.max_tokens and self._model is None:
            self.check()
        room = self._room(request)
        for tries_left in reversed(range(TRIES)):
            try:
                with closing(self._stream(request, room, cancelled)) as chunks:
                    yield from chunks
                return
            except InputError as error:  # comes before the first token, or not at all
                rendered = request.special_tokens and request.suffix is None  # it is sent as it is
                if not tries_left or rendered or not isinstance(request.prefix, str) or not _is_too_long(error):
                    raise
            room = int(SHRINK * min(room, _length(request)))

    def complete(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> TextCompletion:
        """See `TextEngine.complete`."""
        return join(self.stream(request, cancelled))

    def check(self) -> None:
        """Ask what models there are; raises EngineError if nobody answers sensibly."""
        try:
            models = parse_models(self._client.call("GET", "/models"), self.name)
        except InputError as error:
            raise UpstreamError(error.message, hint=error.hint) from None
        except UpstreamError as error:
            if error.status in MISSING and self._model is not None:
                return  # somebody is there, who just keeps no list
            raise
        self._learn(models)

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def _stream(self, request: CompletionRequest, room: int, cancelled: Callable[[], bool]) -> Generator[TextChunk]:
        def ask(ended: Callable[[], bool]) -> Generator[Told]:
            with closing(self._client.events("/completions", self._body(request, room), ended)) as events:
                try:
                    for data in events:
                        if data == DONE:
                            return
                        yield parse_event(data, self.name)
                except InputError as error:
                    raise self._explain(error, request) from None

        ends = self._upstream.template.ends if self._upstream.template else ()
        return assemble(ask, Wanted(request, ends, self.name), cancelled)

    def _body(self, request: CompletionRequest, room: int) -> dict[str, Any]:
        return {
            "model": self._model,
            **prompt_fields(request, self._upstream.template, room),
            **sampling_fields(request.params),
            "stop": [stop for stop in request.stop if stop][:MOST_STOPS],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _room(self, request: CompletionRequest) -> int:
        """Characters of the prompt that may fit."""
        if self._context_tokens is None:
            return _length(request)
        tokens = max(self._context_tokens - request.params.max_tokens, self._context_tokens // 2)
        return tokens * CHARACTERS_PER_TOKEN

    def _explain(self, error: InputError, request: CompletionRequest) -> StarsmithError:
        """The error again, or what is behind it: nobody who completes can mend a server that takes no suffix."""
        if request.suffix is None or self._upstream.template is not None or "suffix" not in error.message.lower():
            return error
        return EngineError(error.message, hint=f"name the family of its model, as in {self.name}#template=starcoder")

    def _learn(self, models: dict[str, int | None]) -> None:
        if self._upstream.model is None:  # asked each time: the server may have been started with another
            if len(models) != 1:
                hint = f"name one, as in {self.name}#model=NAME; it has: {', '.join(models) or 'none'}"
                raise EngineError(f"{self.name} has {len(models)} models, and none was named", hint=hint)
            self._model = next(iter(models))
        if self._upstream.context_tokens is None and self._model is not None:
            self._context_tokens = models.get(self._model)


def _length(request: CompletionRequest) -> int:
    return len(request.prefix) + len(request.suffix or "")


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {variable} is empty", hint="put the upstream's key into it")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"the environment variable {variable} holds no key", hint="a key is plain ASCII")
    return key


def _is_too_long(error: InputError) -> bool:
    return any(words in error.message.lower() for words in TOO_LONG)


def prompt_fields(request: CompletionRequest, template: Template | None, room: int) -> dict[str, Any]:
    """The prompt as the server takes it, cut to `room` characters at its outer ends."""
    if not isinstance(request.prefix, str):
        if request.suffix is not None:
            raise InputError("ids and a suffix: this backend has no tokenizer", hint="give the text before the cursor")
        return {"prompt": list(request.prefix)}
    if request.suffix is None:  # what somebody else's template made is not cut: its control tokens are inside
        return {
            "prompt": request.prefix if request.special_tokens else request.prefix[max(_length(request) - room, 0) :]
        }
    if template is None:
        around = fit(Around(request.prefix, request.suffix, ""), room)
        return {"prompt": around.before, "suffix": around.after}
    before, typed = fim.split_prefix(request.prefix, request.layout)
    return {"prompt": template.render(fit(Around(before, request.suffix, typed), room), request.layout)}


def sampling_fields(params: SamplingParams) -> dict[str, Any]:
    """What chooses tokens. Strict servers refuse what is not OpenAI's, so that goes along only if it is asked for."""
    optional = {"top_k": params.top_k, "seed": params.seed, "logprobs": params.top_logprobs}
    return {
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        **{name: value for name, value in optional.items() if value is not None},
    }


def parse_models(value: Any, name: str) -> dict[str, int | None]:
    """Names of the models in an answer to /models, with their contexts where it has them."""
    try:
        return {str(entry["id"]): _context_of(entry) for entry in value["data"]}
    except (TypeError, KeyError, AttributeError):
        raise nonsense(name, value) from None


def _context_of(entry: dict[str, Any]) -> int | None:
    found = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx")  # vLLM's, and llama-server's
    return found if isinstance(found, int) and found > 0 else None


def parse_event(data: str, name: str) -> Told:
    """One event of a streamed completion."""
    value = parse_json(data, name)
    if isinstance(value, dict) and value.get("error"):
        error = value["error"]
        message = error.get("message", error) if isinstance(error, dict) else error
        raise UpstreamError(f"{name} failed while it wrote: {str(message)[:200]}", hint="see its log")
    try:
        usage = _usage_of(value.get("usage"))
        if not value["choices"]:  # the last event, with the count
            return Told(usage=usage)
        (choice,) = value["choices"]
        text = choice["text"]
        tokens = _tokens_of(choice.get("logprobs"), choice.get("token_ids"))
        if not isinstance(text, str):
            raise TypeError(text)
        return Told(text=text, tokens=tokens, finish=_finish_of(choice.get("finish_reason"), name), usage=usage)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise nonsense(name, data) from None


def _finish_of(reason: Any, name: str) -> FinishReason | None:
    if reason is None or reason == "":
        return None
    if reason not in ENDS:
        raise UpstreamError(f"{name} ended the completion with {str(reason)[:80]!r}", hint="see its log")
    return ENDS[reason]


def _tokens_of(logprobs: Any, ids: Any) -> tuple[TextToken, ...]:
    """Tokens of a choice with their log-probabilities, in OpenAI's parallel lists."""
    if logprobs is None:
        return ()
    texts, values = logprobs["tokens"], logprobs["token_logprobs"]
    tops = logprobs.get("top_logprobs") or [None] * len(texts)
    known = ids if isinstance(ids, list) and len(ids) == len(texts) else [None] * len(texts)
    return tuple(
        TextToken(
            str(text),
            None if token_id is None else int(token_id),
            None if value is None else float(value),
            tuple((str(other), float(theirs)) for other, theirs in (top or {}).items()),
        )
        for text, token_id, value, top in zip(texts, known, values, tops, strict=True)
    )


def _usage_of(usage: Any) -> Usage | None:
    if usage is None:
        return None
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return Usage(
        prompt_tokens=int(usage["prompt_tokens"]),
        completion_tokens=int(usage["completion_tokens"]),
        cached_tokens=None if cached is None else int(cached),
    )
