"""What a server asks of a model of which it knows only text: ours with its tokenizer, llama.cpp, or an upstream.

A vocabulary that is not ours has other ids, so beside a completion's text there are its tokens as text, and the ids
only where the backend tells them. `params.stop_tokens` are ids of our vocabulary: a foreign model knows its own ends.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from starsmith.inference.completion import Completion, CompletionChunk, CompletionRequest
from starsmith.inference.engine import never


class TextEngine(Protocol):
    """Implemented by `Completer` and by everything in `inference/backends/`; safe to call from several threads."""

    def stream(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Iterator[CompletionChunk]:
        """The completion as it comes; the last chunk, and only that, has the finish reason.

        Work stops within one step of `cancelled()`, and as soon as the iterator is closed.
        """
        ...

    def complete(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Completion:
        """The whole completion at once."""
        ...


@dataclass(frozen=True)
class TextToken:
    """One token as its model's own vocabulary spells it."""

    text: str
    id: int | None = None  # None: the backend does not tell
    logprob: float | None = None  # natural logarithm
    top_logprobs: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens as the backend counted them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None  # of the prompt, not computed again; None: the backend does not tell


@dataclass(frozen=True)
class TextChunk(CompletionChunk):
    """A chunk of a foreign model; `tokens` stays empty where the backend tells no ids."""

    text_tokens: tuple[TextToken, ...] = ()
    usage: Usage | None = None  # in the last chunk, if the backend tells


@dataclass(frozen=True)
class TextCompletion(Completion):
    """A completion of a foreign model."""

    text_tokens: tuple[TextToken, ...] = ()
    usage: Usage | None = None

    @property
    def completion_tokens(self) -> int:
        """Tokens as the backend counted them or, where it does not count, those that it showed."""
        return self.usage.completion_tokens if self.usage else len(self.text_tokens)


def join(chunks: Iterable[TextChunk]) -> TextCompletion:
    """All chunks of one stream in one piece."""
    parts = list(chunks)
    last = parts[-1]
    assert last.finish_reason is not None
    return TextCompletion(
        "".join(part.text for part in parts),
        last.finish_reason,
        tuple(token for part in parts for token in part.tokens),
        last.usage.prompt_tokens if last.usage else 0,
        cached_tokens=last.usage.cached_tokens if last.usage else None,
        text_tokens=tuple(token for part in parts for token in part.text_tokens),
        usage=last.usage,
    )
