"""Brackets and quotes without their partners, by a light rule that no grammar is needed for.

A string ends with its line: so a lone apostrophe, in a comment for example, spoils one line and no more.
"""

from dataclasses import dataclass

PAIRS = {")": "(", "]": "[", "}": "{"}
OPENERS = frozenset(PAIRS.values())
QUOTES = "\"'`"


@dataclass(frozen=True)
class Brackets:
    """What a text leaves open, and what it closes that it did not open."""

    closers: tuple[int, ...]  # where closing brackets and quotes stand that have no opening one in the text
    openers: str  # opening brackets that are not closed, the innermost last
    quote: str = ""  # of the string that the text ends in


def scan(text: str, quote: str = "") -> Brackets:
    """Find them in a text that begins inside a string, if a quote is given."""
    closers: list[int] = []
    openers: list[str] = []
    outer = bool(quote)  # the string was opened before the text
    escaped = False
    for place, character in enumerate(text):
        if escaped or (character == "\\" and quote):
            escaped = not escaped
        elif quote:
            if character == quote and outer:
                closers.append(place)
            if character in (quote, "\n"):
                quote, outer = "", False
        elif character in QUOTES:
            quote = character
        elif character in OPENERS:
            openers.append(character)
        elif character in PAIRS:
            if openers and openers[-1] == PAIRS[character]:
                openers.pop()
            elif not openers:
                closers.append(place)
    return Brackets(tuple(closers), "".join(openers), quote)


def leading_closers(text: str, quote: str = "") -> int:
    """How many closing brackets, and the quote of an open string, a text begins with."""
    start = 1 if quote and text.startswith(quote) else 0
    if quote and not start:
        return 0
    rest = text[start:]
    return start + len(rest) - len(rest.lstrip("".join(PAIRS)))
