"""Where a text is cut for infilling: at any two characters, at lines, or around a node of its syntax tree.

character  both ends uniform over the characters, as StarCoder2's. It teaches cuts inside a word; but the middle is a
           third of the text on average, hundreds of tokens, and a small model never learns where such a one ends.
line       from a cursor's place in a line to the end of that line or of one soon after: what an editor asks for. The
           line is uniform among those with text. The start is after the indentation half of the time, otherwise
           uniform in the line. The middle has n lines with text with probability 2**-n: two on average, so that most
           middles end within sight, and the end of the line is learnt as a place to stop.
node       a node of the syntax tree: the tree-sitter node at a uniformly chosen byte, or one of those around it, each
           as likely. A byte's ancestors go from a name over argument lists and statements to blocks and functions, so
           every size occurs up to half of the text, and the middle is something whole (Gong et al. 2025, arXiv
           2506.00204, found nodes better than characters in real edits). Needs a grammar; a text without one, or too
           long to parse, is cut at lines.

A place is a byte offset that does not divide a character. The choice is a function of the numbers that are handed in.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from starsmith.core.errors import ConfigError

if TYPE_CHECKING:
    from tree_sitter import Language, Node

CHARACTER, LINE, NODE = "character", "line", "node"
KINDS = (CHARACTER, LINE, NODE)
DEFAULT_CUTS: Mapping[str, float] = MappingProxyType({CHARACTER: 0.25, LINE: 0.5, NODE: 0.25})
SHARES = 3  # numbers in [0, 1) that one choice takes
PARSED_BYTES = 1 << 16  # a longer text is not parsed: at 7 MB/s this takes 10 ms
FEWEST_NODE_BYTES = 2  # of a node that is worth a hole: brackets and commas are not

# Linguist's name -> module of the grammar and the function in it.
_GRAMMARS = {
    "C": ("tree_sitter_c", "language"),
    "C++": ("tree_sitter_cpp", "language"),
    "Go": ("tree_sitter_go", "language"),
    "Java": ("tree_sitter_java", "language"),
    "JavaScript": ("tree_sitter_javascript", "language"),
    "Python": ("tree_sitter_python", "language"),
    "Rust": ("tree_sitter_rust", "language"),
    "TSX": ("tree_sitter_typescript", "language_tsx"),
    "TypeScript": ("tree_sitter_typescript", "language_typescript"),
}
_NEWLINE, _RETURN, _SPACE = b"\n\r "
_INDENT = b" \t"

Span = tuple[int, int]  # the middle: first byte, and after the last


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse a mix of cuts that cannot be drawn from."""
    for kind, weight in weights.items():
        if kind not in KINDS:
            raise ConfigError(f"cuts has {kind!r}, which is no place to cut at", hint=f"known: {', '.join(KINDS)}")
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"cuts {kind}={weight}: a weight is 0 or more", hint="for example line = 0.5")
    if sum(weights.values()) <= 0:
        raise ConfigError("cuts has no weight above 0", hint="for example cuts = { line = 1 }")


def check_grammars(weights: Mapping[str, float]) -> None:
    """Refuse cuts at nodes where the parsers are not installed, before hours of work and not within."""
    if not weights.get(NODE):
        return
    for module, _ in sorted(set(_GRAMMARS.values())):
        try:
            import_module(module)
            import_module("tree_sitter")
        except ImportError as error:
            raise ConfigError(
                f"cuts node={weights[NODE]} needs tree-sitter, which cannot be loaded: {error}",
                hint="install starsmith with its dependencies, or give cuts without node",
            ) from None


def kind_of(weights: Mapping[str, float], share: float) -> str:
    """The kind of cut for a number in [0, 1); each is as likely as its weight is of the sum."""
    names = [name for name in KINDS if weights.get(name, 0) > 0]
    borders = np.cumsum([weights[name] for name in names])
    return names[min(int(np.searchsorted(borders / borders[-1], share, "right")), len(names) - 1)]


