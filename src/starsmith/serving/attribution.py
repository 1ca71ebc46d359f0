"""What a completion shares with the corpus, and how much of it may leave: attribution under one of four policies.

off                  nobody looks
annotate             every completion carries its matches
block                the text ends before more than MOST_TOKENS code tokens of a verbatim copy have left
block-nonpermissive  the same for copies of code that is not known to be under permissive licences only

Texts of licences and stretches without information (separators, tables of numbers) are never blocked.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from starsmith.provenance.attribution import MAX_SOURCES, Attributor, Match
from starsmith.provenance.streaming import MOST_TOKENS, AttributionStream, Blocks

Policy = Literal["off", "annotate", "block", "block-nonpermissive"]
Permissive = Callable[[str], bool]  # of one SPDX expression

POLICIES: tuple[Policy, ...] = get_args(Policy)
BLOCKING: tuple[Policy, ...] = ("block", "block-nonpermissive")
KINDS = ("source", "common", "licence", "low-information")
COPIES = ("source", "common")  # the kinds that may be blocked


def none_permissive(_: str) -> bool:
    """Where nobody says what is permissive, nothing is."""
    return False


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a server does with matches."""

    policy: Policy = "annotate"  # of clients that have none of their own
    permissive: Permissive = none_permissive
    all_permissive: bool = False  # every licence in the index is

    def blocks(self, policy: Policy) -> Blocks | None:
        """Whether a match must not leave whole; None where any may."""
        if policy == "block":
            return _is_copy
        if policy == "block-nonpermissive":
            return lambda match: _is_copy(match) and not self.is_permissive(match)
        return None

    def is_permissive(self, match: Match) -> bool:
        """True when every file that the match stands in is under a permissive licence.

        One permissive copy beside one that is not proves nothing: who copied from whom is not known. A match in more
        files than are listed is permissive if the whole index is.
        """
        listed = all(self.permissive(source.license) for source in match.sources)
        return listed and (self.all_permissive or _is_list_complete(match))


@dataclass(frozen=True)
class Finding:
    """A match of a completion; its offsets lie in the text that the client gets."""

    match: Match
    blocked: bool = False  # the text was ended because of it

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**self.match.to_json(), "blocked": self.blocked}


@dataclass(frozen=True)
class Attribution:
    """What was found of one completion, and the time that took of the request's."""

    findings: tuple[Finding, ...]
    seconds: float

    @property
    def blocked(self) -> bool:
        """True when the completion was ended because of a match."""
        return any(finding.blocked for finding in self.findings)

    @property
    def milliseconds(self) -> float:
        """The time, to the microsecond."""
        return round(self.seconds * 1000, 3)


class Watch:
    """Follows one completion, token by token, and says how much of it may leave."""

    def __init__(self, attributor: Attributor | None, before: str = "", *, blocks: Blocks | None = None) -> None:
        began = time.perf_counter()
        self._stream = AttributionStream(attributor, before) if attributor is not None else None
        self._blocks = blocks
        self._fed = 0
        self.released = 0  # characters that may leave
        self.blocked_by: Match | None = None
        self._seconds = time.perf_counter() - began

    def feed(self, text: str, *, final: bool = False) -> None:
        """The completion goes on with `text`."""
        began = time.perf_counter()
        self._fed += len(text)
        self.released = self._fed
        if self._stream is not None:
            self._stream.feed(text)
        if self._stream is not None and self._blocks is not None:
            release = self._stream.release(self._blocks, tokens=MOST_TOKENS, final=final)
            self.released, self.blocked_by = release.characters, release.blocked_by
        self._seconds += time.perf_counter() - began

    def result(self, *, length: int, shown: int = 0) -> Attribution | None:
        """What the first `length` characters of the completion share with the corpus; None where nobody looks.

        shown  characters of the prompt that the client gets in front of the completion (OpenAI's `echo`)
        """
        if self._stream is None:
            return None
        began = time.perf_counter()
        held = self.blocked_by
        found = [
            (match, False) for match in self._stream.matches() if match.start < length and not _is_same(match, held)
        ]
        if held is not None:
            found = sorted([*found, (held, True)], key=lambda pair: pair[0].start)
        findings = tuple(Finding(_within(match, length, shown), blocked) for match, blocked in found)
        return Attribution(findings, self._seconds + time.perf_counter() - began)


def count_kinds(attributions: Collection[Attribution]) -> dict[str, int]:
    """Findings by kind over the choices of an answer, and how many of the choices were blocked."""
    kinds: list[str] = [finding.match.kind for attribution in attributions for finding in attribution.findings]
    counts = {kind: kinds.count(kind) for kind in KINDS}
    return {**counts, "blocked": sum(attribution.blocked for attribution in attributions)}


def _is_copy(match: Match) -> bool:
    return match.kind in COPIES


def _is_list_complete(match: Match) -> bool:
    """False when there may be files beside those that are listed; of common code only a few were looked at."""
    return match.kind == "source" and (len(match.sources) < MAX_SOURCES or match.count <= len(match.sources))


def _is_same(match: Match, held: Match | None) -> bool:
    """True for the match that was held against the text, which the last word may have made longer since."""
    return (
        held is not None
        and (match.kind, match.start) == (held.kind, held.start)
        and match.tokens - held.tokens in (0, 1)
    )


def _within(match: Match, length: int, shown: int) -> Match:
    return replace(match, start=min(match.start, length) + shown, end=min(match.end, length) + shown)
