"""The Engine protocol: token ids in, token ids out. It knows nothing of text, files or HTTP."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from starsmith.core.errors import ConfigError


def never() -> bool:
    """The `cancelled` of a request that nobody can cancel."""
    return False


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose tokens, and when to stop. Temperature 0 is greedy."""

    max_tokens: int = 64
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


@dataclass(frozen=True)
class GeneratedToken:
    """One token that an engine chose."""

    id: int
    logprob: float | None = None  # natural logarithm, under the unmodified distribution
    top_logprobs: tuple[tuple[int, float], ...] = ()


class Engine(Protocol):
    """What a server, an evaluation or the command line asks of a model."""

    context_tokens: int  # prompt and completion together
    vocab_size: int

    def generate(
        self, prompt: Sequence[int], params: SamplingParams, cancelled: Callable[[], bool] = never
    ) -> Iterator[GeneratedToken]:
        """Yield tokens until max_tokens, the end of the context, a stop token (yielded last) or `cancelled()`.

        Safe to call from several threads; raises InputError when the prompt leaves no room for a token.
        """
        ...

    def score(self, ids: Sequence[int]) -> list[float]:
        """Natural log-probability of ids[1:], each given all before it: len(ids) - 1 values."""
        ...
