"""Who types where: the session that a request belongs to, and what stays the same within one.

An editor asks anew at nearly every key, and only its newest question counts. Two people must not share a session, or
one would end the other's requests. So it is told by a token of one's own, a user's id, or this machine; of a stranger
behind an address, which may be a proxy's, by the connection, which asks one thing at a time anyway.
"""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from fastapi import Request

from starsmith.serving.clients import ANYONE, ONE_CLIENT, Client
from starsmith.tokenizer.fim import Repository

LOOPBACK = ("127.0.0.1", "::1", "testclient")  # the last is the address of Starlette's client, in this process
SESSIONS = 512  # the least recently used is forgotten
TYPED_CHARACTERS = 1_000  # after so many at one place the other files are looked at again


def session_of(request: Request, client: Client, *, user: str | None, place: str) -> str:
    """The session of somebody who types at a place, a file of a repository."""
    host, port = request.client if request.client is not None else ("", 0)
    if client.name not in (ANYONE, ONE_CLIENT):
        who = f"client {client.name}"
    elif user:
        who = f"user {user}"
    else:
        who = f"host {host}" if host in LOOPBACK else f"connection {host} {port}"
    return f"{who} in {place}"


def session_of_user(request: Request, client: Client, user: str | None) -> str | None:
    """The session of a program's user, who is told apart even where all of them share one client's token."""
    return session_of(request, client, user=user, place=f"the program of {user}") if user else None


@dataclass(frozen=True)
class _Settled:
    """What a session has been shown, and where its cursor was then."""

    repository: Repository
    suffix: bytes
    prefix_length: int


class StickyContexts:
    """Keeps the other files of a prompt as they were while somebody types on: new ones would have all be read again.

    What stands behind the cursor leads the prompt; when that changes, so may what stands before it.
    """

    def __init__(self, *, sessions: int = SESSIONS) -> None:
        self._most = sessions
        self._settled: OrderedDict[str, _Settled] = OrderedDict()
        self._lock = threading.Lock()

    def settle(self, session: str, prefix: str, suffix: str, repository: Repository) -> Repository:
        """The context to use for this request."""
        now = _Settled(repository, hashlib.sha256(suffix.encode("utf-8", "surrogatepass")).digest(), len(prefix))
        with self._lock:
            before = self._settled.get(session)
            if before is not None and _goes_on(before, now):
                now = before
            self._settled[session] = now
            self._settled.move_to_end(session)
            if len(self._settled) > self._most:
                self._settled.popitem(last=False)
        return now.repository


def _goes_on(before: _Settled, now: _Settled) -> bool:
    same_file = (before.repository.name, before.repository.path) == (now.repository.name, now.repository.path)
    near = abs(now.prefix_length - before.prefix_length) <= TYPED_CHARACTERS
    return same_file and near and before.suffix == now.suffix
