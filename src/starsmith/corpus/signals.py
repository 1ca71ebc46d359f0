"""Quality signals of a text, as columns for sampling: share of comments, lines, letters, tests, length of tokens.

Comments are found by a scanner that knows a family of languages by its markers and quotes, not its grammar: a regular
expression literal with a quote in it can hide the rest of its line, one with a backtick more. Of Python's docstrings
those in triple quotes count.
"""

import re
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.corpus.statistics import TextStatistics, _characters_between

Bytes = NDArray[np.uint8]

# Kinds of markers: what begins at one.
_LINE, _WORD_LINE, _BLOCK, _STRING, _LONG_STRING, _CHARACTER, _DOCSTRING = range(1, 8)
_WIDEST = 4  # bytes of a marker

_SLASHES = ((_LINE, b"//", b""), (_BLOCK, b"/*", b"*/"))
_QUOTES = ((_STRING, b'"', b'"'), (_STRING, b"'", b"'"))
_DOUBLE = ((_STRING, b'"', b'"'),)
_HASH = ((_LINE, b"#", b""),)
_HASH_WORD = ((_WORD_LINE, b"#", b""),)  # after white space only: `$#` and `${a#b}` of a shell are none
_DASHES = ((_LINE, b"--", b""),)

# The first marker that fits counts, so a longer one stands before a shorter one. (kind, opening, closing)
_FAMILIES: dict[tuple[str, ...], tuple[tuple[int, bytes, bytes], ...]] = {
    ("Python", "Cython", "Starlark", "Snakemake", "Sage", "Mojo"): (
        (_DOCSTRING, b'"""', b'"""'), (_DOCSTRING, b"'''", b"'''"), *_HASH, *_QUOTES),
    ("C", "C++", "C#", "Cuda", "HIP", "Objective-C", "Objective-C++", "Java", "Groovy", "Gradle", "GLSL", "HLSL"): (
        *_SLASHES, *_QUOTES),
    ("OpenCL", "Metal", "Protocol Buffer", "SCSS", "Less", "Solidity", "Verilog", "SystemVerilog", "D"): (
        *_SLASHES, *_DOUBLE),
    ("Rust", "Scala", "Kotlin", "Swift", "Zig", "Gradle Kotlin DSL"): (
        (_LONG_STRING, b'"""', b'"""'), *_SLASHES, *_DOUBLE, (_CHARACTER, b"'", b"'")),
    ("JavaScript", "TypeScript", "TSX", "Go", "Dart", "Vala"): (*_SLASHES, *_QUOTES, (_LONG_STRING, b"`", b"`")),
    ("CSS",): ((_BLOCK, b"/*", b"*/"), *_QUOTES),
    ("PHP", "HCL", "Thrift"): (*_SLASHES, *_HASH, *_QUOTES),
    ("Shell", "Makefile", "Dockerfile", "YAML", "Perl", "Raku", "Tcl", "CMake", "fish", "Awk", "BitBake"): (
        *_HASH_WORD, *_QUOTES),
    ("Ruby", "Crystal", "Elixir", "R", "Julia", "TOML", "Nim", "GDScript", "Nix", "Meson", "CoffeeScript"): (
        *_HASH, *_QUOTES),
    ("PowerShell",): ((_BLOCK, b"<#", b"#>"), *_HASH, *_QUOTES),
    ("SQL", "PLSQL", "PLpgSQL", "TSQL"): (*_DASHES, (_BLOCK, b"/*", b"*/"), *_QUOTES),
    ("Lua", "Luau"): ((_BLOCK, b"--[[", b"]]"), *_DASHES, (_LONG_STRING, b"[[", b"]]"), *_QUOTES),
    ("Haskell", "Elm", "PureScript", "Agda"): (
        (_BLOCK, b"{-", b"-}"), *_DASHES, *_DOUBLE, (_CHARACTER, b"'", b"'")),
    ("Ada", "VHDL"): (*_DASHES, *_DOUBLE, (_CHARACTER, b"'", b"'")),
    ("OCaml", "Standard ML", "Rocq Prover"): ((_BLOCK, b"(*", b"*)"), *_DOUBLE, (_CHARACTER, b"'", b"'")),
    ("Pascal",): ((_LINE, b"//", b""), (_BLOCK, b"{", b"}"), (_BLOCK, b"(*", b"*)"), (_STRING, b"'", b"'")),
    ("F#",): ((_LINE, b"//", b""), (_BLOCK, b"(*", b"*)"), *_DOUBLE, (_CHARACTER, b"'", b"'")),
    ("Common Lisp", "Scheme", "Racket"): ((_BLOCK, b"#|", b"|#"), (_LINE, b";", b""), *_DOUBLE),
    ("Emacs Lisp", "Clojure", "Fennel", "Assembly", "LLVM"): ((_LINE, b";", b""), *_DOUBLE),
    ("TeX", "BibTeX Style"): ((_CHARACTER, b"\\%", b""), (_LINE, b"%", b"")),
    ("Erlang", "Prolog", "PostScript"): ((_LINE, b"%", b""), *_DOUBLE),
    ("MATLAB",): ((_LINE, b"%", b""), *_DOUBLE),
    ("INI",): ((_WORD_LINE, b";", b""), *_HASH_WORD),
    ("Fortran Free Form",): ((_LINE, b"!", b""), *_QUOTES),
    ("Visual Basic .NET", "VBA", "VBScript"): ((_LINE, b"'", b""), *_DOUBLE),
    ("HTML", "XML", "SVG", "XSLT", "Markdown", "XML Property List", "Maven POM"): ((_BLOCK, b"<!--", b"-->"),),
}  # fmt: skip

