"""Where the lines of a file can be seen: their address at the repository's host, where that has one."""

import re
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
    found = _REMOTE.fullmatch(repository)
    if not found or not commit or (form := _HOSTS.get(found["host"].lower())) is None:
        return ""
    blob, first, last = form
    return (
        f"https://{found['host'].lower()}/{quote(found['name'])}/{blob}/{quote(commit)}/{quote(path)}"
        f"{first}{first_line}{last}{last_line}"
    )
