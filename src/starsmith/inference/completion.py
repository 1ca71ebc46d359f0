"""Text in, text out: a prompt around the cursor, decoding as it goes, and stop strings that are never shown.

For a session, that is one file in one editor, a completion is also remembered, and typing it costs no call of the
model. A prompt that does not fit beside max_tokens loses what is far from the cursor, and never a control token: see
`inference.windows` for texts and `fim.shorten_prompt` for prompts that came with their control tokens.
"""

import codecs
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from starsmith.inference.drafting import Lookup, drafter_of
from starsmith.inference.engine import (
    Drafter,
    Engine,
    GeneratedToken,
    GenerationRequest,
    SamplingParams,
    never,
)
from starsmith.inference.trimming import NO_MANNERS, Manners, Trimmer
from starsmith.inference.typing_along import Ended, Place, Rest, Suggestion, TypingAlong, place_of
from starsmith.inference.windows import Windows
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import END_OF_TEXT, FILE_SEP, Tokenizer

FinishReason = Literal["stop", "length", "cancelled"]

REPOSITORY_SHARE = 3  # other files have at most this part of a prompt, one third, whatever the cursor's file leaves


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """What to complete, and how."""

    prefix: str | Sequence[int]  # text or ids before the cursor
    suffix: str | None = None  # text after it: fill in the middle; None: continue the prefix
    special_tokens: bool = False  # read control tokens in the prefix text, as editors that build prompts write them
    layout: fim.PromptLayout = "psm"
    repository: fim.Repository | None = None  # of the file; for a request with a suffix
    stop: tuple[str, ...] = ()  # the completion ends before the first of these
    manners: Manners = NO_MANNERS  # where else it ends
    session: str | None = None  # a newer request of the same one ends this one; None: never
    params: SamplingParams = field(default_factory=SamplingParams)


@dataclass(frozen=True)
class CompletionChunk:
    """A piece of a completion; the last one has the finish reason."""

    text: str
    tokens: tuple[GeneratedToken, ...] = ()  # none where the text is remembered
    finish_reason: FinishReason | None = None
    prompt_tokens: int = field(default=0, kw_only=True)
    cached_tokens: int | None = field(default=None, kw_only=True, compare=False)  # see `Completion`


@dataclass(frozen=True)
class Completion:
    """A whole completion."""

    text: str
    finish_reason: FinishReason
    tokens: tuple[GeneratedToken, ...]
    prompt_tokens: int
    # Of the prompt, not computed again; None: nobody told, as where nothing was written.
    cached_tokens: int | None = field(default=None, kw_only=True, compare=False)

    @property
    def completion_tokens(self) -> int:
        """Tokens that the model wrote, the one that ended it included."""
        return len(self.tokens)