_TEST_FOLDERS = frozenset(("test", "tests", "__tests__", "spec", "specs", "testing", "testdata", "e2e"))
_TEST_NAME = re.compile(r"^test_|^conftest\.py$|[._-](?:test|tests|spec)\.[a-z]+$|[a-z0-9](?:Test|Tests|Spec)\.[a-z]+$")
_TEST_FUNCTIONS = {
    "Python": ("def test_",),
    "Java": ("@Test",),
    "Kotlin": ("@Test",),
    "Go": ("\nfunc Test",),
    "C#": ("[Fact]", "[Test]", "[TestMethod]"),
    "C++": ("\nTEST(", "\nTEST_F(", "\nTEST_CASE("),
    "Ruby": ("RSpec.describe",),
    "PHP": ("extends TestCase",),
    "JavaScript": ("\ndescribe(",),
    "TypeScript": ("\ndescribe(",),
}


class Signals(NamedTuple):
    """The columns; their names are those of the corpus."""

    comment_ratio: float | None  # share of the characters in comments and docstrings; None: syntax not known
    average_line: float  # characters, line ends included
    longest_line: int  # characters
    alphabetic_share: float  # of ASCII letters, of all letters where these alone are below a quarter
    is_test: bool  # by its path, or by a test function in it
    characters_per_token: float | None  # code tokens of `core.hashing`: fertility without a tokenizer; None: no token


def signals(
    path: str, language: str | None, text: str, content: bytes, statistics: TextStatistics, words: int
) -> Signals:
    """The signals of one text; `content` is the text in UTF-8, `statistics` and the number of `words` are its."""
    characters = max(statistics.characters, 1)
    return Signals(
        comment_ratio=comment_ratio(language, content, statistics),
        average_line=statistics.mean_line,
        longest_line=statistics.longest_line,
        alphabetic_share=statistics.alphabetic(text, enough=characters / 4) / characters,
        is_test=is_test(path, language, text),
        characters_per_token=characters_per_token(statistics, words),
    )


def is_test(path: str, language: str | None, text: str) -> bool:
    """True for a path as tests have, and for a text with a test function."""
    *folders, name = path.split("/")
    if not _TEST_FOLDERS.isdisjoint(folders) or (("est" in name or "pec" in name) and _TEST_NAME.search(name)):
        return True
    return any(map(text.__contains__, _TEST_FUNCTIONS.get(language or "", ())))


