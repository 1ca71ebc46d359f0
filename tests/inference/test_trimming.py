"""Manners: where a completion ends in an editor, however it comes."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.inference.brackets import leading_closers, scan
from starsmith.inference.trimming import Manners, Trimmer

pytestmark = pytest.mark.slow  # tries thousands of texts

ALL = Manners.of_editor()
LINES = st.sampled_from(
    ["    x = 1", "\n", "\n    ", "\n        ", "return x", "else:", "}", ")", "(", "{", '"', "foo(a)", " ", "if x:"]
)  # fmt: skip
TEXTS = st.lists(LINES, max_size=30).map("".join)


def trimmed(text: str, prefix: str = "", suffix: str = "", manners: Manners = ALL, *, step: int = 1) -> str:
    """What leaves when the text comes in pieces of `step` characters."""
    trimmer, sent = Trimmer(manners, prefix, suffix), ""
    for start in range(0, len(text), step):
        sent += trimmer.feed(text[start : start + step])
        if trimmer.ended:
            return sent
    return sent + trimmer.feed("", final=True)


def only(name: str) -> Manners:
    return Manners(**{name: True})


# end of the block


@pytest.mark.parametrize(
    ("prefix", "text", "kept"),
    [
        ("def f():\n    if x:\n        ", "return 1\n    return 2", "return 1"),
        ("def f():\n    ", "x = 1\n    return x\n\n\ny = 2", "x = 1\n    return x"),
        ("def f():\n    return", " 1\ndef g():\n", " 1"),
        ("def f():", "\n    return 1\nx = f()", "\n    return 1"),
        ("if x:", "\n    a()\nelse:\n    b()\nc()", "\n    a()\nelse:\n    b()"),
        ("if x:", "\n    a()\nelephant()", "\n    a()"),
        ("x = 1", "\ny = 2\nz = 3", "\ny = 2\nz = 3"),
        ("f(\n    a,\n    ", "b,\n)\nc()", "b,\n)"),
        ("void f() {\n    ", "g();\n}\nvoid h() {", "g();\n}"),
        ("void f() {", "\n    g();\n}\nvoid h() {", "\n    g();\n}"),
        ("\tif x:\n\t\t", "a()\n\tb()", "a()"),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_completion_ends_with_its_block(prefix: str, text: str, kept: str, step: int) -> None:
    assert trimmed(text, prefix, manners=only("end_of_block"), step=step) == kept


def test_the_bracket_that_closes_the_block_is_left_out_where_it_stands_already() -> None:
    kept = trimmed("g();\n}\nint y;", "void f() {\n    ", "\n}\n", only("end_of_block"))

    assert kept == "g();"


def test_blank_lines_at_the_end_are_no_part_of_the_block() -> None:
    assert trimmed("x = 1\n    \n", "    ", manners=only("end_of_block")) == "x = 1"


# no suffix twice


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "kept"),
    [
        ("    a = 1\n    ", "\n    return a\n", "b = 2\n    return a\n    x", "b = 2"),
        ("    a = 1\n    ", "\n    return a\n", "b = 2\n    return a", "b = 2"),
        ("    a = 1\n    ", "\n    return a\n", "b = 2\n    return ab", "b = 2\n    return ab"),
        ("x = foo(", "a, b)\n", "1, a, b)", "1, "),
        ("x = foo(", "a, b)\n", "1, a", "1, a"),
        ("x = ", " + total\n", "first + total", "first"),
        ("foo(", ")\n", "bar(x)", "bar(x)"),
        ("    ", "\n    }\n}\n", "while (x) {\n        a();\n    }\n", "while (x) {\n        a();\n    }\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_stands_behind_the_cursor_is_not_said_again(
    prefix: str, suffix: str, text: str, kept: str, step: int
) -> None:
    assert trimmed(text, prefix, suffix, only("no_repeated_suffix"), step=step) == kept


# closers


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "kept"),
    [
        ("print(", ")\n", "value)", "value"),
        ("print(", ")\n", "f(value))", "f(value)"),
        ("print(f(", ")\n", "value))", "value)"),
        ("print(", "\n", "value)", "value)"),
        ('x = "', '"\n', 'text"', "text"),
        ('f("', '")\n', 'text")', "text"),
        ("x = {", "}\n", "\n    1: (2),\n}", "\n    1: (2),\n"),
        ("print(\"it's (", ")\n", 'x"', 'x"'),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_the_editor_has_closed_is_not_closed_again(
    prefix: str, suffix: str, text: str, kept: str, step: int
) -> None:
    assert trimmed(text, prefix, suffix, only("no_extra_closers"), step=step) == kept


def test_brackets_in_strings_are_text() -> None:
    assert scan('f(")") + "\\")(" + g[').openers == "["
    assert scan('f(")")').closers == ()
    assert scan('a") + (', '"').closers == (1, 2)
    assert leading_closers('")];', '"') == 3
    assert leading_closers(")", '"') == 0


# repetition


def test_a_line_comes_twice_in_a_row_at_most() -> None:
    assert trimmed("a\nfoo(1)\nfoo(1)\nfoo(1)\nfoo(1)\n", manners=only("no_repetition")) == "a\nfoo(1)\nfoo(1)"
    assert trimmed("a\nfoo(1)\nfoo(1)\nfoo(2)\n", manners=only("no_repetition")) == "a\nfoo(1)\nfoo(1)\nfoo(2)\n"


def test_so_does_a_block_of_lines() -> None:
    block = "\nif x:\n    bar()"

    assert trimmed("a" + block * 5, manners=only("no_repetition")) == "a" + block * 2


def test_blank_lines_and_rules_of_dashes_may_repeat() -> None:
    text = "\n\n\n\n)\n)\n)\n" + "-" * 60 + "\n" + " " * 60 + "x"

    assert trimmed(text, manners=only("no_repetition")) == text


def test_a_loop_within_a_line_is_broken() -> None:
    assert trimmed("x = " + "foo, " * 20, manners=only("no_repetition")).count("foo") <= 7


# all of it


@given(text=TEXTS, prefix=TEXTS, suffix=TEXTS, step=st.integers(1, 9))
def test_without_manners_nothing_is_changed(text: str, prefix: str, suffix: str, step: int) -> None:
    assert trimmed(text, prefix, suffix, Manners(), step=step) == text


@given(text=TEXTS, prefix=TEXTS, suffix=TEXTS, step=st.integers(1, 9))
def test_what_leaves_is_a_beginning_of_what_was_written(text: str, prefix: str, suffix: str, step: int) -> None:
    assert text.startswith(trimmed(text, prefix, suffix, step=step))


@pytest.mark.parametrize("name", [field.name for field in fields(Manners)])
@given(text=TEXTS, prefix=TEXTS, suffix=TEXTS)
def test_nothing_that_left_is_found_to_be_too_much_later(name: str, text: str, prefix: str, suffix: str) -> None:
    by_character = trimmed(text, prefix, suffix, only(name))

    assert by_character == trimmed(text, prefix, suffix, only(name), step=len(text) + 1)