class Completer:
    """An engine with the tokenizer of its model.

    drafting  guess ahead, from the prompt and from `lookup`; the text is the same, if the engine's steps are exact
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, *, drafting: bool = False, lookup: Lookup | None = None
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.counts: Counter[str] = Counter()  # completions, and those of them that cost no call of the model
        self._windows = Windows(tokenizer)
        self._memory = TypingAlong()
        self._drafting = drafting
        self._lookup = lookup
        self._context = lru_cache(maxsize=64)(self._encode_context)

    def prompt_ids(self, request: CompletionRequest) -> list[int]:
        """The ids after which the model writes; what does not fit beside max_tokens is left out far from the cursor."""
        budget = max(self.engine.context_tokens - request.params.max_tokens, self.engine.context_tokens // 2)
        budget = min(budget, self.engine.context_tokens - 1)  # where max_tokens is 0 the engine reads, no more
        if request.suffix is not None:
            return self._infill_ids(request, request.suffix, budget)
        if not isinstance(request.prefix, str):
            ids = list(request.prefix)
        elif request.special_tokens:
            ids = self.tokenizer.encode_prompt(request.prefix)
        else:
            ids = self.tokenizer.encode(request.prefix)
        return fim.shorten_prompt(ids, budget) or [END_OF_TEXT]  # after an end of text the model begins a new one

    def complete(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Completion:
        """The whole completion at once."""
        chunks = list(self.stream(request, cancelled))
        last = chunks[-1]
        assert last.finish_reason is not None
        return Completion(
            "".join(chunk.text for chunk in chunks),
            last.finish_reason,
            tuple(token for chunk in chunks for token in chunk.tokens),
            last.prompt_tokens,
            cached_tokens=last.cached_tokens,
        )

    def stream(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Iterator[CompletionChunk]:
        """The completion as it comes; text is held back while it may still be cut, or is part of a character."""
        prompt = self.prompt_ids(request)
        place = _place(request)
        self.counts["completions"] += 1
        if (rest := self._rest(request, place)) is not None:
            self.counts["typed_along"] += 1
            yield CompletionChunk(rest.text, (), rest.ended, prompt_tokens=len(prompt), cached_tokens=len(prompt))
            return
        written, ended = "", None
        try:
            for chunk in self._trimmed(prompt, request, cancelled):
                written, ended = written + chunk.text, chunk.finish_reason
                yield chunk
        finally:
            self._remember(request, place, written, ended)

    def _infill_ids(self, request: CompletionRequest, suffix: str, budget: int) -> list[int]:
        prefix = request.prefix if isinstance(request.prefix, str) else self.tokenizer.decode(request.prefix)
        context, path = self._context(request.repository, budget // REPOSITORY_SHARE)
        room = budget - len(context) - len(path) - (fim.MARKERS - 1)
        around = self._windows.around(prefix, suffix, room, request.layout)
        infill = fim.prompt([*path, *around.prefix], around.suffix, request.layout, typed=around.typed)
        return [*context, *infill]

    def _encode_context(self, repository: fim.Repository | None, budget: int) -> tuple[list[int], list[int]]:
        """What leads the prompt, and the path that leads the prefix."""
        if repository is None:
            return [], []
        path = [] if repository.name is None else fim.path_ids(self.tokenizer, repository.path)
        context = fim.repository_context(
            self.tokenizer, repository.name, repository.files, budget_tokens=budget - len(path) - 1
        )
        too_long = len(context) + len(path) + 1 > budget  # not even the names fit
        return ([], []) if too_long or not context else ([*context, FILE_SEP], path)

    def _rest(self, request: CompletionRequest, place: Place | None) -> Rest | None:
        """What is left of a suggestion that is being typed."""
        if place is None or request.session is None or not isinstance(request.prefix, str):
            return None
        repeats = request.params.temperature == 0 or request.params.seed is not None
        return self._memory.rest(request.session, request.prefix, place, repeats=repeats)

    def _remember(self, request: CompletionRequest, place: Place | None, text: str, ended: FinishReason | None) -> None:
        if place is not None and request.session is not None and (text or ended):
            known: Ended | None = None if ended == "cancelled" else ended
            self._memory.remember(request.session, Suggestion(place, text, known))

    def _drafter(self, request: CompletionRequest) -> Drafter | None:
        if not self._drafting:
            return None
        before, text = self._memory.latest(request.session) if request.session is not None else ("", "")
        # Encoded apart, as the cursor stood between them: what is typed of the text differs in its first tokens only.
        return drafter_of(self._lookup, [*self._windows.encode(before), *self._windows.encode(text)])

    def _trimmed(
        self, prompt: Sequence[int], request: CompletionRequest, cancelled: Callable[[], bool]
    ) -> Generator[CompletionChunk, None, None]:
        """The decoded text as far as the request's manners let it go."""
        if request.manners == NO_MANNERS:
            yield from self._decoded(prompt, request, cancelled)
            return
        prefix = request.prefix if isinstance(request.prefix, str) else self.tokenizer.decode(request.prefix)
        trimmer = Trimmer(request.manners, prefix, request.suffix or "")
        pending: list[GeneratedToken] = []
        with closing(self._decoded(prompt, request, cancelled)) as chunks:
            for chunk in chunks:
                pending += chunk.tokens
                text = trimmer.feed(chunk.text, final=chunk.finish_reason is not None)
                reason = chunk.finish_reason or ("stop" if trimmer.ended else None)
                if text or reason:
                    yield replace(chunk, text=text, tokens=tuple(pending), finish_reason=reason)
                    pending = []
                if reason:
                    return

    def _decoded(
        self, prompt: Sequence[int], request: CompletionRequest, cancelled: Callable[[], bool]
    ) -> Generator[CompletionChunk, None, None]:
        """The text of the tokens, up to the first stop string."""
        params = replace(request.params, stop_tokens=request.params.stop_tokens | fim.STOP_TOKENS)
        asked = GenerationRequest(prompt=prompt, params=params, session=request.session, drafter=self._drafter(request))
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        held, count, size = "", 0, len(prompt)
        pending: list[GeneratedToken] = []
        cached: int | None = None

        def chunk(text: str, reason: FinishReason | None) -> CompletionChunk:
            return CompletionChunk(text, tuple(pending), reason, prompt_tokens=size, cached_tokens=cached)

        for token in self.engine.generate(asked, cancelled):
            cached = token.cached_tokens if count == 0 else cached
            count += 1
            is_padding = token.id >= self.tokenizer.vocab_size  # of the embedding, which nothing was trained to write
            if not is_padding:
                pending.append(token)
            if is_padding or token.id in params.stop_tokens:
                yield chunk(held + decode(b"", final=True), "stop")
                return
            held += decode(self.tokenizer.decode_bytes([token.id]))
            if (end := _first_stop(held, request.stop)) is not None:
                yield chunk(held[:end], "stop")
                return
            safe = len(held) - _possible_stop(held, request.stop)
            if safe:
                yield chunk(held[:safe], None)
                held, pending = held[safe:], []
        finished = count >= params.max_tokens or size + count >= self.engine.context_tokens
        reason: FinishReason = "length" if finished else "cancelled"  # by its client, or by a newer request
        yield chunk(held + decode(b"", final=True), reason)


def _place(request: CompletionRequest) -> Place | None:
    """Where a request stands, if what is written there is to be remembered."""
    asks_for_tokens = request.params.top_logprobs is not None
    if request.session is None or request.suffix is None or asks_for_tokens or not isinstance(request.prefix, str):
        return None
    path = request.repository.path if request.repository else None
    manner = (request.params, request.layout, request.stop, request.manners, path)
    return place_of(request.prefix, request.suffix, manner)


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
