"""Everything that the filters and signals count in a text, from a few passes over its UTF-8 bytes.

`measure` takes 4 to 5 ns a byte, the patterns and `splitlines` that it stands for 200: runs of encoded data are looked
for by their far end, as Boyer and Moore look for words, so that most bytes are never seen.

Lines are those of `str.splitlines`. The three patterns of encoded data are those of the paper in their ASCII meaning
(`re.ASCII`): no letter or space outside ASCII is a word character or white space in them.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_BASE64, _HEX, _ESCAPE = 1, 2, 4  # bits of `_ALPHABETS`: bytes that occur in a run of that kind
_SHORTEST_BASE64, _SHORTEST_HEX, _SHORTEST_ESCAPES = 64, 23, 48  # bytes; hex: eight pairs with seven commas
_LEAST_PAIRS, _ESCAPE_BYTES = 8, 6

# How a byte outside strings and comments reads in a line of a table, `_PLAIN` meaning that the line is none.
_PLAIN, _PUNCTUATION, _QUOTE, _PREFIX, _DIGIT, _DOT, _HASH, _SLASH, _CONSTANT = range(9)
_CONSTANTS = b"None\0\0True\0\0False\0null\0\0true\0\0false\0"  # six bytes each
_CONSTANT_BYTES = 6


class Runs(NamedTuple):
    """Matches of a pattern, in characters."""

    longest: int
    total: int


class TextStatistics(NamedTuple):  # a tuple is made in a tenth of the time of a frozen dataclass
    """Counts over one text; lengths are in characters (code points)."""

    characters: int
    letters: int  # ASCII ones
    digits: int  # ASCII ones
    white_space: int  # ASCII: space, \t \n \v \f \r
    non_ascii: int
    punctuation: int  # ASCII: what is neither white space, control character nor part of a word
    lines: int  # at least 1
    blank_lines: int  # with nothing but ASCII white space
    longest_line: int
    longest_line_number: int  # from 1
    table_lines: int  # with nothing but strings, numbers, constants, punctuation and a comment at the end
    base64: Runs  # [a-zA-Z0-9+/\n=]{64,}
    hexadecimal: Runs  # (?:\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)){8,}
    escapes: Runs  # (?:\\u[0-9a-fA-F]{4}){8,}

    @property
    def mean_line(self) -> float:
        """Characters in a line, line ends included."""
        return self.characters / self.lines

    @property
    def white_space_share(self) -> float:
        """Of all characters."""
        return self.white_space / max(self.characters, 1)

    def alphabetic(self, text: str, *, enough: float, digits: bool = False) -> int:
        """Letters of `text` in any script, digits too where wanted; counting ends where ASCII alone has `enough`."""
        ascii_ones = self.letters + self.digits * digits
        if self.non_ascii == 0 or ascii_ones >= enough:
            return ascii_ones
        return sum(map(str.isalnum if digits else str.isalpha, text))


def measure(content: bytes) -> TextStatistics:
    """Count what is in a text, given as valid UTF-8."""
    counts, runs = _measure(np.frombuffer(content, np.uint8))
    return TextStatistics(*counts, *map(Runs._make, runs))


def _alphabets() -> Bytes:
    table = np.zeros(256, np.uint8)
    digits, hexadecimal = b"0123456789", b"0123456789abcdefABCDEF"
    letters = bytes(range(ord("a"), ord("z") + 1)) + bytes(range(ord("A"), ord("Z") + 1))
    for bit, alphabet in (
        (_BASE64, letters + digits + b"+/\n="),
        (_HEX, hexadecimal + b"x\\, \t\n\r\f\v"),
        (_ESCAPE, hexadecimal + b"\\u"),
    ):
        table[list(alphabet)] |= bit
    return table


def _line_ends() -> Bytes:
    """1 for the bytes that end a line, 2 for those that begin \\r\\n, U+0085, U+2028 and U+2029."""
    table = np.zeros(256, np.uint8)
    table[list(b"\n\v\f\x1c\x1d\x1e")] = 1
    table[[ord("\r"), 0xC2, 0xE2]] = 2
    return table


def _table_classes() -> Bytes:
    table = np.full(256, _PLAIN, np.uint8)
    table[list(b" \t\x1f[]{}(),:;=|&\\+-")] = _PUNCTUATION
    table[list(b"'\"")] = _QUOTE
    table[list(b"rbuRBU")] = _PREFIX
    table[list(b"0123456789")] = _DIGIT
    table[list(b"NTFntf")] = _CONSTANT
    table[[ord("."), ord("#"), ord("/")]] = _DOT, _HASH, _SLASH
    return table


def _word_bytes() -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[[byte for byte in range(128) if chr(byte).isalnum() or byte == ord("_")]] = True
    return table


_CONTINUES, _CONTINUATION = np.uint8(0xC0), np.uint8(0x80)  # of a byte within a character
_ALPHABETS, _LINE_ENDS, _TABLE_CLASSES, _IS_WORD = _alphabets(), _line_ends(), _table_classes(), _word_bytes()
_CONSTANT_TABLE = np.frombuffer(_CONSTANTS, np.uint8)


@njit(cache=True, nogil=True)
def _measure(data: Bytes) -> Any:
    """All that TextStatistics has: one call from Python, which costs as much as 2 kB of text."""
    characters = _characters(data)
    counts = characters + _lines(data, characters[0] == len(data))
    return counts, (_base64_runs(data), _hexadecimal_runs(data), _escape_runs(data))


@njit(cache=True, nogil=True)
def _characters(data: Bytes) -> Any:
    """Characters, ASCII letters, digits and white space, other characters, ASCII punctuation."""
    histogram = np.zeros((4, 256), np.int64)  # four, so that equal neighbours do not wait for each other
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        histogram[0, data[start]] += 1
        histogram[1, data[start + 1]] += 1
        histogram[2, data[start + 2]] += 1
        histogram[3, data[start + 3]] += 1
    for rest in range(whole, len(data)):
        histogram[0, data[rest]] += 1
    counts = histogram[0] + histogram[1] + histogram[2] + histogram[3]
    letters = counts[65:91].sum() + counts[97:123].sum()
    white_space = counts[9:14].sum() + counts[32]
    non_ascii = counts[192:].sum()
    digits, controls = counts[48:58].sum(), counts[:9].sum() + counts[14:32].sum() + counts[127]
    ascii_ones = counts[:128].sum()
    punctuation = ascii_ones - letters - digits - white_space - controls - counts[95]  # _ belongs to words
    return ascii_ones + non_ascii, letters, digits, white_space, non_ascii, punctuation


@njit(cache=True, nogil=True)
def _lines(data: Bytes, is_ascii: bool) -> Any:
    """Lines, blank lines, the longest line's characters and number, lines of tables."""
    lines, blank, longest, longest_number, table = 0, 0, 0, 1, 0
    start, position, size = 0, 0, len(data)
    while start < size:
        while position < size and _LINE_ENDS[data[position]] == 0:
            position += 1
        end, after = position, position + 1
        if position < size and _LINE_ENDS[data[position]] != 1:
            width = _wide_line_end(data, position)
            if width == 0:
                position += 1
                continue
            after = position + width
        lines += 1
        characters = end - start if is_ascii else _characters_between(data, start, end)
        if characters > longest:
            longest, longest_number = characters, lines
        first = start
        while first < end and (data[first] == 32 or data[first] == 9 or data[first] == 31):
            first += 1
        blank += first == end
        table += first < end and _TABLE_CLASSES[data[first]] != _PLAIN and _is_table_line(data, first, end)
        start = position = after
    if lines == 0:
        return 1, 1, 0, 1, 0
    return lines, blank, longest, longest_number, table


