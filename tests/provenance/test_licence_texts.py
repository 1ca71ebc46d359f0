"""A licence's wording is told from code, in whatever comment it stands."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from starsmith.core.hashing import code_tokens
from starsmith.provenance import licence_texts
from starsmith.provenance.attribution import Attributor
from worlds import MIT, function_text

MakeIndex = Callable[..., Path]
PREFIXES = ["", "# ", "// ", " * ", ";; "]


def wording(text: str) -> licence_texts.Wording:
    content = text.encode()
    tokens = code_tokens(content)
    return licence_texts.wording(
        np.frombuffer(content, np.uint8), tokens.starts, tokens.ends, licence_texts.shipped(), 8, 40
    )


def commented(text: str, prefix: str) -> str:
    return "".join(f"{prefix}{line}\n" for line in text.split("\n"))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_stretch_of_a_licence_is_its_wording_in_any_comment(prefix: str) -> None:
    words = commented(MIT.split("\n", 4)[4], prefix).split(" ")
    draw = random.Random(prefix)

    for _ in range(50):
        first = draw.randrange(len(words) - 40)
        found = wording(" ".join(words[first : first + 40]))
        assert found.share > 0.5
        assert found.longest_rest < 40


def test_code_has_none_of_it() -> None:
    assert wording(function_text(3)).share == 0
    assert wording("").share == 0


def test_a_copied_licence_is_no_source_and_the_code_below_it_is_one(make_index: MakeIndex) -> None:
    header, body = commented(MIT, "# "), function_text(3)
    attributor = Attributor.open(make_index([f"{header}\n{body}"]))

    (licence,) = attributor.attribute(f"{header}\nother = 1\n")
    (both,) = attributor.attribute(f"{header}\n{body}\nother = 1\n")

    assert (licence.kind, licence.count) == ("licence", 1)
    assert both.kind == "source"  # the code alone would be one


def test_words_are_counted_once_and_numbers_letters_and_signs_are_none() -> None:
    assert wording("ab cd AB 12 3x ab e f").distinct == 2
    assert wording('"™", "↔", "▶", "─────", "🌩"').distinct == 0
    assert wording("länge 面 면적 площадь").distinct == 4
    assert wording(" ".join(f"w{number}" for number in range(99))).distinct == 8  # as far as was asked
