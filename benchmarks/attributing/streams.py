"""Copies that are streamed: does a 65th token of one ever leave?"""

import random
from collections.abc import Iterator

from starsmith.provenance.attribution import Attributor, Match
from starsmith.provenance.fingerprints import FingerprintTable
from starsmith.provenance.streaming import CONTEXT_CHARACTERS, MOST_TOKENS, AttributionStream

_COMPLETION = 1_200  # characters
_PIECES = (1, 2, 3, 4, 6, 12, 30)  # characters at a time
_CONTEXTS = (0, 50, 300, CONTEXT_CHARACTERS)


def leaks(index: FingerprintTable, attributor: Attributor, number: int, draw: random.Random) -> tuple[int, int]:
    """(streams that were blocked, streams of which too much left), of files cut at random places, within words too."""
    blocked = leaked = 0
    for before, completion in _cuts(index, number, draw):
        left, stopped = _stream(attributor, before, completion, draw)
        blocked += stopped
        found = attributor.attribute(before + left, start=len(before))
        leaked += any(match.tokens > MOST_TOKENS for match in found)
    return blocked, leaked


def _cuts(index: FingerprintTable, number: int, draw: random.Random) -> Iterator[tuple[str, str]]:
    while number:
        low, high = index.bounds(draw.randrange(len(index.documents)))
        text = index.text[low:high].tobytes().decode()
        if len(text) <= 2 * _COMPLETION:
            continue
        cursor = draw.randrange(len(text) - _COMPLETION)
        number -= 1
        yield text[max(cursor - draw.choice(_CONTEXTS), 0) : cursor], text[cursor : cursor + _COMPLETION]


def _stream(attributor: Attributor, before: str, completion: str, draw: random.Random) -> tuple[str, bool]:
    """What leaves, and whether it was ended; every kind of match is held against, so that none changes its mind."""
    follower, fed = AttributionStream(attributor, before), 0
    while fed < len(completion):
        size = draw.choice(_PIECES)
        follower.feed(completion[fed : fed + size])
        fed += size
        release = follower.release(_any)
        if release.blocked_by is not None:
            return completion[: release.characters], True
    return completion[: follower.release(_any, final=True).characters], False


def _any(_: Match) -> bool:
    return True