@njit(cache=True, nogil=True)
def _characters_between(data: Bytes, start: int, end: int) -> int:
    count = 0
    for byte in data[start:end]:  # so that numba counts many at a time, which it does not by position
        count += (byte & _CONTINUES) != _CONTINUATION
    return count


@njit(cache=True, nogil=True)
def _wide_line_end(data: Bytes, position: int) -> int:
    r"""The bytes of \r, \r\n, U+0085, U+2028 or U+2029 at `position`, 0 when something else is there."""
    left = len(data) - position
    if data[position] == 13:
        return 2 if left >= 2 and data[position + 1] == 10 else 1
    if left >= 2 and data[position] == 0xC2 and data[position + 1] == 0x85:
        return 2
    if left >= 3 and data[position] == 0xE2 and data[position + 1] == 0x80 and (data[position + 2] & 0xFE) == 0xA8:
        return 3
    return 0


@njit(cache=True, nogil=True)
def _is_table_line(data: Bytes, position: int, end: int) -> bool:
    """True when the bytes are literals and punctuation; most lines of code end this at their first letter."""
    literals = 0
    while position < end:
        kind = _TABLE_CLASSES[data[position]]
        if kind == _PUNCTUATION:
            position += 1
            continue
        following = data[position + 1] if position + 1 < end else 0
        if kind == _HASH or (kind == _SLASH and (following == 47 or following == 42)):  # / and *
            break
        position = _literal_end(data, position, end, kind)
        if position == 0:
            return False
        literals += 1
    return literals > 0


