"""The manners of a completion in an editor: it ends with its block and says nothing that stands there already.

Each rule looks at the text so far and says where it has to end, if it does, and how much of it may leave whatever
comes next. What may yet be cut is held back, so that nothing that was shown is ever taken away.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

from starsmith.inference.brackets import PAIRS, leading_closers, scan

TAB_WIDTH = 4
CLOSERS = "".join(PAIRS)
LEAST_OVERLAP = 3  # characters: less of the suffix is repeated by chance
SAME_LINES = 2  # of a run of equal lines, or blocks of lines, so many are shown
BLOCK_LINES = 4  # lines of a block that may be repeated
_CONTINUES = re.compile(r"(?:else|elif|except|finally|catch|while|case|default)\b|[)\]}]")
_INSIDE_WORD = re.compile(r"\w\w")
_WORD = re.compile(r"\w*$")
_COPIES = 6  # of a part of a line in a row; in tables of numbers it may be more
_LOOP = re.compile(r"(?=([^\n]{2,24}?)\1{5})")
_LOOP_CHARACTERS = 400  # the last ones are looked through: what ended before has ended the text


@dataclass(frozen=True, kw_only=True)
class Manners:
    """Which rules hold. None does unless asked for: a plain API user gets what the model wrote."""

    end_of_block: bool = False  # end before a line that is indented less than the cursor's block
    no_repeated_suffix: bool = False  # end before what stands behind the cursor
    no_extra_closers: bool = False  # end before a closing bracket or quote that stands behind the cursor already
    no_repetition: bool = False  # end when the same lines come again and again

    @classmethod
    def of_editor(cls) -> "Manners":
        """All of them."""
        return cls(**{field.name: True for field in fields(cls)})


NO_MANNERS = Manners()


@dataclass(frozen=True)
class Cut:
    """Where a text ends, if it does, and how many of its characters may leave."""

    safe: int
    end: int | None = None


@dataclass(frozen=True)
class Cursor:
    """The lines around a cursor."""

    prefix: str
    suffix: str

    @cached_property
    def line(self) -> str:
        """What stands before the cursor in its line."""
        return self.prefix[self.prefix.rfind("\n") + 1 :]

    @cached_property
    def rest(self) -> str:
        """What stands behind it in its line."""
        return self.suffix.split("\n", 1)[0].rstrip()

    @cached_property
    def next_line(self) -> str:
        """The first line below that is not blank."""
        end = self.suffix.find("\n")
        below = self.suffix[end + 1 : end + 10_000].split("\n") if end >= 0 else []
        return next((line.rstrip() for line in below if line.strip()), "")

    @cached_property
    def indentation(self) -> int:
        """Columns of the cursor's line; where it is blank, the cursor's own."""
        return _columns(self.line)


Rule = Callable[[str, Cursor, bool], Cut]


class Trimmer:
    """Follows one completion."""

    def __init__(self, manners: Manners, prefix: str, suffix: str) -> None:
        self._cursor = Cursor(prefix, suffix)
        self._rules = [rule for name, rule in RULES.items() if getattr(manners, name)]
        self._text = ""
        self._sent = 0
        self.ended = False

    def feed(self, text: str, *, final: bool = False) -> str:
        """The completion goes on with `text`; returns what may leave now."""
        self._text += text
        cuts = [rule(self._text, self._cursor, final) for rule in self._rules]
        ends = [cut.end for cut in cuts if cut.end is not None]
        self.ended = bool(ends)
        # An end lies behind what has left; a rule that finds one late lets it go, and ends what follows.
        upto = min(ends) if ends else min((cut.safe for cut in cuts), default=len(self._text))
        upto = max(upto, self._sent)
        leaving = self._text[self._sent : upto]
        self._sent = upto
        return leaving


def end_of_block(text: str, cursor: Cursor, final: bool) -> Cut:
    """End before the first line that does not belong to the block which the cursor stands in, or begins."""
    content = len(text.rstrip())
    safe = len(text) if final and "\n" not in text[content:] else content
    lines = text.split("\n")
    opens = (cursor.line + lines[0]).rstrip().endswith((":", "{"))
    start, deeper = len(lines[0]) + 1, False
    for number, line in enumerate(lines[1:], 1):
        word = line.strip()
        columns = _columns(line)
        if word and (columns < cursor.indentation or (opens and deeper and columns <= cursor.indentation)):
            before = len(text[: start - 1].rstrip())
            is_whole = final or number < len(lines) - 1 or bool(_WORD.sub("", word))
            if not is_whole:
                return Cut(before)
            if columns < cursor.indentation or not _CONTINUES.match(word):
                return _closing_line(text, cursor, (start, before), final)
        deeper = deeper or bool(word and columns > cursor.indentation)
        start += len(line) + 1
    return Cut(safe, content if final and safe < len(text) else None)


def _closing_line(text: str, cursor: Cursor, place: tuple[int, int], final: bool) -> Cut:
    """The line that closes the cursor's block is its last one, unless it stands below already; any other is none."""
    start, before = place
    line, newline, _ = text[start:].partition("\n")
    if line.strip()[0] not in CLOSERS or _has_closer(cursor, line):
        return Cut(before, before)
    end = start + len(line.rstrip())
    return Cut(end, end) if newline or final else Cut(start + len(line))