def comment_ratio(language: str | None, content: bytes, statistics: TextStatistics) -> float | None:
    """Share of the characters that stand in comments; None where the language's comments are not known."""
    markers = _markers(language or "")
    if markers is None:
        return None
    data = np.frombuffer(content, np.uint8)
    return int(_comment_characters(data, *markers, statistics.non_ascii == 0)) / max(statistics.characters, 1)


def characters_per_token(statistics: TextStatistics, words: int) -> float | None:
    """Characters to a code token of `core.hashing`, a word or a sign; None for a text without tokens."""
    tokens = words + statistics.punctuation
    return statistics.characters / tokens if tokens else None


def visible_characters(content: bytes) -> int:
    """Characters of HTML outside tags, comments, scripts and style sheets; an entity is one character."""
    return int(_visible_characters(np.frombuffer(content, np.uint8)))


@cache
def _markers(language: str) -> tuple[Bytes, Bytes] | None:
    """Bytes that can begin a marker, and a row for each: kind, lengths of opening and closing, both padded."""
    for languages, markers in _FAMILIES.items():
        if language in languages:
            starts, rows = np.zeros(256, np.uint8), np.zeros((len(markers), 3 + 2 * _WIDEST), np.uint8)
            for row, (kind, opening, closing) in zip(rows, markers, strict=True):
                starts[opening[0]] = 1
                row[:3] = kind, len(opening), len(closing)
                row[3 : 3 + len(opening)] = list(opening)
                row[3 + _WIDEST : 3 + _WIDEST + len(closing)] = list(closing)
            return starts, rows
    return None


@njit(cache=True, nogil=True)
def _comment_characters(data: Bytes, starts: Bytes, markers: Bytes, is_ascii: bool) -> int:
    """Characters in comments, their markers included."""
    comments, position, size = 0, 0, len(data)
    last, before_last = 58, 58  # the last bytes of code, blanks left out; a text begins as if after a colon
    code = 0  # where the code began that has been passed since these two were looked up
    while True:
        while position < size and not starts[data[position]]:
            position += 1
        if position >= size:
            return comments
        number = _marker_at(data, position, markers)
        if number < 0:
            position += 1
            continue
        last, before_last = _last_bytes(data, code, position, last, before_last)
        kind = markers[number, 0]
        end = _marked_end(data, position, markers[number])
        is_docstring = kind == _DOCSTRING and (last == 58 or ((last | 32) in (114, 117) and before_last == 58))  # : r u
        if kind <= _BLOCK or is_docstring:
            comments += end - position if is_ascii else _characters_between(data, position, end)
            if is_docstring:
                before_last, last = 34, 34
        else:
            before_last, last = last, int(data[position])
        position = code = end


@njit(cache=True, nogil=True)
def _last_bytes(data: Bytes, start: int, end: int, last: int, before_last: int) -> tuple[int, int]:
    """The last two bytes of code before `end` that are no blanks, where the two before `start` are known."""
    found = 0
    first = 0
    for place in range(end - 1, start - 1, -1):
        if data[place] > 32:
            if found:
                return first, int(data[place])
            first, found = int(data[place]), 1
    return (first, last) if found else (last, before_last)


@njit(cache=True, nogil=True)
def _marker_at(data: Bytes, position: int, markers: Bytes) -> int:
    """Which marker stands at `position`; -1 for none."""
    for number in range(len(markers)):
        if markers[number, 0] == _WORD_LINE and position > 0 and data[position - 1] > 32:
            continue
        if _stands_at(data, position, markers[number, 3:], markers[number, 1]):
            return number
    return -1


@njit(cache=True, nogil=True)
def _stands_at(data: Bytes, position: int, marker: Bytes, length: int) -> bool:
    if position + length > len(data):
        return False
    same = 0
    while same < length and data[position + same] == marker[same]:
        same += 1
    return same == length