@njit(cache=True, nogil=True)
def _literal_end(data: Bytes, position: int, end: int, kind: int) -> int:
    """Where the string, number or constant that begins at `position` ends; 0 when none begins there."""
    following = _TABLE_CLASSES[data[position + 1]] if position + 1 < end else _PLAIN
    if kind == _QUOTE:
        return _string_end(data, position, end)
    if kind == _PREFIX:  # r"", Rb""
        quote = position + 2 if following == _PREFIX else position + 1
        return _string_end(data, quote, end) if quote < end and _TABLE_CLASSES[data[quote]] == _QUOTE else 0
    if kind == _DIGIT or (kind == _DOT and following == _DIGIT):
        return _number_end(data, position + 1, end)
    return _constant_end(data, position, end) if kind == _CONSTANT else 0


@njit(cache=True, nogil=True)
def _string_end(data: Bytes, position: int, end: int) -> int:
    quote = data[position]
    position += 1
    while position < end:
        if data[position] == quote:
            return position + 1
        position += 2 if data[position] == 92 else 1  # a backslash
    return 0


@njit(cache=True, nogil=True)
def _number_end(data: Bytes, position: int, end: int) -> int:
    """As C's preprocessor reads a number: letters, digits, dots, and a sign after e or p."""
    while position < end:
        byte = data[position]
        is_sign = (byte == 43 or byte == 45) and (data[position - 1] | 32) in (101, 112)  # + -, e p
        if not (_IS_WORD[byte] or byte == 46 or is_sign):
            break
        position += 1
    return position


@njit(cache=True, nogil=True)
def _constant_end(data: Bytes, position: int, end: int) -> int:
    length = 0
    while position + length < end and _IS_WORD[data[position + length]]:
        length += 1
    for start in range(0, len(_CONSTANT_TABLE), _CONSTANT_BYTES):
        same = 0
        while same < length and same < _CONSTANT_BYTES and data[position + same] == _CONSTANT_TABLE[start + same]:
            same += 1
        if same == length and _CONSTANT_TABLE[start + same] == 0:
            return position + length
    return 0


@njit(cache=True, nogil=True)
def _next_run(data: Bytes, start: int, bit: int, width: int) -> int:
    """Where the next `width` bytes of one alphabet begin, with another byte or `start` before; -1 for nowhere."""
    while start + width <= len(data):
        position = start + width - 1
        while position >= start and _ALPHABETS[data[position]] & bit:
            position -= 1
        if position < start:
            return start
        start = position + 1
    return -1


