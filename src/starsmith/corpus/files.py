"""What flows from the sources through the stages: a raw file, or the reason why one goes no further."""

from dataclasses import dataclass

from starsmith.corpus.licenses import NOTHING, Finding

CODE, NOTEBOOK, ISSUE, PULL_REQUEST, DOCUMENTATION = "code", "notebook", "issue", "pull_request", "documentation"


@dataclass(kw_only=True, slots=True)  # not frozen: that takes three times as long to make, for every file
class RawFile:
    """A file as its source has it, before anything was decided."""

    path: str  # relative to the repository's root, `/` separated, valid Unicode
    content: bytes
    repository: str  # URL or name
    commit: str = ""  # full commit id, "" outside git
    license: Finding = NOTHING  # of its folder, or declared for its repository; what the file itself says comes first
    language: str | None = None  # Linguist's name, where the source knows it
    stars: int | None = None
    date: str = ""  # of the revision, ISO 8601; "" when unknown
    kind: str = CODE
    controls: tuple[int, ...] = ()  # of a rendered document: character offsets at which a control token stands


@dataclass(frozen=True)
class Drop:
    """Why a file goes no further."""

    reason: str  # counted under this name, for example "long_line"
    detail: str = ""  # what was seen and what was wanted: "line 3 has 4,031 characters, at most 1,000 are allowed"


@dataclass(frozen=True)
class Unreadable:
    """A file that its source lists and cannot give."""

    path: str
    repository: str
    drop: Drop
