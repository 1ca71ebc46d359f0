"""Where the lines of a file can be seen: their address at the repository's host, where that has one."""

import re
from functools import lru_cache
from urllib.parse import quote

# Between the repository and the commit, before the first line, before the last; of hosts whose addresses last.
_HOSTS = {
    "github.com": ("blob", "#L", "-L"),
    "gitlab.com": ("-/blob", "#L", "-"),
    "codeberg.org": ("src/commit", "#L", "-L"),
    "bitbucket.org": ("src", "#lines-", ":"),
}
_REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://)?(?:[^@/\s]+@)?(?P<host>[\w.-]+)(?::\d+(?=/))?[:/](?P<name>[^\s?#]+?)(?:\.git)?/?"
)


def url_of(repository: str, commit: str, path: str, first_line: int, last_line: int) -> str:
    """A permanent address of these lines, or "" when the host is not known or the commit is not."""
    if not commit or (place := _place_of(repository)) is None:
        return ""
    base, (blob, first, last) = place
    return f"{base}/{blob}/{quote(commit)}/{quote(path)}{first}{first_line}{last}{last_line}"


@lru_cache(maxsize=4096)
def _place_of(repository: str) -> tuple[str, tuple[str, str, str]] | None:
    """The address of a repository, and the form of its host's addresses; None where the host is not known."""
    found = _REMOTE.fullmatch(repository)
    if not found or (form := _HOSTS.get(found["host"].lower())) is None:
        return None
    return f"https://{found['host'].lower()}/{quote(found['name'])}", form
