"""Where a completion comes from: the corpus files it shares code with, at offsets of the text the client sees."""

from dataclasses import replace
from typing import Any

from starsmith.provenance.attribution import Attributor, Match

CONTEXT_CHARACTERS = 2_000  # of the text before the completion: a copy may begin before the cursor


def sources_json(attributor: Attributor, before: str, text: str, *, shown: int = 0) -> list[dict[str, Any]]:
    """Matches that overlap the completion `text`, which stands after `before`.

    shown   characters of `before` that the client gets back in front of the completion (OpenAI's `echo`)
    returns offsets count from the first character the client gets; a match that begins earlier begins at 0
    """
    context = before[-CONTEXT_CHARACTERS:]
    matches = attributor.attribute(context + text, start=len(context))
    return [_moved(match, shown - len(context)).to_json() for match in matches]


def _moved(match: Match, by: int) -> Match:
    return replace(match, start=max(match.start + by, 0), end=match.end + by)
