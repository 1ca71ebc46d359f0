"""What a stretch of a file is: code, the licence header at its start, or literal data. Simple rules, no lexer.

Models give back licence texts and tables of literals at other rates than code, so figures over all of a corpus would
mix what is common property with what somebody wrote.
"""

import re
from typing import Literal

ContentClass = Literal["code", "header", "data"]
RARE: tuple[ContentClass, ...] = ("header", "data")

LEAST_DATA_SHARE = 0.8  # of the visible characters in literals and the signs between them
LEAST_LITERALS = 4
MOST_HEADER_LINES = 400

_LICENCE_WORDS = re.compile(r"(?i)licen[cs]e|copyright|\(c\)|©|spdx|all rights reserved|warrant(?:y|ies)")
_COMMENT = ("#", "//", "--", ";", "%", '"', "*", "dnl ", "REM ", "rem ")
_BLOCKS = {"/*": "*/", "<!--": "-->", "(*": "*)", "{-": "-}"}
_LITERAL = re.compile(
    r"""[bBfFrRuU]{0,2}"(?:[^"\\\n]|\\.)*"|[bBfFrRuU]{0,2}'(?:[^'\\\n]|\\.)*'"""
    r"""|\b0[xXbBoO][0-9a-fA-F_]+\b|[-+]?\b\d[\d_]*(?:\.\d*)?(?:[eE][-+]?\d+)?\b"""
)
_SEPARATORS = re.compile(r"[][(){},:;]")


def header_end(text: str) -> int:
    """Characters of the comments at the start of a file, if a licence or copyright word stands in them; else 0.

    Strings are no comments: a licence in a docstring is taken for code.
    """
    end, closing = 0, ""
    for line in text.splitlines(keepends=True)[:MOST_HEADER_LINES]:
        bare = line.strip()
        if closing:
            closing = "" if closing in bare else closing
        elif opening := next((sign for sign in _BLOCKS if bare.startswith(sign)), ""):
            closing = "" if _BLOCKS[opening] in bare[len(opening) :] else _BLOCKS[opening]
        elif bare and (not bare.startswith(_COMMENT) or bare.startswith('"""')):
            break
        end += len(line)
    return end if _LICENCE_WORDS.search(text[:end]) else 0


def is_data(text: str) -> bool:
    """Whether a stretch is a table: at least four literals, which with the signs between them are 80 % of it."""
    literals = [found.group() for found in _LITERAL.finditer(text)]
    if len(literals) < LEAST_LITERALS:
        return False
    rest = _SEPARATORS.sub("", _LITERAL.sub("", text))
    visible = len("".join(text.split()))
    return len("".join(rest.split())) <= (1 - LEAST_DATA_SHARE) * visible
