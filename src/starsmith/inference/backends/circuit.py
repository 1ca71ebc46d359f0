"""Whether an upstream is worth asking: a fault closes the way to it for a while, longer with each one after.

closed      healthy: every request may pass
open        at fault: none passes until the time is up
half-open   one request passes as a trial; it closes the circuit, or opens it for twice as long
"""

from dataclasses import dataclass

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
LONGEST_ASKED_S = 120.0  # that an upstream's Retry-After is believed


@dataclass
class Circuit:
    """The health of one upstream, as it was found. Times are of one clock that only goes forward."""

    faults: int = 0  # in a row
    opens_at: float = 0.0  # when the next trial may pass
    trying: bool = False

    @property
    def healthy(self) -> bool:
        """True while it is closed."""
        return self.faults == 0

    def lets_pass(self, now: float) -> bool:
        """Whether a request may go there."""
        return self.healthy or (now >= self.opens_at and not self.trying)

    def begin(self) -> bool:
        """A request goes there; whether it is the trial, which has to say when it ends."""
        if self.healthy:
            return False
        self.trying = True
        return True

    def end_trial(self) -> None:
        """The trial is over; what it showed was told before, if anything."""
        self.trying = False

    def succeed(self) -> None:
        """A request went well."""
        self.faults = 0

    def fail(self, now: float, asked_s: float | None = None) -> None:
        """A request or a check found a fault; `asked_s` is for how long the upstream asked to be left alone."""
        self.faults += 1
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(self.faults - 1, 16), LONGEST_WAIT_S)
        self.opens_at = now + max(wait_s, min(asked_s or 0.0, LONGEST_ASKED_S))