def _has_closer(cursor: Cursor, line: str) -> bool:
    """Whether the next line of the suffix, or the rest of the cursor's, closes what this line closes."""
    below = cursor.next_line
    same = below.strip()[:1] == line.strip()[0] and _columns(below) == _columns(line)
    return same or cursor.rest.startswith(line.strip()[0])


def no_repeated_suffix(text: str, cursor: Cursor, final: bool) -> Cut:
    """End before the rest of the cursor's line, or before the line below, comes a second time."""
    same_line = _repeated_rest(text, cursor.rest, final)
    below = _repeated_line(text, cursor.next_line, final)
    ends = [cut.end for cut in (same_line, below) if cut.end is not None]
    return Cut(min(same_line.safe, below.safe), min(ends, default=None))


def _repeated_rest(text: str, rest: str, final: bool) -> Cut:
    if len(rest) < LEAST_OVERLAP or not any(map(str.isalnum, rest)):
        return Cut(len(text))
    if (place := text.find(rest)) >= 0 and not _is_inside_word(text, place):
        return Cut(place, place)
    overlap = next((size for size in range(min(len(rest), len(text)), 0, -1) if text.endswith(rest[:size])), 0)
    place = len(text) - overlap
    if not final:
        return Cut(place)
    has_word = overlap >= LEAST_OVERLAP and any(map(str.isalnum, rest[:overlap]))
    whole = not _is_inside_word(text, place) and not _is_inside_word(rest, overlap)
    return Cut(place, place) if has_word and whole else Cut(len(text))


def _is_inside_word(text: str, place: int) -> bool:
    return _INSIDE_WORD.match(text[max(place - 1, 0) : place + 1]) is not None


def _repeated_line(text: str, below: str, final: bool) -> Cut:
    if not below:
        return Cut(len(text))
    lines = text.split("\n")
    start = len(lines[0]) + 1
    for number, line in enumerate(lines[1:], 1):
        before = len(text[: start - 1].rstrip())
        is_last = number == len(lines) - 1
        if line.rstrip() == below and (final or not is_last) and not _is_own_closer(text[: start + len(line)], below):
            return Cut(before, before)
        if is_last and not final and (below.startswith(line) or line.rstrip() == below):
            return Cut(before)
        start += len(line) + 1
    return Cut(len(text))


def _is_own_closer(text: str, line: str) -> bool:
    """Whether a line of brackets closes what the text itself has opened."""
    return not line.strip(CLOSERS + " \t;,") and not any(place >= len(text) - len(line) for place in scan(text).closers)


def no_extra_closers(text: str, cursor: Cursor, _final: bool) -> Cut:
    """End before a closer for which the cursor's line has no opener left, as the rest of the line closes them."""
    before = scan(cursor.line)
    closing = leading_closers(cursor.rest, before.quote)
    if not closing:
        return Cut(len(text))
    allowed = max(len(before.openers) + len(before.quote) - closing, 0)
    closers = scan(text, before.quote).closers
    if len(closers) > allowed:
        return Cut(closers[allowed], closers[allowed])
    return Cut(len(text))


def no_repetition(text: str, _cursor: Cursor, final: bool) -> Cut:
    """End where a line or a few of them come for the third time in a row, or a part of a line for the sixth."""
    cuts = [_repeated_block(text, size, final) for size in range(1, BLOCK_LINES + 1)]
    ends = [cut.end for cut in cuts if cut.end is not None]
    begin = max(len(text) - _LOOP_CHARACTERS, 0)
    for loop in _LOOP.finditer(text, begin):
        if any(map(str.isalpha, loop[1])):
            ends.append(loop.start() + _COPIES * len(loop[1]))
    return Cut(min(cut.safe for cut in cuts), min(ends, default=None))


def _repeated_block(text: str, size: int, final: bool) -> Cut:
    """The same for blocks of `size` lines."""
    lines = text.split("\n")
    starts = [0]
    for line in lines[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    for place in range(SAME_LINES * size + 1, len(lines)):  # the first line is only a part of one
        block = lines[place - size : place]
        if (
            not any(len(line.strip()) >= LEAST_OVERLAP for line in block)
            or lines[place - 2 * size : place - size] != block
        ):
            continue
        again = lines[place : place + size]
        end = starts[place] - 1
        if again == block and (final or place + size < len(lines)):
            return Cut(end, end)
        is_growing = place + size >= len(lines) and again[:-1] == block[: len(again) - 1]
        if is_growing and not final and block[len(again) - 1].startswith(again[-1]):
            return Cut(end)
    return Cut(len(text))


def _columns(line: str) -> int:
    """The width of a line's indentation."""
    return len(line.expandtabs(TAB_WIDTH)) - len(line.expandtabs(TAB_WIDTH).lstrip())


RULES: dict[str, Rule] = {
    "end_of_block": end_of_block,
    "no_repeated_suffix": no_repeated_suffix,
    "no_extra_closers": no_extra_closers,
    "no_repetition": no_repetition,
}
