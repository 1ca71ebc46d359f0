"""Several upstreams as one `TextEngine`: requests go where it is healthy and least is going on.

A session stays with its upstream, which has its prompt's keys and values, for as long as that is healthy. A request
whose upstream fails before its first text goes to another; after that it cannot, since the other would write something
else, and fails alone. Health is learnt from requests and, in the background, by asking for the list of models; an
upstream that was at fault has to write a token in the background before users are sent there again, unless no other
is left.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from starsmith.core.errors import ConfigError, EngineError, InputError
from starsmith.inference.backends.circuit import Circuit
from starsmith.inference.backends.errors import UpstreamError
from starsmith.inference.backends.sessions import MOST_SESSIONS, Sessions
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams, never
from starsmith.inference.text_engine import TextChunk, TextCompletion, join

CHECK_EVERY_S = 5.0
TRIAL = CompletionRequest(prefix="def ", params=SamplingParams(max_tokens=1))


class Backend(Protocol):
    """What the balancer asks of an upstream."""

    name: str

    def stream(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Generator[TextChunk]:
        """See `TextEngine.stream`."""
        ...

    def check(self) -> None:
        """Raise EngineError if it is not there, or not well."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True)
class Health:
    """How an upstream does, for people and metrics."""

    name: str
    healthy: bool
    outstanding: int  # requests that it is answering
    faults: int  # in a row


@dataclass(eq=False)
class _Place:
    """One upstream and what is known of it."""

    backend: Backend
    circuit: Circuit = field(default_factory=Circuit)
    outstanding: int = 0
    chosen: int = 0  # when it was last chosen, as a running number
    fault: EngineError | None = None  # the latest


@dataclass(frozen=True)
class _Turn:
    """A request at its upstream."""

    place: _Place
    trial: bool


class Balancer:
    """Spreads requests over upstreams."""

    def __init__(self, backends: Sequence[Backend], *, check_every_s: float = CHECK_EVERY_S) -> None:
        if not backends:
            raise ConfigError("there is no upstream", hint="give at least one address")
        self.name = ", ".join(backend.name for backend in backends)
        self._places = [_Place(backend) for backend in backends]
        self._lock = threading.Lock()
        self._homes: OrderedDict[str, _Place] = OrderedDict()  # of sessions
        self._sessions = Sessions()
        self._choices = 0
        self._closing = threading.Event()
        self._checkers = [
            threading.Thread(target=self._keep_checking, args=(place, check_every_s), daemon=True)
            for place in self._places
        ]
        for checker in self._checkers:
            checker.start()

    def stream(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Generator[TextChunk]:
        """See `TextEngine.stream`."""
        ended = self._sessions.enter(request.session, cancelled)
        tried: dict[_Place, EngineError] = {}
        while (turn := self._choose(request.session, tried)) is not None:
            begun = False
            try:
                with self._at(turn), closing(turn.place.backend.stream(request, ended)) as chunks:
                    for chunk in chunks:
                        begun = True
                        if chunk.finish_reason not in (None, "cancelled"):
                            self._succeed(turn.place)
                        yield chunk
                return
            except EngineError as error:
                if begun:
                    raise
                tried[turn.place] = error
        raise self._nobody(tried)

    def complete(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> TextCompletion:
        """See `TextEngine.complete`."""
        return join(self.stream(request, cancelled))

    def health(self) -> list[Health]:
        """How each upstream does."""
        with self._lock:
            return [
                Health(place.backend.name, place.circuit.healthy, place.outstanding, place.circuit.faults)
                for place in self._places
            ]

    def close(self) -> None:
        """Stop checking, and let go of the upstreams."""
        self._closing.set()
        for place in self._places:
            place.backend.close()
        for checker in self._checkers:
            checker.join()

    def _choose(self, session: str | None, tried: Mapping[_Place, EngineError]) -> _Turn | None:
        """Where a request goes: home, or else to the healthy one with least to do, or to one that may be tried."""
        now = time.monotonic()
        with self._lock:
            able = [place for place in self._places if place not in tried and place.circuit.lets_pass(now)]
            if not able:
                return None
            home = self._homes.get(session) if session is not None else None
            least = min(able, key=lambda place: (not place.circuit.healthy, place.outstanding, place.chosen))
            place = home if home in able and home.circuit.healthy else least
            self._settle(session, place)
            self._choices += 1
            place.chosen = self._choices
            place.outstanding += 1
            return _Turn(place, place.circuit.begin())

    def _settle(self, session: str | None, place: _Place) -> None:
        if session is None:
            return
        self._homes[session] = place
        self._homes.move_to_end(session)
        if len(self._homes) > MOST_SESSIONS:
            self._homes.popitem(last=False)

    @contextmanager
    def _at(self, turn: _Turn) -> Iterator[None]:
        """While a request is at its upstream, whose faults are noted."""
        place = turn.place
        try:
            yield
        except EngineError as error:
            self._fail(place, error)
            raise
        finally:
            with self._lock:
                place.outstanding -= 1
                if turn.trial:
                    place.circuit.end_trial()

    def _succeed(self, place: _Place) -> None:
        with self._lock:
            place.circuit.succeed()

    def _fail(self, place: _Place, error: EngineError) -> None:
        asked_s = error.retry_after_s if isinstance(error, UpstreamError) else None
        with self._lock:
            place.circuit.fail(time.monotonic(), asked_s)
            place.fault = error

    def _nobody(self, tried: Mapping[_Place, EngineError]) -> EngineError:
        """The error when no upstream could answer; of a lone one it is its own."""
        now = time.monotonic()
        with self._lock:
            faults = [tried.get(place, place.fault) for place in self._places]
            wait_s = max(min(place.circuit.opens_at for place in self._places) - now, 0.0)
        known = [fault for fault in faults if fault is not None]
        said = "; ".join(fault.message for fault in known)
        hint = known[0].hint if len(self._places) == 1 and known else "see their logs"
        if len(self._places) > 1:
            said = f"no upstream could answer: {said}"
        elif not tried:
            said = f"{said} (it is tried again in {wait_s:.1f} s)"
        return UpstreamError(said, hint=hint, retry_after_s=wait_s)

    def _keep_checking(self, place: _Place, every_s: float) -> None:
        while not self._closing.is_set():
            self._check(place)
            self._closing.wait(every_s)

    def _check(self, place: _Place) -> None:
        """Ask whether it is there; if it was at fault, and was left alone long enough, whether it writes."""
        try:
            place.backend.check()
        except EngineError as error:
            if not self._closing.is_set():
                self._fail(place, error)
            return
        with self._lock:
            if place.circuit.healthy or not place.circuit.lets_pass(time.monotonic()):
                return
            place.outstanding += 1
            turn = _Turn(place, place.circuit.begin())
        with suppress(EngineError, InputError), self._at(turn):
            for chunk in place.backend.stream(TRIAL, self._closing.is_set):
                if chunk.finish_reason not in (None, "cancelled"):
                    self._succeed(place)
