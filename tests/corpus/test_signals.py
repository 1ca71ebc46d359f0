import ast
import io
import re
import tokenize
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.hashing import TOKEN
from starsmith.corpus.signals import characters_per_token, comment_ratio, is_test, signals, visible_characters
from starsmith.corpus.sketch import word_count
from starsmith.corpus.statistics import measure


def comments(language: str, text: str) -> int:
    """Characters in comments."""
    ratio = comment_ratio(language, text.encode(), measure(text.encode()))
    assert ratio is not None
    return round(ratio * len(text))


@pytest.mark.parametrize(
    ("language", "text", "comment"),
    [
        ("Python", 'x = "# none" # öne\ny = 1\n', "# öne"),
        ("Python", '# head\n"""Docstring."""\nx = """no\ndocstring"""\n', '# head"""Docstring."""'),
        ("Python", 'def f():\n    r"""Raw \\d."""\n    return "a:"\n', '"""Raw \\d."""'),
        ("C", 'char *url = "http://a"; // line\n/* block\n */ int c = \'"\'; // end', "// line/* block\n */// end"),
        ("Rust", "fn f<'a>(c: &'a str) { '\"'; } // yes\nlet q = '\\''; // too", "// yes// too"),
        ("JavaScript", "let a = `// none\n// none`; // one", "// one"),
        ("Shell", "echo ${#a} $# 'a # b' # yes\n# and\n", "# yes# and"),
        ("SQL", "select '--' -- yes\n/* and */", "-- yes/* and */"),
        ("Lua", "--[[ two\nlines ]] x = 1 -- one", "--[[ two\nlines ]]-- one"),
        ("TeX", "50\\% is % half\n", "% half"),
        ("HTML", "<p>a</p><!-- b --><p>c</p>", "<!-- b -->"),
        ("Common Lisp", '(f ";") ; yes\n#| and |#', "; yes#| and |#"),
        ("C", "/* not closed", "/* not closed"),
        ("C", "", ""),
    ],
)
def test_comments_are_told_from_strings(language: str, text: str, comment: str) -> None:
    assert comments(language, text) == len(comment)


def test_a_language_whose_comments_are_not_known_has_no_ratio() -> None:
    assert comment_ratio("Brainfuck", b"+[>]", measure(b"+[>]")) is None
    assert comment_ratio(None, b"text", measure(b"text")) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ast.py", "json/decoder.py", "textwrap.py", "html/parser.py"])
def test_comments_of_python_are_those_of_its_tokenizer_and_parser(name: str) -> None:
    text = (Path(re.__file__).parent.parent / name).read_text(encoding="utf-8")
    hashes = [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    expected = sum(map(len, hashes))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            expected += len(ast.get_source_segment(text, node.body[0]) or "")

    assert comments("Python", text) == pytest.approx(expected, rel=0.02)


@given(
    st.sampled_from(["Python", "C", "Rust", "Lua", "Shell", "HTML", "TeX"]),
    st.text("'\"/*#-[]<!>\\%`\né a", max_size=60),
)
def test_comments_are_a_part_of_any_text(language: str, text: str) -> None:
    assert 0 <= comments(language, text) <= len(text)


@given(st.text(max_size=200))
def test_tokens_are_those_of_the_one_definition(text: str) -> None:
    expected = len(TOKEN.findall(text.encode()))

    assert characters_per_token(measure(text.encode()), word_count(text.encode())) == (
        len(text) / expected if expected else None
    )


class _Reader(HTMLParser):
    """What Beautiful Soup's get_text gives once scripts and style sheets are taken out."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        self.text += "" if self.hidden else data


PAGES = [
    "<!DOCTYPE html><html><head><title>A page</title><style>p > a { color: red }</style></head><p>text</p></html>",
    "<p class='a > b' title=\"x'>y\">caf\u00e9 &amp; b &#8364; a &lt; b</p><br/>",
    "<!-- hidden > text --><p>shown</p><SCRIPT type='m'>if (a < b) '</p>'</SCRIPT >after",
    "a < b and c > d & e",
    "<?xml version='1.0'?><b>x</b>",
    "plain text",
    "",
]


@pytest.mark.parametrize("page", PAGES)
def test_visible_text_is_that_of_a_parser(page: str) -> None:
    reader = _Reader()
    reader.feed(page)
    reader.close()

    assert visible_characters(page.encode()) == len(reader.text)


@given(st.text("<>/!-?&;'\"= \n\\aépscriptyle", max_size=80))
def test_visible_text_is_a_part_of_any_page(page: str) -> None:
    assert 0 <= visible_characters(page.encode()) <= len(page)


@pytest.mark.parametrize(
    ("path", "language", "text", "expected"),
    [
        ("tests/worlds.py", "Python", "", True),
        ("pkg/test_a.py", "Python", "", True),
        ("pkg/a_test.go", "Go", "", True),
        ("src/a.spec.ts", "TypeScript", "", True),
        ("src/TotalTest.java", "Java", "", True),
        ("pkg/a.py", "Python", "class A:\n    def test_a(self): ...\n", True),
        ("pkg/latest.py", "Python", "x = 1\n", False),
        ("src/contest/Latest.java", "Java", "class Latest {}", False),
    ],
)
def test_a_test_is_known_by_its_path_or_a_test_function(path: str, language: str, text: str, expected: bool) -> None:
    assert is_test(path, language, text) is expected


def test_signals_come_together() -> None:
    text = "# why\nx = 10\n"

    seen = signals("pkg/a.py", "Python", text, text.encode(), measure(text.encode()), word_count(text.encode()))

    assert seen.comment_ratio == pytest.approx(5 / 13)
    assert (seen.average_line, seen.longest_line) == (6.5, 6)
    assert seen.alphabetic_share == pytest.approx(4 / 13)
    assert not seen.is_test
    assert seen.characters_per_token == pytest.approx(13 / 5)