@njit(cache=True, nogil=True)
def _marked_end(data: Bytes, position: int, marker: Bytes) -> int:
    """Where the comment or string that begins at `position` ends."""
    kind, size = marker[0], len(data)
    closing, length = marker[3 + _WIDEST :], int(marker[2])
    if kind == _CHARACTER:
        if length == 0 or position + 1 >= size:  # an escaped marker
            return position + int(marker[1])
        if data[position + 1] == 92:  # a backslash: '\n', '\u{1F}'
            kind = np.uint8(_STRING)
        else:
            is_one = position + 2 < size and data[position + 2] == data[position]
            return position + 3 if is_one else position + 1  # 'a', or a lifetime
    position += int(marker[1])
    while position < size:
        byte = data[position]
        if byte == 10 and kind in (_LINE, _WORD_LINE, _STRING):
            return position
        if byte == 92 and kind >= _STRING:
            position += 2
            continue
        if length and byte == closing[0] and _stands_at(data, position, closing, length):
            return position + length
        position += 1
    return size


@njit(cache=True, nogil=True)
def _visible_characters(data: Bytes) -> int:
    visible, position, size = 0, 0, len(data)
    while position < size:
        byte = data[position]
        following = data[position + 1] if position + 1 < size else 0
        if byte == 60 and (_is_letter(following) or following == 47):  # < and /
            end = _tag_end(data, position + 1)
            position = _raw_end(data, position + 1, end) if _is_letter(following) and data[end - 2] != 47 else end
        elif byte == 60 and (following == 33 or following == 63):  # ! and ?
            position = _declaration_end(data, position + 2)
        else:
            visible += (byte & 0xC0) != 0x80
            position = _entity_end(data, position) if byte == 38 else position + 1  # &
    return visible


@njit(cache=True, nogil=True)
def _is_letter(byte: int) -> bool:
    return 97 <= (byte | 32) <= 122


@njit(cache=True, nogil=True)
def _tag_end(data: Bytes, position: int) -> int:
    """After the `>` of a tag; one in the quotes of an attribute is none."""
    quote, before = 0, 0
    while position < len(data):
        byte = int(data[position])
        position += 1
        if quote == 0 and byte == 62:
            return position
        if quote == 0 and (byte == 34 or byte == 39) and before == 61:  # after =
            quote = byte
        elif byte == quote:
            quote = 0
        if byte > 32:
            before = byte
    return len(data)


@njit(cache=True, nogil=True)
def _declaration_end(data: Bytes, position: int) -> int:
    """After a comment, a doctype or an instruction."""
    is_comment = position + 1 < len(data) and data[position] == 45 and data[position + 1] == 45  # --
    if is_comment:
        position += 2
    while position < len(data):
        if data[position] == 62 and (not is_comment or (data[position - 1] == 45 and data[position - 2] == 45)):
            return position + 1
        position += 1
    return len(data)


@njit(cache=True, nogil=True)
def _raw_end(data: Bytes, name: int, end: int) -> int:
    """After the closing tag where the tag whose name begins at `name` is a script or a style sheet, else `end`."""
    length = 0
    while name + length < end and _is_letter(data[name + length]):
        length += 1
    if not (_is_named(data, name, length, b"script") or _is_named(data, name, length, b"style")):
        return end
    position = end
    while position + 2 + length <= len(data):
        if data[position] == 60 and data[position + 1] == 47:
            same = 0
            while same < length and (data[position + 2 + same] | 32) == (data[name + same] | 32):
                same += 1
            if same == length:
                return _tag_end(data, position + 2)
        position += 1
    return len(data)


@njit(cache=True, nogil=True)
def _is_named(data: Bytes, position: int, length: int, name: Any) -> bool:
    same = 0
    while same < length and same < len(name) and (data[position + same] | 32) == name[same]:
        same += 1
    return same == length and same == len(name)


@njit(cache=True, nogil=True)
def _entity_end(data: Bytes, position: int) -> int:
    """After `&name;` or `&#123;`; an ampersand alone is itself."""
    end = position + 1
    while (
        end < len(data) and end - position < 33 and (_is_letter(data[end]) or 48 <= data[end] <= 57 or data[end] == 35)
    ):
        end += 1
    return end + 1 if end > position + 1 and end < len(data) and data[end] == 59 else position + 1
