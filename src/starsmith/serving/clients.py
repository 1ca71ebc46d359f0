"""Tokens become clients: who asks, under which name the log has them, and what their attribution does.

The file is the administrator's, so a client's policy holds whether it is stricter or laxer than the server's.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from starsmith.core.config import build, read_toml
from starsmith.core.errors import ConfigError
from starsmith.serving.attribution import POLICIES, Policy

ANYONE = "anyone"  # who asks a server without tokens
ONE_CLIENT = "client"  # who sends the one token of a server that has no more
_SHA256 = re.compile("[0-9a-fA-F]{64}")
_NAME = re.compile(r"[\w.@+-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Client:
    """Somebody whom the server answers."""

    name: str
    policy: Policy | None = None  # of attribution; None: the server's


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """One table of a tokens file; its name is the client's."""

    token: str | None = None  # what `Authorization: Bearer` carries ...
    sha256: str | None = None  # ... or the sha256 of that, in hex, so that the file gives no token away
    attribution: str | None = None  # a policy of this client's own

    def __post_init__(self) -> None:
        if (self.token is None) == (self.sha256 is None):
            raise ConfigError("wanted: one of token and sha256", hint='for example token = "a long random text"')
        if self.token is not None and (not self.token.isprintable() or not self.token.strip()):
            raise ConfigError("the token is empty or has characters that no header can carry", hint="make another")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ConfigError(f"sha256 = {self.sha256!r} is no sha256", hint="printf %s TOKEN | sha256sum")
        if self.attribution is not None and self.attribution not in POLICIES:
            raise ConfigError(f"attribution = {self.attribution!r} is no policy", hint=f"one of {', '.join(POLICIES)}")

    @property
    def digest(self) -> str:
        """The sha256 of the token."""
        return digest_of(self.token) if self.token is not None else str(self.sha256).lower()

    @property
    def policy(self) -> Policy | None:
        """The policy, if the client has one of its own."""
        return next((policy for policy in POLICIES if policy == self.attribution), None)


def digest_of(token: str) -> str:
    """By what a token is looked up: the time that takes tells nothing about other tokens."""
    return hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()


def read_clients(path: Path) -> dict[str, Client]:
    """The clients of a tokens file by the sha256 of their tokens."""
    clients: dict[str, Client] = {}
    for name, table in read_toml(path, "the file of tokens", hint="give a TOML file of tokens with --tokens").items():
        if not _NAME.fullmatch(name) or name in (ANYONE, ONE_CLIENT):
            hint = f"letters, digits and . _ @ + - only, and neither {ANYONE} nor {ONE_CLIENT}"
            raise ConfigError(f"{path} [{name}]: no name for a client", hint=hint)
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name!r} stands outside a table", hint=f'write [{name}] and token = "…" below')
        entry = build(TokenTable, table, where=f"{path} [{name}]")
        if (other := clients.get(entry.digest)) is not None:
            raise ConfigError(f"{path}: {other.name} and {name} have the same token", hint="make one for each")
        clients[entry.digest] = Client(name=name, policy=entry.policy)
    if not clients:
        raise ConfigError(f"{path} has no client", hint='write [NAME] and token = "a long random text" below')
    return clients
