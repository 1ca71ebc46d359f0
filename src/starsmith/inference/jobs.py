"""What a request makes of the logits that it gets: tokens of a text, or the scores of one.

Guesses (speculation, Leviathan et al. 2023, arXiv 2211.17192) are verified by choosing every token as if there were
none: while the choice is what was guessed, the next row of logits is the right one already. So neither a distribution
nor the text of a seed depends on them.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from starsmith.core.errors import StarsmithError
from starsmith.inference.engine import Drafter, GeneratedToken, SamplingParams, never
from starsmith.inference.sampling import choices, not_numbers
from starsmith.inference.scheduler import Job, Work

FIRST_GUESSES = 4
MOST_RESTS = 15  # steps without a guess, after many that were wrong
DRAFTED_PENDING = 64  # ids left to read at most when guesses are asked for: with more, this step will not use them

Outcome = Sequence[GeneratedToken] | StarsmithError | None  # the tokens of a step; None or an error is the last


@dataclass(eq=False, kw_only=True)
class Request(Job):
    """A job with somebody who waits for what comes of it."""

    put: Callable[[Outcome], None]
    cancelled: Callable[[], bool] = never
    abandoned: bool = False  # set by who asked, from any thread

    @abstractmethod
    def prepare(self, guesses: int) -> None:
        """Get ready for a step, in which so many guesses may be verified."""

    @abstractmethod
    def wanted(self, work: "Work[Request]") -> int:
        """Of how many of the last positions of a piece of work logits are wanted."""

    @abstractmethod
    def take(self, logits_NV: Tensor, work: "Work[Request]") -> bool:
        """Go on by what the wanted logits of a piece of work say; whether that was all."""


@dataclass(eq=False)
class DraftLength:
    """How many guesses pay: more while all come true, fewer when none does, and none for a while if that goes on."""

    length: int = FIRST_GUESSES
    failures: int = 0
    rests: int = 0

    def next(self) -> int:
        """Guesses for the coming step."""
        if self.rests:
            self.rests -= 1
            return 0
        return self.length

    def learn(self, proposed: int, accepted: int) -> None:
        """Take in what became of the guesses of a step."""
        if accepted:
            self.failures = 0
            self.length = max(self.length, 2 * proposed) if accepted == proposed else self.length
        elif proposed:
            self.failures += self.length == 1
            self.length = max(min(self.length, proposed) // 2, 1)
            self.rests = min(2**self.failures - 1, MOST_RESTS)


@dataclass(eq=False, kw_only=True)
class Generation(Request):
    """A request that writes, up to `end` ids with its prompt."""

    params: SamplingParams
    seed: int
    end: int
    vocab_size: int
    drafter: Drafter | None = None
    begun: bool = False  # something was written
    guessing: DraftLength = field(default_factory=DraftLength)
    proposed: int = 0
    accepted: int = 0

    @property
    def reusable(self) -> int:
        """All but the last: the logits behind it are not kept."""
        return len(self.ids) - 1

    def prepare(self, guesses: int) -> None:
        """Ask for guesses where this step can use them."""
        self.draft = ()
        left = self.left if self.lease is None else self.pending
        room = self.end - len(self.ids) - 1
        if self.drafter is None or room < 1 or left > DRAFTED_PENDING:
            return
        if limit := min(self.guessing.next(), guesses, room):
            self.draft = _tokens(self.drafter.propose(self.ids, limit)[:limit], self.vocab_size)

    def wanted(self, work: "Work[Request]") -> int:
        """None before the end of the prompt, nor there if only that is to be read."""
        return 1 + len(work.draft) if work.count == self.pending and len(self.ids) < self.end else 0

    def take(self, logits_NV: Tensor, work: "Work[Request]") -> bool:
        """Choose tokens, one and one more for every guess that came true."""
        if work.count < self.pending:
            return False
        tokens: list[GeneratedToken] = []
        chosen = choices(logits_NV, self.params, self.seed, len(self.ids))
        for token, guess in zip(chosen, (*work.draft, None), strict=False):
            tokens.append(token)
            self.ids.append(token.id)
            if token.id != guess or guess in self.params.stop_tokens:
                break
        if tokens and not self.begun:
            tokens[0], self.begun = replace(tokens[0], cached_tokens=self.reused), True
        self._learn(len(work.draft), max(len(tokens) - 1, 0))
        self.put(tokens)
        return len(self.ids) >= self.end or self.ids[-1] in self.params.stop_tokens

    def _learn(self, proposed: int, accepted: int) -> None:
        self.guessing.learn(proposed, accepted)
        self.proposed += proposed
        self.accepted += accepted


@dataclass(eq=False, kw_only=True)
class Scoring(Request):
    """A request for the log-probability of every target behind the ids up to it."""

    targets: Sequence[int]
    scores: list[float] = field(default_factory=list)

    @property
    def reusable(self) -> int:
        """What is scored: of the rest the logits are wanted, which only reading gives."""
        return len(self.scores)

    def prepare(self, guesses: int) -> None:
        """There is nothing to guess."""

    def wanted(self, work: "Work[Request]") -> int:
        """All."""
        return work.count

    def take(self, logits_NV: Tensor, work: "Work[Request]") -> bool:
        """Score the targets of the positions that were read; some may be scored already, before blocks ran out."""
        first = len(self.scores)
        targets_N = torch.tensor(self.targets[first : self.read + work.count], dtype=torch.int64)
        logprobs_NV = logits_NV[first - self.read :].float().log_softmax(-1)
        found = logprobs_NV.gather(1, targets_N[:, None])[:, 0]
        if not bool(found.isfinite().all()):
            raise not_numbers()
        self.scores += found.tolist()
        return len(self.scores) == len(self.ids)


def _tokens(guesses: Sequence[int], vocab_size: int) -> list[int]:
    """Guesses up to the first that is no token."""
    for place, guess in enumerate(guesses):
        if not 0 <= guess < vocab_size:
            return list(guesses[:place])
    return list(guesses)
