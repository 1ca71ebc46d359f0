"""What was suggested is remembered, so that a person who types it gets the rest of it without a call of the model.

A suggestion holds for the place where it was made: the same suffix, the same way of asking, and a prefix that has
grown by the suggestion's own first characters. Editors that send some lines around the cursor move their window as
lines are typed, so a prefix that lost its first lines counts as the same if its last characters are.
"""

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

SESSIONS = 512  # the least recently used is forgotten
SUGGESTIONS = 16  # of one session; the oldest is forgotten
TAIL_CHARACTERS = 512  # of the prefix, that tell a place where the window has moved

DRAFT_CHARACTERS = 100  # of the prefix: enough tokens to recognise the place by

Ended = Literal["stop", "length"]


@dataclass(frozen=True)
class Place:
    """Where and how a completion was asked for. Texts of any length take a few bytes."""

    length: int  # of the prefix, in characters
    digest: bytes  # of the prefix
    tail: str  # its last characters
    suffix: bytes  # a digest
    manner: Hashable  # all that shapes a completion beside the text around it


@dataclass(frozen=True)
class Suggestion:
    """What was answered at a place; `ended` is None where the answer was broken off."""

    place: Place
    text: str
    ended: Ended | None


@dataclass(frozen=True)
class Rest:
    """What is left of a suggestion."""

    text: str
    ended: Ended


def place_of(prefix: str, suffix: str, manner: Hashable) -> Place:
    """The place of a request."""
    return Place(len(prefix), _digest(prefix), prefix[-TAIL_CHARACTERS:], _digest(suffix), manner)


class TypingAlong:
    """The suggestions of all sessions. Safe to call from several threads."""

    def __init__(self, *, sessions: int = SESSIONS) -> None:
        self._most = sessions
        self._sessions: OrderedDict[str, deque[Suggestion]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, session: str, suggestion: Suggestion) -> None:
        """Keep what was answered."""
        with self._lock:
            self._sessions.setdefault(session, deque(maxlen=SUGGESTIONS)).append(suggestion)
            self._sessions.move_to_end(session)
            if len(self._sessions) > self._most:
                self._sessions.popitem(last=False)

    def rest(self, session: str, prefix: str, place: Place, *, repeats: bool) -> Rest | None:
        """What is left at `place` of the newest suggestion that goes on there, if anything.

        repeats  whether the very same request gets the same answer: not where each is to be drawn anew
        """
        for suggestion in self._of(session):
            if suggestion.ended is None or suggestion.place.manner != place.manner:
                continue
            typed = _typed(suggestion, prefix, place) if suggestion.place.suffix == place.suffix else None
            if typed is None or (typed == 0 and not repeats):
                continue
            rest = suggestion.text[typed:]
            if typed == 0 or rest.strip():
                return Rest(rest, suggestion.ended)
        return None

    def latest(self, session: str) -> tuple[str, str]:
        """A little of the code before the newest suggestion, and its text, to draft from; empty where there is none."""
        return next(((one.place.tail[-DRAFT_CHARACTERS:], one.text) for one in self._of(session)), ("", ""))

    def _of(self, session: str) -> list[Suggestion]:
        """The newest first."""
        with self._lock:
            return list(reversed(self._sessions.get(session, ())))


def _typed(suggestion: Suggestion, prefix: str, place: Place) -> int | None:
    """How many characters of a suggestion stand before the cursor now; None where it does not go on there."""
    before, text = suggestion.place, suggestion.text
    if place.length == before.length:
        return 0 if place.digest == before.digest else None
    typed = place.length - before.length
    if 0 < typed <= len(text) and prefix.endswith(text[:typed]):
        return typed if _digest(prefix[: before.length]) == before.digest else None
    if len(before.tail) < TAIL_CHARACTERS:
        return None  # the whole prefix was sent, so there was no window that might have moved
    moved = (
        count for count in range(len(text), 0, -1) if count > typed and prefix.endswith(before.tail + text[:count])
    )
    return next(moved, None)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