def choose(text: bytes, *, kind: str, language: str, shares: Sequence[float]) -> Span:
    """The middle of a text, cut as `kind` says, or as the next simpler one where the text has no such place.

    shares  SHARES numbers in [0, 1)
    """
    span: Span | None = None
    if kind == NODE:
        span = at_nodes(text, language, shares)
    if kind == LINE or (kind == NODE and span is None):
        span = at_lines(text, shares)
    return span or at_characters(text, shares)


def at_characters(text: bytes, shares: Sequence[float]) -> Span:
    """Two uniformly chosen places; the middle may be empty, and so may what stands around it."""
    if text.isascii():
        first, second = sorted(int(share * (len(text) + 1)) for share in shares[:2])
        return first, second
    starts = np.flatnonzero((np.frombuffer(text, np.uint8) & 0xC0) != 0x80)
    places = np.append(starts, len(text))
    first, second = sorted(int(places[int(share * len(places))]) for share in shares[:2])
    return first, second


def at_lines(text: bytes, shares: Sequence[float]) -> Span | None:
    """From a cursor's place in a line to the end of that line or of one soon after, without the line's end itself."""
    data = np.frombuffer(text, np.uint8)
    starts, ends = _lines_with_text(data)
    if not len(starts):
        return None
    first = int(shares[0] * len(starts))
    more = int(-np.log2(1 - shares[1]))  # 0 with probability 1/2, 1 with 1/4, ...
    end = int(ends[min(first + more, len(ends) - 1)])
    line_start, line_end = int(starts[first]), int(ends[first])
    line = text[line_start:line_end]
    start = line_start + len(line) - len(line.lstrip(_INDENT))
    if shares[2] >= 0.5:
        start += int((2 * shares[2] - 1) * (line_end - start))
        while start > line_start and text[start] & 0xC0 == 0x80:
            start -= 1
    return start, end


def _lines_with_text(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First byte of each line that has more than white space, and the byte after its last, line ends left out."""
    if not len(data):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    newlines = np.flatnonzero(data == _NEWLINE)
    starts = np.concatenate(([0], newlines + 1))
    ends = np.append(newlines, len(data))
    if starts[-1] == len(data):
        starts, ends = starts[:-1], ends[:-1]
    visible = np.logical_or.reduceat(data > _SPACE, starts)
    starts, ends = starts[visible], ends[visible]
    return starts, ends - (data[ends - 1] == _RETURN)


def at_nodes(text: bytes, language: str, shares: Sequence[float]) -> Span | None:
    """The span of a syntax node; None without a grammar, and where the byte that was chosen stands in no node.

    The cost is the parser's, half a millisecond for 4 kB. A stretch of a file is parsed as it is: tree-sitter goes on
    after what it cannot read, and the nodes beyond that are whole.
    """
    if len(text) > PARSED_BYTES or not text or (grammar := _grammar(language)) is None:
        return None
    from tree_sitter import Parser

    place = int(shares[0] * len(text))
    root = Parser(grammar).parse(text).root_node
    spans = _spans_around(root.named_descendant_for_byte_range(place, place + 1), len(text))
    return spans[int(shares[1] * len(spans))] if spans else None


def _spans_around(node: "Node | None", size: int) -> list[Span]:
    """The spans of a node and of those around it, each once, up to half of the text; not what could not be parsed."""
    spans: list[Span] = []
    while node is not None and node.end_byte - node.start_byte <= size // 2:
        span = (node.start_byte, node.end_byte)
        if span[1] - span[0] >= FEWEST_NODE_BYTES and not node.is_error and span not in spans:
            spans.append(span)
        node = node.parent
    return spans


@cache
def _grammar(language: str) -> "Language | None":
    if language not in _GRAMMARS:
        return None
    from tree_sitter import Language

    module, function = _GRAMMARS[language]
    return Language(getattr(import_module(module), function)())
