"""A growing completion: what is found is what the whole text gives, and of a blocked copy no 65th token leaves."""

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starsmith.provenance.attribution import Attributor, Match
from starsmith.provenance.streaming import MOST_TOKENS, AttributionStream

MakeIndex = Callable[..., Path]
TOKEN = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+|[^\s\w]")


def code(seed: int, tokens: int) -> str:
    """Lines of random code whose names are no other's."""
    draw = random.Random(seed)
    words = []
    for number in range(tokens):
        words.append(draw.choice("=+(),.") if number % 2 else f"näme_{draw.randrange(10**6)}")
        words.append(draw.choice(["\n", "\n    ", " ", ""]) if number % 2 else "")
    return "".join(words).rstrip()


COPIED = code(1, 300)


@pytest.fixture(scope="module")
def attributor(make_index: MakeIndex) -> Attributor:
    return Attributor.open(make_index([f"start = 1\n{COPIED}\nend = 2\n", code(2, 300)]))


def pieces(text: str, seed: int) -> Iterator[str]:
    draw = random.Random(seed)
    while text:
        size = draw.choice([1, 2, 3, 5, 9, 40])
        yield text[:size]
        text = text[size:]


def everything(_: Match) -> bool:
    return True


def nothing(_: Match) -> bool:
    return False


def leave(stream: AttributionStream, parts: Iterator[str], blocks: Callable[[Match], bool]) -> tuple[str, Match | None]:
    """What leaves of a completion, piece by piece, and the match that ended it."""
    text = left = ""
    for part in parts:
        stream.feed(part)
        text += part
        release = stream.release(blocks)
        assert len(left) <= release.characters <= len(text)  # nothing is called back
        left = text[: release.characters]
        if release.blocked_by is not None:
            return left, release.blocked_by
    release = stream.release(blocks, final=True)
    return text[: release.characters], release.blocked_by


@pytest.mark.parametrize("seed", range(12))
def test_a_blocked_copy_ends_before_its_65th_token(seed: int, attributor: Attributor) -> None:
    ahead = code(100 + seed, 50 + 7 * seed) + "\n"
    stream = AttributionStream(attributor, before="other = 0\n")

    left, match = leave(stream, pieces(ahead + COPIED, seed), everything)

    assert match is not None
    assert (match.kind, match.start) == ("source", len(ahead))
    copied = TOKEN.findall(left[len(ahead) :])
    assert copied == TOKEN.findall(COPIED)[:MOST_TOKENS]


@pytest.mark.parametrize("seed", range(6))
def test_a_copy_of_64_tokens_leaves_whole(seed: int, attributor: Attributor) -> None:
    ends = [found.end() for found in TOKEN.finditer(COPIED)]
    text = f"{code(50, 60)}\n{COPIED[: ends[MOST_TOKENS - 1]]} other_{seed} (x) + 1\n"

    left, match = leave(AttributionStream(attributor), pieces(text, seed), everything)

    assert (left, match) == (text, None)


def test_tokens_before_the_cursor_count(attributor: Attributor) -> None:
    ends = [found.end() for found in TOKEN.finditer(COPIED)]
    before, rest = COPIED[: ends[49]], COPIED[ends[49] :]

    left, match = leave(AttributionStream(attributor, before), pieces(rest, 3), everything)

    assert match is not None
    assert match.start == 0
    assert len(TOKEN.findall(left)) == MOST_TOKENS - 50


def test_what_is_not_blocked_leaves_as_it_comes(attributor: Attributor) -> None:
    stream = AttributionStream(attributor)
    text = ""

    for part in pieces(COPIED, 4):
        stream.feed(part)
        text += part
        assert stream.release(nothing).characters == len(text)

    assert stream.release(nothing, final=True).characters == len(COPIED)


@pytest.mark.parametrize("seed", range(6))
def test_the_matches_are_those_of_the_whole_text(seed: int, attributor: Attributor) -> None:
    draw = random.Random(seed)
    first = draw.randrange(len(COPIED) // 2)
    before, text = code(7, 90), f"{code(8, 90)}\n{COPIED[first : first + 900]}\n{code(9, 40)}"
    stream = AttributionStream(attributor, before)
    for part in pieces(text, seed):
        stream.feed(part)
        stream.release(nothing)

    whole = attributor.attribute(before + text, start=len(before))

    assert whole
    assert [(match.start + len(before), match.end + len(before), match.sources) for match in stream.matches()] == [
        (match.start, match.end, match.sources) for match in whole
    ]


def test_a_match_that_began_before_the_cursor_begins_at_zero(attributor: Attributor) -> None:
    ends = [found.end() for found in TOKEN.finditer(COPIED)]
    stream = AttributionStream(attributor, before=COPIED[: ends[149]])
    stream.feed(COPIED[ends[149] : ends[169]])

    (match,) = stream.matches()

    assert (match.start, match.end) == (0, ends[169] - ends[149])
    assert match.tokens > MOST_TOKENS


@pytest.fixture(scope="module")
def mostly_common(make_index: MakeIndex) -> tuple[Attributor, str]:
    """An index in which seventy files begin alike, and the text of one: common code, then code of its own."""
    texts = [f"{code(500, 50)}\n{code(600 + number, 200)}" for number in range(70)]
    return Attributor.open(make_index(texts)), texts[9]


@pytest.mark.parametrize("seed", range(40))
def test_a_copy_that_begins_as_common_code_ends_before_its_65th_token(
    seed: int, mostly_common: tuple[Attributor, str]
) -> None:
    attributor, text = mostly_common
    draw = random.Random(seed)
    cursor = draw.randrange(300)  # also within a word

    left, match = leave(AttributionStream(attributor, text[:cursor]), pieces(text[cursor:], seed), everything)

    assert match is not None
    assert len(TOKEN.findall(text[:cursor] + left)) <= MOST_TOKENS


def test_common_code_of_64_tokens_leaves_once_it_has_ended(mostly_common: tuple[Attributor, str]) -> None:
    attributor, text = mostly_common
    ends = [found.end() for found in TOKEN.finditer(text)]
    own = f"{text[: ends[49]]}\n{code(900, 200)}"

    assert leave(AttributionStream(attributor), pieces(own, 1), everything) == (own, None)


def test_what_is_held_against_only_as_it_grows_ends_there(attributor: Attributor) -> None:
    stream, text, left = AttributionStream(attributor), "", 0
    blocked_by = None

    for part in pieces(COPIED, 2):
        stream.feed(part)
        text += part
        release = stream.release(lambda match: match.tokens > 90)
        blocked_by = release.blocked_by
        if blocked_by is not None:
            break
        left = release.characters
        assert left == len(text)

    assert blocked_by is not None
    assert release.characters == left
