"""Holes in held-out files for a model to fill: chosen by a fixed rule, judged by exact match and by syntax."""

import difflib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from starsmith.core.records import SourceFile
from starsmith.evaluation.ngram import NGram
from starsmith.evaluation.syntax import parses
from starsmith.inference.completion import Completer, CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.tokenizer.fim import Layout

SHORTEST_LINE, SHORTEST_HOLE = 8, 3  # characters: less is a bracket or a keyword
COMPLETION_TOKENS = 48
_COMMENT = ("#", "//", "/*", "*", '"""', "'''", "--")


@dataclass(frozen=True)
class Hole:
    """The end of a line taken out of a file."""

    file: SourceFile
    start: int  # character offsets in the text
    end: int

    @property
    def prefix(self) -> str:
        """All before the hole."""
        return self.file.text[: self.start]

    @property
    def truth(self) -> str:
        """What was taken out."""
        return self.file.text[self.start : self.end]

    @property
    def suffix(self) -> str:
        """All after the hole, the line end first."""
        return self.file.text[self.end :]

    @property
    def line(self) -> int:
        """Line of the hole, from 1."""
        return self.file.text.count("\n", 0, self.start) + 1


@dataclass(frozen=True)
class Filled:
    """A hole and what was written into it."""

    hole: Hole
    layout: Layout
    completion: str
    finish_reason: str
    tokens: int

    @property
    def first_line(self) -> str:
        """What is judged: the completion up to its first line end."""
        return self.completion.split("\n", 1)[0]

    @property
    def exact(self) -> bool:
        """Equal to what was taken out, trailing spaces aside."""
        return self.first_line.rstrip() == self.hole.truth.rstrip()

    @property
    def similarity(self) -> float:
        """Ratio of matching characters (Ratcliff and Obershelp, as difflib computes it)."""
        return difflib.SequenceMatcher(None, self.first_line, self.hole.truth, autojunk=False).ratio()

    @property
    def valid(self) -> bool | None:
        """Whether the file parses with the completion in it; None where it is not checked or did not parse before."""
        if not parses(self.hole.file.language, self.hole.file.text):
            return None
        return parses(self.hole.file.language, self.hole.prefix + self.first_line + self.hole.suffix)


def by_hash(files: Sequence[SourceFile]) -> list[SourceFile]:
    """An order that depends on the files alone, and on nothing that a model did."""
    return sorted(files, key=lambda file: hashlib.sha256(file.swhid.encode()).digest())


def choose_holes(files: Sequence[SourceFile], count: int, *, whole_lines: bool = False) -> list[Hole]:
    """`count` holes, spread evenly over the files; fewer when the files have no more lines to cut.

    whole_lines  begin at the line's indentation, as after pressing Enter; else at a random place in the line
    """
    holes: list[Hole] = []
    rounds = [_holes_of(file, whole_lines) for file in by_hash(files)]
    while rounds and len(holes) < count:
        still = []
        for source in rounds:
            hole = next(source, None)
            if hole is not None:
                holes.append(hole)
                still.append(source)
        rounds = still
    return holes[:count]


def fill(completer: Completer, holes: Sequence[Hole], advance: Callable[[], None]) -> Iterator[Filled]:
    """Greedy completions, every other hole in the other layout."""
    params = SamplingParams(max_tokens=COMPLETION_TOKENS)
    for number, hole in enumerate(holes):
        layout: Layout = "spm" if number % 2 else "psm"
        request = CompletionRequest(prefix=hole.prefix, suffix=hole.suffix, layout=layout, params=params)
        found = completer.complete(request)
        yield Filled(hole, layout, found.text, found.finish_reason, found.completion_tokens)
        advance()


def fill_with_ngram(model: NGram, tokenizer: Tokenizer, holes: Sequence[Hole]) -> Iterator[Filled]:
    """The baseline: the n-gram's most probable continuation of the prefix, to the end of the line."""
    for hole in holes:
        ids = tokenizer.encode(hole.prefix[-200:])
        written: list[int] = []
        while len(written) < COMPLETION_TOKENS and "\n" not in tokenizer.decode(written):
            written.append(int(model.next_probabilities([*ids, *written]).argmax()))
        yield Filled(hole, "psm", tokenizer.decode(written), "length", len(written))


def _holes_of(file: SourceFile, whole_lines: bool) -> Iterator[Hole]:
    """Holes in one file, at most one a line, in an order fixed by its content."""
    seed = int.from_bytes(hashlib.sha256(file.sha256.encode()).digest()[:8], "big")
    random = np.random.Generator(np.random.Philox(seed))
    lines = file.text.splitlines(keepends=True)
    starts = np.cumsum([0, *map(len, lines)]).tolist()
    for number in random.permutation(len(lines)).tolist():
        content = lines[number].rstrip()
        first = len(content) - len(content.lstrip())
        if len(content) - first < SHORTEST_LINE or content.lstrip().startswith(_COMMENT):
            continue
        places = [first] if whole_lines else _places(content, first)
        start = places[int(random.integers(len(places)))]
        yield Hole(file, starts[number] + start, starts[number] + len(content))


def _places(content: str, first: int) -> list[int]:
    """Where the hole of a line may begin: at a character that is no space, with enough after it."""
    return [place for place in range(first, len(content) - SHORTEST_HOLE + 1) if not content[place].isspace()]
