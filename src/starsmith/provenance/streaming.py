"""A completion that grows is attributed as it grows, so that a copy can be stopped before much of it has left.

What was looked up is not looked up again: of what came, only the tokens in which a new fingerprint may lie are, and
the whole text only once something was found there. The last word may still grow, so it counts when it is whole.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from starsmith.core.winnowing import Scan
from starsmith.provenance.attribution import Attributor, Match, characters_of

CONTEXT_CHARACTERS = 2_000  # of the text before the completion: a copy may begin before the cursor
MOST_TOKENS = 64  # of a match that may leave when it is to be blocked: GitHub Copilot reports 65 and more

Blocks = Callable[[Match], bool]

# A code token of characters, where `core.hashing.TOKEN` is one of bytes.
_TOKEN = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+|[!-/:-@\[-^`{-~]")


@dataclass(frozen=True)
class Release:
    """How much of a completion may leave, and the match that stands against more."""

    characters: int
    blocked_by: Match | None = None  # at offsets as `AttributionStream.matches` has them


class AttributionStream:
    """Follows one completion. Not for several threads."""

    def __init__(self, attributor: Attributor, before: str = "") -> None:
        self._attributor = attributor
        self._text = before[-CONTEXT_CHARACTERS:]
        self._context = len(self._text)
        self._tail = 0  # character from which on a look reads: a new fingerprint lies behind it
        self._unseen = 0  # code tokens, at most, that came since everything was looked for
        self._near: bool | None = None  # a stretch was found that may grow; None before the first look
        self._released = 0  # characters of the completion that have left: none is called back

    def feed(self, text: str) -> None:
        """The completion goes on with `text`."""
        self._text += text
        self._unseen += len(_TOKEN.findall(text))

    def matches(self) -> list[Match]:
        """Matches that reach into the completion; offsets count from its first character, and begin at 0 at least."""
        return [self._moved(match) for match in self._attributor.attribute(self._text, start=self._context)]

    def release(self, blocks: Blocks, *, tokens: int = MOST_TOKENS, final: bool = False) -> Release:
        """How much may leave, so that of no match that `blocks` holds against more than `tokens` tokens have left.

        Tokens of the match before the cursor count too. Until it is `final`, a last word that may become the next
        token of such a match is held back. What `blocks` begins to hold against only as it grows, a licence's wording
        that goes on as code, ends there: what has left has left. All this is for copies that the index finds in time:
        `tokens` must be more than its `guaranteed_tokens`.
        """
        release = self._decide(blocks, tokens, final=final)
        self._released = max(self._released, release.characters)
        return replace(release, characters=self._released)

    def _decide(self, blocks: Blocks, tokens: int, *, final: bool) -> Release:
        # A last word may still grow; it may have begun before the cursor. Stretches inside others count too: where a
        # permissive file has the text, another may have nearly as much of it.
        settled = len(self._text) if final else _word_start(self._text, len(self._text))
        everything = Release(len(self._text) - self._context)
        if self._near is None:
            before = _word_start(self._text, self._context)
            self._look(before)
            self._unseen = len(_TOKEN.findall(self._text, before))
        # Not every token is worth a look: a copy that the last one could not yet find may have grown by so many.
        is_due = final or self._unseen >= tokens - self._attributor.guaranteed_tokens
        if not (self._near or is_due) or not self._look(settled):
            return everything
        matches = self._attributor.attribute(self._text[:settled], start=self._tail, nested_tokens=tokens)
        held = [self._hold(match, tokens, settled, final=final) for match in matches if blocks(self._moved(match))]
        return min(held, key=lambda release: release.characters, default=everything)

    def _hold(self, match: Match, tokens: int, settled: int, *, final: bool) -> Release:
        """What may leave as far as this match goes."""
        everything = Release(len(self._text) - self._context)
        ends = [found.end() for found in _TOKEN.finditer(self._text, match.start, settled)]
        if len(ends) < tokens:
            return everything
        most = Release(max(ends[tokens - 1] - self._context, 0))
        if match.tokens > tokens and match.end > self._context:
            return replace(most, blocked_by=self._moved(match))
        # Its last token may be followed by another one that is equal. And of common code a few places are compared, so
        # a copy may go on where these do not: what lies in it then is known when the next fingerprint is whole.
        reach = 0 if match.kind == "source" else self._attributor.guaranteed_tokens
        may_grow = not final and len(ends) - match.tokens <= reach
        return most if may_grow else everything

    def _look(self, settled: int) -> bool:
        """Whether a stretch that the index has ends among the last tokens: in a copy, the next one overlaps it."""
        text = self._text[self._tail : settled]
        content = text.encode("utf-8", "surrogatepass")
        self._note(self._attributor.scan(content), content, settled)
        return bool(self._near)

    def _note(self, tokens: Scan, content: bytes, settled: int) -> None:
        """Look up what is new, and remember where the next look has to begin."""
        longest = self._attributor.guaranteed_tokens  # between the end of a fingerprint in a copy and that of the next
        near = len(tokens.starts) - longest
        self._near = any(stretch.end > near for stretch in self._attributor.find(tokens, content))
        if near > longest:  # the fingerprint that is near has to be found again
            begin = int(tokens.starts[near - longest])
            is_ascii = len(content) == settled - self._tail
            self._tail += begin if is_ascii else int(characters_of(content)[begin])
        self._unseen = int(settled < len(self._text))  # the last word is not looked at yet

    def _moved(self, match: Match) -> Match:
        start = max(match.start - self._context, 0)
        return replace(match, start=start, end=match.end - self._context)


def _word_start(text: str, end: int) -> int:
    """Where the word begins that ends at `end`; `end` itself where none does."""
    while end and (text[end - 1].isalnum() or text[end - 1] == "_" or text[end - 1] >= "\x80"):
        end -= 1
    return end
