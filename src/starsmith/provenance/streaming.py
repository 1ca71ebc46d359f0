"""A completion that grows is attributed as it grows, so that a copy can be stopped before much of it has left.

What was looked up is not looked up again: of what came, only the tokens in which a new fingerprint may lie are, and
the whole text only once something was found there. The last word may still grow, so it counts when it is whole.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from starsmith.provenance.attribution import Attributor, Match, characters_of

CONTEXT_CHARACTERS = 2_000  # of the text before the completion: a copy may begin before the cursor
MOST_TOKENS = 64  # of a match that may leave when it is to be blocked: GitHub Copilot reports 65 and more
_LOOK_EVERY = 16  # characters, and so tokens at most, that may come before the next look

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
        self._looked = 0  # characters in which everything was looked for
        self._growing = False  # the last match found may still grow
        self._at_cursor: int | None = None  # code tokens of the longest copy to block that the cursor stands behind
        self._found: tuple[int, list[Match]] = (-1, [])  # characters that were attributed, and their matches

    def feed(self, text: str) -> None:
        """The completion goes on with `text`."""
        self._text += text

    def matches(self) -> list[Match]:
        """Matches that reach into the completion; offsets count from its first character, and begin at 0 at least."""
        return [self._moved(match) for match in self._attribute(len(self._text))]

    def release(self, blocks: Blocks, *, tokens: int = MOST_TOKENS, final: bool = False) -> Release:
        """How much may leave, so that of no match that `blocks` holds against more than `tokens` tokens have left.

        Tokens of the match before the cursor count too. Until it is `final`, a last word that may become the next
        token of such a match is held back. That holds for copies that the index finds in time: `tokens` must be more
        than its `guaranteed_tokens`.
        """
        settled = len(self._text) if final else self._settled()
        if self._at_cursor is None:
            self._at_cursor = self._tokens_at_cursor(blocks)
            self._growing = self._at_cursor > 0
        if self._growing and not final and not self._text[self._context : settled].strip():  # no whole word of it yet
            return Release(0 if self._at_cursor >= tokens else len(self._text) - self._context)
        if not self._growing and not self._look(settled, tokens, final=final):
            return Release(len(self._text) - self._context)
        matches = self._attribute(settled)
        last = self._text[:settled].rstrip()
        self._growing = any(match.end >= len(last) for match in matches)
        held = [self._hold(match, tokens, settled, final=final) for match in matches if blocks(self._moved(match))]
        return min(held, key=lambda release: release.characters, default=Release(len(self._text) - self._context))

    def _tokens_at_cursor(self, blocks: Blocks) -> int:
        """Of the code before the cursor, which may end within a word, the copy that the completion may go on with."""
        before = self._text[: self._context]
        end = len(before[: _word_start(before, len(before))].rstrip())
        found = self._attributor.attribute(before, start=max(end - 1, 0))
        return max((match.tokens for match in found if match.end >= end and blocks(self._moved(match))), default=0)

    def _hold(self, match: Match, tokens: int, settled: int, *, final: bool) -> Release:
        """What may leave as far as this match goes."""
        everything = len(self._text) - self._context
        if match.tokens > tokens:
            ends = [found.end() for found in _TOKEN.finditer(self._text, match.start, match.end)]
            return Release(max(ends[tokens - 1] - self._context, 0), self._moved(match))
        may_grow = not final and match.tokens == tokens and not self._text[match.end : settled].strip()
        return Release(max(match.end - self._context, 0)) if may_grow else Release(everything)

    def _look(self, settled: int, tokens: int, *, final: bool) -> bool:
        """Whether the tokens that came since the last look are part of a match; not every character is worth a look."""
        every = min(_LOOK_EVERY, tokens - self._attributor.guaranteed_tokens)
        if settled - self._looked < every and not final:
            return False
        text = self._text[self._tail : settled]
        content = text.encode("utf-8", "surrogatepass")
        found = self._attributor.scan(content)
        again = self._attributor.guaranteed_tokens - 1
        if len(found.starts) > again:
            first = int(found.starts[len(found.starts) - again])
            self._tail += first if len(content) == len(text) else int(characters_of(content)[first])
        self._looked = settled
        return bool(self._attributor.find(found, content))

    def _attribute(self, characters: int) -> list[Match]:
        """Matches that reach into the completion, in the first so many characters of context and completion."""
        if self._found[0] != characters:
            text = self._text[:characters]
            self._found = characters, self._attributor.attribute(text, start=self._context)
        return self._found[1]

    def _moved(self, match: Match) -> Match:
        start = max(match.start - self._context, 0)
        return replace(match, start=start, end=match.end - self._context)

    def _settled(self) -> int:
        """Where a last word that may still grow begins."""
        return max(_word_start(self._text, len(self._text)), self._context)


def _word_start(text: str, end: int) -> int:
    """Where the word begins that ends at `end`; `end` itself where none does."""
    while end and (text[end - 1].isalnum() or text[end - 1] == "_" or text[end - 1] >= "\x80"):
        end -= 1
    return end
