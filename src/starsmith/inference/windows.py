"""The text around a cursor becomes token ids that stay the same from one keystroke to the next, wherever they can.

An engine computes what follows the first token that differs from the prompt before. So three things stay put:

Pieces. A text is encoded in pieces of about a line, each once. The places between are those where GPT-2's pattern
divides any text, behind a visible character and before white space, so that the ids are those of the whole text.
(A line end belongs to the indentation after it: "\\n    " is one token, and a piece begins with it.)

Ends. A window that does not reach the end of the text ends between two pieces: of those that fit and lie in its outer
quarter, at the one with the least hash, as winnowing chooses (Schleimer et al. 2003). That depends on the text alone,
neither on line numbers, which many editors do not send, nor on earlier requests, and while a text grows it stays for
an eighth of the window, and not one line.

Rooms. What the prefix leaves over is given to the suffix in steps of an eighth, and not token by token.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import Tokenizer

STEPS = 8  # of a window: the rooms of prefix and suffix change by one
OUTER = 4  # a window may end in its outer quarter
PIECE_CHARACTERS = 1024  # a longer line is divided anywhere, at multiples of this
CACHED_PIECES = 16_384  # of all sessions: some 2 MB of tokens, and their text


@dataclass(frozen=True)
class _Piece:
    ids: tuple[int, ...]
    rank: int  # a hash of the text


class Windows:
    """Encodes what stands around cursors. Safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._piece = lru_cache(maxsize=CACHED_PIECES)(self._encode_piece)

    def around(self, prefix: str, suffix: str, room: int, layout: fim.PromptLayout) -> fim.Around:
        """At most `room` tokens around the cursor: the suffix has a quarter, and what the prefix leaves over."""
        if room <= 0:
            return fim.Around((), ())
        before, typed = fim.split_prefix(prefix, layout)
        typed_ids = self.end_of(typed, room)
        room -= len(typed_ids)
        before_ids = self.end_of(before, room)
        step = max(room // STEPS, 1)
        suffix_room = max(room // 4, room - -(-len(before_ids) // step) * step)
        after_ids = self.start_of(suffix, suffix_room)
        if len(before_ids) + len(after_ids) > room:
            before_ids = self.end_of(before, room - len(after_ids))
        return fim.Around(before_ids, after_ids, typed_ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; those of pieces seen before are not computed again."""
        return self.start_of(text, len(text.encode("utf-8", "surrogatepass")))

    def end_of(self, text: str, room: int) -> list[int]:
        """The last `room` ids of a text, or some fewer; it costs what the window does, however long the text is."""
        pieces = _read(self._pieces(_backward(text)), room)
        if sum(len(piece.ids) for piece in pieces) <= room:
            return [token for piece in reversed(pieces) for token in piece.ids]
        whole = pieces[: _anchor(pieces, room)]
        if whole:
            return [token for piece in reversed(whole) for token in piece.ids]
        ids = pieces[0].ids  # the line at the cursor is larger than the window: it ends at a multiple of a step
        step = max(room // STEPS, 1)
        return list(ids[-(-(len(ids) - room) // step) * step :])

    def start_of(self, text: str, room: int) -> list[int]:
        """The first `room` ids of a text, or some fewer."""
        pieces = _read(self._pieces(_forward(text)), room)
        if sum(len(piece.ids) for piece in pieces) <= room:
            return [token for piece in pieces for token in piece.ids]
        whole = pieces[: _anchor(pieces, room)]
        return [token for piece in whole for token in piece.ids] if whole else list(pieces[0].ids[:room])

    def _pieces(self, texts: Iterator[str]) -> Iterator[_Piece]:
        return map(self._piece, texts)

    def _encode_piece(self, text: str) -> _Piece:
        return _Piece(tuple(self._tokenizer.encode(text)), zlib.crc32(text.encode("utf-8", "surrogatepass")))


def _read(pieces: Iterator[_Piece], room: int) -> list[_Piece]:
    """Pieces until they no longer fit, and that one."""
    taken: list[_Piece] = []
    size = 0
    while size <= room and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        size += len(piece.ids)
    return taken


def _anchor(pieces: Sequence[_Piece], room: int) -> int:
    """After how many pieces, from the cursor on, a window ends that has no room for all of them."""
    sizes = _sums(pieces)
    most = sum(size <= room for size in sizes)
    outer = [count for count in range(1, most + 1) if sizes[count - 1] > room - room // OUTER]
    # Two pieces make up the hash of the place between them: many a line stands in a file more than once.
    return min(outer, key=lambda count: (_mixed(pieces[count - 1], pieces[count]), count), default=most)


def _mixed(one: _Piece, other: _Piece) -> int:
    return (min(one.rank, other.rank) * 0x9E3779B1 ^ max(one.rank, other.rank) * 0x85EBCA6B) & 0xFFFFFFFF


def _sums(pieces: Sequence[_Piece]) -> list[int]:
    total, sums = 0, []
    for piece in pieces:
        total += len(piece.ids)
        sums.append(total)
    return sums


def _backward(text: str) -> Iterator[str]:
    """The pieces of a text from its end."""
    end = len(text)
    while end > 0:
        start = _place_before(text, end)
        for cut in reversed(range(start, end, PIECE_CHARACTERS)):
            yield text[cut:end]
            end = cut


def _forward(text: str) -> Iterator[str]:
    """The pieces of a text from its start."""
    start = 0
    while start < len(text):
        end = _place_after(text, start)
        for cut in range(start, end, PIECE_CHARACTERS):
            yield text[cut : min(cut + PIECE_CHARACTERS, end)]
        start = end


def _place_before(text: str, end: int) -> int:
    """The last place before `end` at which pieces meet, or the start of the text."""
    line = end
    while (line := text.rfind("\n", 0, line)) > 0:
        place = line - (text[line - 1] == "\r")
        if place > 0 and not text[place - 1].isspace():
            return place
    return 0


def _place_after(text: str, start: int) -> int:
    """The first place behind `start` at which pieces meet, or the end of the text."""
    line = start
    while (line := text.find("\n", line + 1)) > 0:
        place = line - (text[line - 1] == "\r")
        if place > start and not text[place - 1].isspace():
            return place
    return len(text)
