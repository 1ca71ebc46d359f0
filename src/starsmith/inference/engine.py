"""The Engine protocol: token ids in, token ids out. It knows nothing of text, files or HTTP."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from starsmith.core.errors import ConfigError


def never() -> bool:
    """The `cancelled` of a request that nobody can cancel."""
    return False


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose tokens, and when to stop. Temperature 0 is greedy."""

    max_tokens: int = 64  # 0 only reads the prompt, so that a later request finds it read
    temperature: float = 0.0
    top_p: float = 1.0  # nucleus: the smallest set of tokens whose probability reaches this
    top_k: int | None = None  # only the k most probable tokens
    seed: int | None = None  # of the sampling; None draws a new one each time
    top_logprobs: int | None = None  # alternatives reported per token; None reports no probabilities
    stop_tokens: frozenset[int] = frozenset()  # generation ends after yielding one of these

    def __post_init__(self) -> None:
        if self.max_tokens < 0:
            raise ConfigError(f"max_tokens={self.max_tokens}: must not be negative", hint="give 1 or more")
        if not 0 <= self.temperature <= 100 or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"temperature={self.temperature}, top_p={self.top_p}: out of range",
                hint="temperature from 0 to 100, top_p above 0 and at most 1",
            )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k={self.top_k}: must be at least 1", hint="leave it out for all tokens")


@dataclass(frozen=True)
class GeneratedToken:
    """One token that an engine chose."""

    id: int
    logprob: float | None = None  # natural logarithm, under the unmodified distribution
    top_logprobs: tuple[tuple[int, float], ...] = ()
    # Of the prompt, not computed again: told with a request's first token. How it came, and no part of what it is.
    cached_tokens: int | None = field(default=None, compare=False, kw_only=True)


class Drafter(Protocol):
    """Guesses what a request will write. A right guess saves a step, a wrong one changes nothing."""

    def propose(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        """Up to `limit` guesses of the tokens after `ids` (prompt and what was written); may be empty.

        Called before a step, in the engine's thread, so it must be quick (under 0.2 ms). `ids` is not to be kept.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What an engine is asked to write."""

    prompt: Sequence[int]
    params: SamplingParams = field(default_factory=SamplingParams)
    session: str | None = None  # a newer request of the same session ends this one
    drafter: Drafter | None = None


class Engine(Protocol):
    """What a server, an evaluation or the command line asks of a model."""

    context_tokens: int  # prompt and completion together
    vocab_size: int

    def generate(self, request: GenerationRequest, cancelled: Callable[[], bool] = never) -> Iterator[GeneratedToken]:
        """Yield tokens until max_tokens, the end of the context, a stop token (yielded last) or `cancelled()`.

        Safe to call from several threads, and `cancelled` may be asked from any. Raises InputError for a prompt that
        leaves no room or has unknown ids, EngineError when the model fails at this request.
        """
        ...

    def score(self, ids: Sequence[int]) -> list[float]:
        """Natural log-probability of ids[1:], each given all before it: len(ids) - 1 values."""
        ...
