"""What an upstream sends becomes the chunks of a completion: ended where it was asked to, or a clear error.

Stop strings are looked for here, too: upstreams take four, or none, and some show the one they stop at.
"""

import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from starsmith.inference.backends.errors import UpstreamError
from starsmith.inference.completion import CompletionRequest, FinishReason
from starsmith.inference.engine import GeneratedToken, never
from starsmith.inference.text_engine import TextChunk, TextToken, Usage
from starsmith.inference.trimming import NO_MANNERS, Trimmer

USAGE_WAIT_S = 1.0  # after the end, for the count of tokens
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can write one, UTF-8 cannot
SPARE_EVENTS = 64  # beside four for each token: some servers say more than that they wrote one


@dataclass(frozen=True, kw_only=True)
class Told:
    """One event of an upstream, parsed."""

    text: str = ""
    tokens: tuple[TextToken, ...] = ()
    finish: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True)
class Wanted:
    """What the completion must keep to, whatever the upstream does."""

    request: CompletionRequest
    ends: tuple[str, ...]  # control tokens of the model, of which none may show
    name: str  # of the upstream, for errors

    @property
    def max_tokens(self) -> int:
        """Tokens that may be written."""
        return self.request.params.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts before which the completion ends."""
        return tuple(stop for stop in (*self.request.stop, *self.ends) if stop)

    def trimmer(self) -> Trimmer | None:
        """What keeps the manners that an editor asks for."""
        if self.request.manners == NO_MANNERS:
            return None
        prefix = self.request.prefix if isinstance(self.request.prefix, str) else ""
        return Trimmer(self.request.manners, prefix, self.request.suffix or "")


# Given a function that tells whether to end, the events until then.
Ask = Callable[[Callable[[], bool]], Generator[Told]]


class Writing:
    """The text of one completion as it may leave: none that may still be cut off."""

    def __init__(self, wanted: Wanted) -> None:
        self._stops = wanted.stops
        self._trimmer = wanted.trimmer()
        self._held = ""
        self._tokens: list[TextToken] = []
        self.seen = 0  # tokens that were shown
        self.usage: Usage | None = None
        self.finish: FinishReason | None = None

    def add(self, told: Told) -> TextChunk | None:
        """Take in an event; what can leave now, unless the end has come."""
        self.usage = told.usage or self.usage
        self.finish = told.finish or self.finish
        self.seen += len(told.tokens)
        self._tokens += told.tokens
        self._held += LONE_SURROGATE.sub("\ufffd", told.text)
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self._held, self.finish = self._held[: min(places)], "stop"
        return None if self.finish else self._take()

    def end(self, reason: FinishReason) -> TextChunk:
        """All that is left, and the end."""
        return self._chunk(self._trim(len(self._held), final=True), reason)

    def _take(self) -> TextChunk | None:
        text = self._trim(len(self._held) - self._possible_stop())
        if self._trimmer is not None and self._trimmer.ended:
            self._held, self.finish = text, "stop"
            self._trimmer = None  # it has said its word on what is held
            return None
        return self._chunk(text, None) if text else None

    def _trim(self, length: int, *, final: bool = False) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text if self._trimmer is None else self._trimmer.feed(text, final=final)

    def _chunk(self, text: str, reason: FinishReason | None) -> TextChunk:
        shown, self._tokens = tuple(self._tokens), []
        ids = [token.id for token in shown if token.id is not None]
        known = tuple(map(GeneratedToken, ids, [token.logprob for token in shown])) if len(ids) == len(shown) else ()
        size = self.usage.prompt_tokens if self.usage else 0
        usage = self.usage if reason else None
        return TextChunk(text, known, reason, prompt_tokens=size, text_tokens=shown, usage=usage)

    def _possible_stop(self) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0


def assemble(ask: Ask, wanted: Wanted, cancelled: Callable[[], bool] = never) -> Generator[TextChunk]:
    """The chunks of a completion, whose last one has the finish reason."""
    writing = Writing(wanted)
    if wanted.max_tokens == 0:
        yield writing.end("length")
        return
    late = _Deadline()
    events = ask(lambda: cancelled() or late.passed())
    try:
        for count, told in enumerate(events):
            if (chunk := writing.add(told)) is not None:
                yield chunk
            if writing.finish is None:
                _check_length(writing, wanted, count)
            elif writing.usage is not None or not told.finish:
                break
            else:
                late.set(USAGE_WAIT_S)  # the count comes next, if it comes
    except UpstreamError:
        if writing.finish is None:  # else the text was whole
            raise
    finally:
        events.close()
    if writing.finish is None and not cancelled():
        raise UpstreamError(f"{wanted.name} ended before the completion did", hint="see its log")
    yield writing.end(writing.finish or "cancelled")


def _check_length(writing: Writing, wanted: Wanted, count: int) -> None:
    if writing.seen > wanted.max_tokens or count > 4 * wanted.max_tokens + SPARE_EVENTS:
        seen = f"{wanted.name} writes on behind the {wanted.max_tokens} tokens that were asked for"
        raise UpstreamError(seen, hint="see whether it keeps to max_tokens")


class _Deadline:
    """A time that is set later, or never."""

    def __init__(self) -> None:
        self._at: float | None = None

    def set(self, wait_s: float) -> None:
        self._at = self._at or time.monotonic() + wait_s

    def passed(self) -> bool:
        return self._at is not None and time.monotonic() > self._at
