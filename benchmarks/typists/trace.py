"""A person types parts of a real file: keys with pauses, slips taken back, second thoughts, jumps to other places.

Some runs of lines are missing at first. They are typed in turn, not always in one sitting, and at the end the file is
what it was. The same file and seed give the same keystrokes.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal["type", "delete", "jump"]
SLIPS = "etaoinsr_(.,"  # what is typed by mistake


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How the person types. Shares are of keys."""

    holes: int = 6  # runs of lines that are missing at first
    hole_lines: int = 3  # in the longest
    key_s: float = 0.13  # between two keys, median: about 90 words a minute
    key_spread: float = 0.5  # of its logarithm
    think_share: float = 0.05  # a longer pause follows
    think_s: float = 0.8  # its median
    slip_share: float = 0.03  # one to three wrong keys, taken back at once
    rethink_share: float = 0.015  # the last few keys are taken back and typed again
    leave_share: float = 0.4  # of holes: left in the middle, finished in a second sitting
    wait_share: float = 0.12  # the person waits for the suggestion


@dataclass(frozen=True)
class Keystroke:
    """A key was pressed, or the cursor moved."""

    kind: Kind
    before: str  # the document up to the cursor
    after: str  # and from it on
    pause_s: float  # nothing happens for so long
    waits: bool  # and then the person waits for what the editor suggests


@dataclass
class _Document:
    """A file with holes: the text around them stands, what is typed of them grows and shrinks at its end."""

    standing: list[str]  # one more than holes
    missing: list[str]
    typed: list[str]

    def around(self, hole: int) -> tuple[str, str]:
        pieces = [self.standing[number] + self.typed[number] for number in range(hole + 1)]
        rest = [self.standing[number] + self.typed[number] for number in range(hole + 1, len(self.missing))]
        return "".join(pieces), "".join(rest) + self.standing[-1]


def keystrokes(text: str, seed: int, habits: Habits | None = None) -> Iterator[Keystroke]:
    """All keystrokes until the file is whole."""
    habits = habits or Habits()
    draw = random.Random(seed)
    document = _with_holes(text, draw, habits)
    for hole, goal in _sittings(document.missing, draw, habits):
        yield _keystroke("jump", document, hole, draw, habits)
        for kind in _sitting(document, hole, goal, draw, habits):
            yield _keystroke(kind, document, hole, draw, habits)


def _with_holes(text: str, draw: random.Random, habits: Habits) -> _Document:
    """Runs of lines, from the first one's indentation to the last one's end; no two touch."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    taken: list[tuple[int, int]] = []
    for first in draw.sample(range(len(lines)), len(lines)):
        last = min(first + draw.randint(1, habits.hole_lines), len(lines)) - 1
        start = starts[first] + len(lines[first]) - len(lines[first].lstrip())
        end = starts[last] + len(lines[last].rstrip())
        if start < end and lines[first].strip() and all(end < other[0] or start > other[1] for other in taken):
            taken.append((start, end))
        if len(taken) == habits.holes:
            break
    taken.sort()
    borders = [0, *(place for span in taken for place in span), len(text)]
    pieces = [text[start:end] for start, end in pairwise(borders)]
    return _Document(pieces[::2], pieces[1::2], [""] * len(taken))


def _sittings(missing: Sequence[str], draw: random.Random, habits: Habits) -> list[tuple[int, int]]:
    """(hole, characters that are there at the end): every hole once, and those that were left again."""
    order = draw.sample(range(len(missing)), len(missing))
    left = {hole for hole in order if len(missing[hole]) > 1 and draw.random() < habits.leave_share}
    first = [(hole, len(missing[hole]) // 2 if hole in left else len(missing[hole])) for hole in order]
    return first + [(hole, len(missing[hole])) for hole in draw.sample(sorted(left), len(left))]


def _sitting(document: _Document, hole: int, goal: int, draw: random.Random, habits: Habits) -> Iterator[Kind]:
    """Change what is typed of a hole, key by key."""
    wanted, typed = document.missing[hole][:goal], document.typed

    def take_back(keys: int) -> Iterator[Kind]:
        for _ in range(keys):
            typed[hole] = typed[hole][:-1]
            yield "delete"

    while typed[hole] != wanted:
        if draw.random() < habits.slip_share:
            slips = draw.choices(SLIPS, k=draw.randint(1, 3))
            for slip in slips:
                typed[hole] += slip
                yield "type"
            yield from take_back(len(slips))
        typed[hole] += _next_key(wanted[len(typed[hole]) :])
        yield "type"
        if draw.random() < habits.rethink_share:
            yield from take_back(min(len(typed[hole]), draw.randint(3, 8)))


def _next_key(rest: str) -> str:
    """One character; after Enter the editor indents."""
    if rest[0] != "\n":
        return rest[0]
    after = rest[1:]
    return "\n" + after[: len(after) - len(after.lstrip(" \t"))]


def _keystroke(kind: Kind, document: _Document, hole: int, draw: random.Random, habits: Habits) -> Keystroke:
    median = habits.think_s if draw.random() < habits.think_share else habits.key_s
    pause = median * draw.lognormvariate(0, habits.key_spread)
    return Keystroke(kind, *document.around(hole), pause, kind == "type" and draw.random() < habits.wait_share)
