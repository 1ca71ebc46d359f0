"""The newest request of a session ends the older one: what an editor asked before it was typed on helps nobody."""

import threading
from collections import OrderedDict
from collections.abc import Callable

MOST_SESSIONS = 4096  # remembered; the one that was silent longest is forgotten


class Sessions:
    """Which request of each session is the newest."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, object] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, session: str | None, cancelled: Callable[[], bool]) -> Callable[[], bool]:
        """The `cancelled` of a new request, which holds as well once a newer one of its session has come."""
        if session is None:
            return cancelled
        mine = object()
        with self._lock:
            self._newest[session] = mine
            self._newest.move_to_end(session)
            if len(self._newest) > MOST_SESSIONS:
                self._newest.popitem(last=False)
        return lambda: cancelled() or self._newest.get(session, mine) is not mine