@njit(cache=True, nogil=True)
def _run_end(data: Bytes, position: int, bit: int) -> int:
    while position < len(data) and _ALPHABETS[data[position]] & bit:
        position += 1
    return position


@njit(cache=True, nogil=True)
def _base64_runs(data: Bytes) -> Any:
    longest, total = 0, 0
    start = _next_run(data, 0, _BASE64, _SHORTEST_BASE64)
    while start >= 0:
        end = _run_end(data, start + _SHORTEST_BASE64, _BASE64)
        longest, total = max(longest, end - start), total + end - start
        start = _next_run(data, end, _BASE64, _SHORTEST_BASE64)
    return longest, total


@njit(cache=True, nogil=True)
def _hexadecimal_runs(data: Bytes) -> Any:
    """A pair can be read one way only: a chain that is too short holds no longer one, and the search skips it."""
    longest, total = 0, 0
    start = _next_run(data, 0, _HEX, _SHORTEST_HEX)
    while start >= 0:
        end = _run_end(data, start + _SHORTEST_HEX, _HEX)
        while start + _SHORTEST_HEX <= end:
            pairs, stop = 0, start
            after = _pair_end(data, start)
            while after:
                pairs, stop = pairs + 1, after
                after = _pair_end(data, stop)
            if pairs >= _LEAST_PAIRS:
                longest, total = max(longest, stop - start), total + stop - start
            start = max(stop, start + 1) if pairs else start + 1
        start = _next_run(data, end, _HEX, _SHORTEST_HEX)
    return longest, total


@njit(cache=True, nogil=True)
def _pair_end(data: Bytes, position: int) -> int:
    r"""Where `\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)` ends when it begins at `position`; 0 when it does not."""
    size = len(data)
    before = position > 0 and _IS_WORD[data[position - 1]]
    if position + 2 > size or before == _IS_WORD[data[position]]:
        return 0
    if position + 4 <= size and data[position + 1] == 120 and (data[position] == 48 or data[position] == 92):  # 0x \x
        position += 2
    if not (_is_hexadecimal(data[position]) and _is_hexadecimal(data[position + 1])):
        return 0
    position += 2
    if position < size and data[position] == 44:  # a comma
        return position + 1
    if position < size and _IS_WORD[data[position]]:
        return 0
    while position < size and (data[position] == 32 or 9 <= data[position] <= 13):
        position += 1
    return position


@njit(cache=True, nogil=True, inline="always")
def _is_hexadecimal(byte: int) -> bool:
    return 48 <= byte <= 57 or 97 <= (byte | 32) <= 102


@njit(cache=True, nogil=True)
def _escape_runs(data: Bytes) -> Any:
    longest, total = 0, 0
    start = _next_run(data, 0, _ESCAPE, _SHORTEST_ESCAPES)
    while start >= 0:
        end = _run_end(data, start + _SHORTEST_ESCAPES, _ESCAPE)
        while start + _SHORTEST_ESCAPES <= end:
            stop = start
            while _is_escape(data, stop):
                stop += _ESCAPE_BYTES
            if stop - start >= _SHORTEST_ESCAPES:
                longest, total = max(longest, stop - start), total + stop - start
            start = max(stop, start + 1)
        start = _next_run(data, end, _ESCAPE, _SHORTEST_ESCAPES)
    return longest, total


@njit(cache=True, nogil=True)
def _is_escape(data: Bytes, position: int) -> bool:
    if position + _ESCAPE_BYTES > len(data) or data[position] != 92 or data[position + 1] != 117:
        return False
    digits = 2
    while digits < _ESCAPE_BYTES and _is_hexadecimal(data[position + digits]):
        digits += 1
    return digits == _ESCAPE_BYTES
