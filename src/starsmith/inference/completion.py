"""Text in, text out: a prompt around the cursor, decoding as it goes, and stop strings that are never shown."""

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from starsmith.inference.engine import Engine, GeneratedToken, SamplingParams, never
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import END_OF_TEXT, Tokenizer

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """What to complete, and how."""

    prefix: str | Sequence[int]  # text or ids before the cursor
    suffix: str | None = None  # text after it: fill in the middle; None: continue the prefix
    special_tokens: bool = False  # read control tokens in the prefix text, as editors that build prompts write them
    layout: fim.Layout = "psm"
    stop: tuple[str, ...] = ()  # the completion ends before the first of these
    params: SamplingParams = field(default_factory=SamplingParams)


@dataclass(frozen=True)
class CompletionChunk:
    """A piece of a completion; the last one has the finish reason."""

    text: str
    tokens: tuple[GeneratedToken, ...] = ()
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Completion:
    """A whole completion."""

    text: str
    finish_reason: FinishReason
    tokens: tuple[GeneratedToken, ...]
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        """Tokens that the model wrote, the one that ended it included."""
        return len(self.tokens)


class Completer:
    """An engine with the tokenizer of its model."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self.engine = engine
        self.tokenizer = tokenizer

    def prompt_ids(self, request: CompletionRequest) -> list[int]:
        """The ids after which the model writes; what does not fit beside max_tokens is left out far from the cursor."""
        budget = max(self.engine.context_tokens - request.params.max_tokens, self.engine.context_tokens // 2)
        if request.suffix is not None:
            prefix = request.prefix if isinstance(request.prefix, str) else self.tokenizer.decode(request.prefix)
            return fim.infill_prompt(
                self.tokenizer, prefix, request.suffix, budget_tokens=budget, layout=request.layout
            )
        if not isinstance(request.prefix, str):
            ids = list(request.prefix)
        elif request.special_tokens:
            ids = self.tokenizer.encode_prompt(request.prefix)
        else:
            ids = self.tokenizer.encode(request.prefix)
        return ids[-budget:] or [END_OF_TEXT]  # after an end of text the model begins a new one

    def complete(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Completion:
        """The whole completion at once."""
        prompt = self.prompt_ids(request)
        chunks = list(self._stream(prompt, request, cancelled))
        reason = chunks[-1].finish_reason
        assert reason is not None
        tokens = tuple(token for chunk in chunks for token in chunk.tokens)
        return Completion("".join(chunk.text for chunk in chunks), reason, tokens, len(prompt))

    def stream(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Iterator[CompletionChunk]:
        """The completion as it comes; text is held back while it may still be part of a stop string or character."""
        yield from self._stream(self.prompt_ids(request), request, cancelled)

    def _stream(
        self, prompt: Sequence[int], request: CompletionRequest, cancelled: Callable[[], bool]
    ) -> Iterator[CompletionChunk]:
        params = replace(request.params, stop_tokens=request.params.stop_tokens | fim.STOP_TOKENS)
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        held, count = "", 0
        pending: list[GeneratedToken] = []
        for token in self.engine.generate(prompt, params, cancelled):
            count += 1
            pending.append(token)
            if token.id in params.stop_tokens:
                yield CompletionChunk(held + decode(b"", final=True), tuple(pending), "stop")
                return
            held += decode(self.tokenizer.decode_bytes([token.id]))
            if (end := _first_stop(held, request.stop)) is not None:
                yield CompletionChunk(held[:end], tuple(pending), "stop")
                return
            safe = len(held) - _possible_stop(held, request.stop)
            if safe:
                yield CompletionChunk(held[:safe], tuple(pending))
                held, pending = held[safe:], []
        finished = count >= params.max_tokens or len(prompt) + count >= self.engine.context_tokens
        reason: FinishReason = "cancelled" if cancelled() and not finished else "length"
        yield CompletionChunk(held + decode(b"", final=True), tuple(pending), reason)


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string begins."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return min(places, default=None)


def _possible_stop(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` with which a stop string begins."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
