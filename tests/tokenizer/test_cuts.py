"""Where a text is cut: never inside a character, and where the kind of cut says."""

import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import ConfigError
from starsmith.tokenizer import cuts

pytestmark = pytest.mark.slow

PIECES = [
    "    ",
    "\n",
    "\r\n",
    "self.",
    "<fim_middle>",
    "é",
    "漢字",
    "🙂",
    "x1",
    "\t",
    "return ",
    "שלום",
    "नमस्ते",
    "{ ",
    "}",
    '"',
]
TEXTS = (st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=60).map("".join)).map(str.encode)
SHARE = st.floats(0, 1, exclude_max=True)
SHARES = st.tuples(SHARE, SHARE, SHARE)
GRID = [(step + 0.5) / 400 for step in range(400)]
CODE = """import os


class Point:
    def norm(self, scale):
        total = self.x * self.x + self.y * self.y
        if total > scale:
            return math.sqrt(total)
        return total


def main(arguments):
    print(Point(1, 2).norm(3))
"""


@given(text=TEXTS, shares=SHARES, kind=st.sampled_from([cuts.CHARACTER, cuts.LINE]))
def test_no_cut_divides_a_character(text: bytes, shares: tuple[float, ...], kind: str) -> None:
    start, end = cuts.choose(text, kind=kind, language="Python", shares=shares)

    assert 0 <= start <= end <= len(text)
    for part in (text[:start], text[start:end], text[end:]):
        part.decode()  # raises where it would


def test_cuts_at_characters_reach_every_place_alike() -> None:
    text = "añ漢🙂".encode()

    places = Counter(cuts.at_characters(text, (share, share))[0] for share in GRID)

    assert set(places) == {0, 1, 3, 6, 10}
    assert set(places.values()) == {80}


@given(text=TEXTS, shares=SHARES)
def test_a_cut_at_lines_ends_where_a_line_ends_and_is_never_empty(text: bytes, shares: tuple[float, ...]) -> None:
    span = cuts.at_lines(text, shares)

    if span is None:
        assert not any(byte > 32 for byte in text)
    else:
        assert span[0] < span[1]
        assert text[span[1] :].startswith((b"\n", b"\r\n")) or span[1] == len(text)


def test_half_of_the_line_cuts_begin_after_the_indentation_and_half_have_one_line() -> None:
    text = CODE.encode()

    spans = [
        cuts.at_lines(text, (line, more, start)) for line in GRID[::40] for more in GRID[::16] for start in GRID[::16]
    ]

    middles = [text[span[0] : span[1]] for span in spans if span]
    before = [text[: span[0]].rpartition(b"\n")[2] for span in spans if span]
    assert sum(not middle.count(b"\n") for middle in middles) / len(middles) == pytest.approx(0.5, abs=0.1)
    assert sum(not found.strip() for found in before) / len(before) == pytest.approx(0.55, abs=0.06)


def test_a_text_of_white_space_is_cut_at_characters() -> None:
    assert cuts.choose(b"\n\n  \n", kind=cuts.LINE, language="Python", shares=(0.5, 0.99, 0)) == (3, 5)


def test_a_cut_at_nodes_is_a_whole_piece_of_syntax() -> None:
    text = CODE.encode()

    spans = {cuts.at_nodes(text, "Python", (place, which, 0)) for place in GRID for which in GRID[::40]}

    middles = {text[span[0] : span[1]] for span in spans if span}
    wanted = {b"self.x * self.x", b"(self, scale)", b"return math.sqrt(total)", b"norm", b"(1, 2)", b"import os"}
    assert wanted <= middles
    assert max(map(len, middles)) <= len(text) // 2
    assert b"(" not in middles


@pytest.mark.parametrize("language", sorted(cuts._GRAMMARS))
def test_every_grammar_loads_and_reads(language: str) -> None:
    text = b"value = call(first, second);\n" * 4

    spans = [cuts.at_nodes(text, language, (place, 0.9, 0)) for place in GRID[::8]]

    assert any(spans)


@given(text=TEXTS, shares=SHARES)
def test_a_cut_at_nodes_of_any_text_divides_no_character(text: bytes, shares: tuple[float, ...]) -> None:

    start, end = cuts.choose(text, kind=cuts.NODE, language="Python", shares=shares)

    assert 0 <= start <= end <= len(text)
    for part in (text[:start], text[start:end], text[end:]):
        part.decode()


@pytest.mark.parametrize(("text", "language"), [(CODE, "Brainfuck"), (CODE * 400, "Python"), ("", "Python")])
def test_without_a_grammar_or_too_long_a_text_is_cut_at_lines(text: str, language: str) -> None:
    shares = (0.3, 0.2, 0.7)

    found = cuts.choose(text.encode(), kind=cuts.NODE, language=language, shares=shares)

    assert found == cuts.choose(text.encode(), kind=cuts.LINE, language=language, shares=shares)


def test_each_kind_is_as_likely_as_its_weight() -> None:
    weights = {cuts.NODE: 1.0, cuts.LINE: 3.0, cuts.CHARACTER: 0.0}

    found = Counter(cuts.kind_of(weights, share) for share in GRID)

    assert found == {cuts.LINE: 300, cuts.NODE: 100}


@pytest.mark.parametrize("weights", [{"word": 1.0}, {"line": -1.0}, {"line": 0.0}, {}, {"line": float("nan")}])
def test_a_mix_that_cannot_be_drawn_from_is_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="cuts"):
        cuts.check_weights(weights)


def test_nodes_are_refused_at_once_where_a_grammar_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tree_sitter_c", None)  # as if it were not installed

    with pytest.raises(ConfigError, match=r"cuts node=0\.5 needs tree-sitter") as caught:
        cuts.check_grammars({cuts.NODE: 0.5, cuts.LINE: 0.5})

    assert "without node" in caught.value.hint
    cuts.check_grammars({cuts.LINE: 1.0, cuts.NODE: 0.0})
