import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.corpus.statistics import Runs, measure

# The plain versions, which the kernels must equal on every text.
BASE64 = re.compile(r"[a-zA-Z0-9+/\n=]{64,}")
HEXADECIMAL = re.compile(r"(?:\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)){8,}", re.ASCII)
ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4}){8,}")
STRING = r"""[rbuRBU]{0,2}(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
LITERAL = rf"{STRING}|\.?\d(?:[eEpP][+-]|[\w.])*|(?:None|True|False|null|true|false)(?!\w)"
TABLE_LINE = re.compile(
    rf"(?:[ \t\x1f\[\]{{}}(),:;=|&\\+-]|(?P<literal>{LITERAL}))*(?:#.*|//.*|/\*.*)?", re.ASCII | re.DOTALL
)


def runs(pattern: re.Pattern[str], text: str) -> Runs:
    lengths = [len(found.group()) for found in pattern.finditer(text)]
    return Runs(max(lengths, default=0), sum(lengths))


def is_table_line(line: str) -> bool:
    found = TABLE_LINE.fullmatch(line)
    return bool(found and found["literal"])


def assert_equals_the_plain_version(text: str) -> None:
    seen = measure(text.encode())
    lines = text.splitlines() or [""]

    assert seen.characters == len(text)
    assert seen.letters == sum(c.isascii() and c.isalpha() for c in text)
    assert seen.digits == sum(c.isascii() and c.isdigit() for c in text)
    assert seen.white_space == sum(c in " \t\n\r\f\v" for c in text)
    assert seen.non_ascii == sum(not c.isascii() for c in text)
    assert seen.lines == len(lines)
    assert seen.blank_lines == sum(not line.strip(" \t\x1f") for line in lines)
    assert seen.longest_line == max(map(len, lines))
    assert seen.longest_line_number == 1 + max(range(len(lines)), key=lambda number: len(lines[number]))
    assert seen.table_lines == sum(map(is_table_line, lines))
    assert seen.base64 == runs(BASE64, text)
    assert seen.hexadecimal == runs(HEXADECIMAL, text)
    assert seen.escapes == runs(ESCAPES, text)


@given(st.text(max_size=300))
def test_any_text_is_measured_as_by_the_plain_version(text: str) -> None:
    assert_equals_the_plain_version(text)


PIECES = ["0x", "\\x", "4f", "A0", ",", " ", "\n", "\t", "g", "é", "\u00a0", "_", "\\", "\\u00e9", "\\u12", "a" * 65]
PIECES += ["/", "=", "\r\n", "\r", "\x0c", "\x1f", "\u2028", "\x85", "11,22,33,44,55,66,77,88,", "\\x01\\x02", "aa bb "]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_runs_of_encoded_data_are_those_of_the_patterns(text: str) -> None:
    assert_equals_the_plain_version(text)


TABLE_PIECES = [
    "'a'",
    '"',
    "'",
    "\\",
    "1",
    ".5",
    "1e-5",
    "0xffULL",
    "None",
    "true",
    "nul",
    "é",
    "x",
    " ",
    ",",
    "{",
    "(",
]
TABLE_PIECES += ["#", "//", "/", "r'", "Rb'", "rbu'", "+", "-", ".", "e", "\n", "/*", "u", "_"]


@given(st.lists(st.sampled_from(TABLE_PIECES), max_size=20).map("".join))
def test_lines_of_tables_are_those_of_the_pattern(text: str) -> None:
    assert_equals_the_plain_version(text)


def test_real_source_files_are_measured_as_by_the_plain_version() -> None:
    folder = Path(re.__file__).parent.parent
    names = ("ast.py", "html/entities.py", "encodings/cp037.py", "token.py", "stringprep.py")
    for path in (folder / name for name in names):
        assert_equals_the_plain_version(path.read_text(encoding="utf-8"))


def test_an_empty_text_has_one_line() -> None:
    assert_equals_the_plain_version("")
    assert measure(b"").mean_line == 0


@pytest.mark.parametrize(("text", "digits", "letters"), [("äöü1", False, 3), ("äöü1", True, 4), ("abc1", False, 3)])
def test_letters_of_every_script_count(text: str, digits: bool, letters: int) -> None:
    assert measure(text.encode()).alphabetic(text, enough=4, digits=digits) == letters
