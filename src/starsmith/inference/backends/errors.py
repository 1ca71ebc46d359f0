"""What can go wrong with an upstream, told apart by whether another upstream might do better.

EngineError                  the model, ours or another's, cannot answer this request
 └─ UpstreamError            a fault of the upstream: unreachable, hung, dead, overloaded or speaking nonsense

A request that an upstream refuses for what is in it (too long, a bad parameter) is an `InputError`: every other would
refuse it, too, and the upstream's health is not in question.
"""

from starsmith.core.errors import EngineError


class UpstreamError(EngineError):
    """An upstream that did not do its work; another may."""

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status  # of HTTP, where there was an answer
        self.retry_after_s = retry_after_s  # the upstream's own word on when to come again
