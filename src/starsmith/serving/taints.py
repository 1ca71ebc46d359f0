"""What was withdrawn of the things that a model and an index were made from, told by the ids of the requests.

Marks are set while a server runs, so they are looked for again from time to time.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starsmith.core import ancestry, artifact
from starsmith.core.errors import ArtifactError
from starsmith.provenance.marks import marks_of, requests_in

RECHECK_S = 10.0
NAMED_IN_HEADER = 20
UNKNOWN = "unknown"  # the request of a mark that does not say


@dataclass(frozen=True)
class Link:
    """An artefact of the chain."""

    directory: Path
    kind: str
    id: str | None


@dataclass(frozen=True)
class Taint:
    """An artefact that is marked, and the requests that the mark names."""

    kind: str
    id: str | None
    requests: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"kind": self.kind, "artefact": self.id, "requests": list(self.requests)}


class Taints:
    """The marks of some artefacts and of all that they were made from, as far as it is there."""

    def __init__(self, chain: tuple[Link, ...] = ()) -> None:
        self._chain = chain
        self._found: tuple[Taint, ...] = ()
        self._read_at = float("-inf")

    @classmethod
    def of(cls, *directories: Path) -> "Taints":
        """Those of the artefacts in `directories`."""
        links = {link.directory.resolve(): link for directory in directories for link in _chain(directory)}
        return cls(tuple(links.values()))

    def read(self) -> tuple[Taint, ...]:
        """The marks, as of a few seconds ago at most."""
        if self._chain and (now := time.monotonic()) - self._read_at >= RECHECK_S:
            self._found = tuple(taint for link in self._chain for taint in _taints(link))
            self._read_at = now
        return self._found

    def requests(self) -> list[str]:
        """The ids of the requests, each once."""
        return list(dict.fromkeys(name for taint in self.read() for name in taint.requests))

    def header(self) -> str:
        """The ids as a header's value: what a header cannot carry is percent-encoded."""
        names = self.requests()
        more = [f"and {len(names) - NAMED_IN_HEADER} more"] if len(names) > NAMED_IN_HEADER else []
        return ", ".join([*(quote(name, safe=":/@+") for name in names[:NAMED_IN_HEADER]), *more])


def _chain(directory: Path) -> Iterator[Link]:
    """The artefact in `directory` and those it was made from, as far as they are found."""
    queue = [directory]
    for place in queue:
        try:
            manifest = artifact.read(place)
        except ArtifactError:
            yield Link(place, "checkpoint", None)
            continue
        yield Link(place, manifest.kind, manifest.id)
        for parent in manifest.parents:
            with suppress(ArtifactError):  # gone or elsewhere: there is nothing to look at
                queue.append(ancestry.parent_directory(place, parent.role))


def _taints(link: Link) -> Iterator[Taint]:
    """The marks in an artefact and beside it; one that cannot be read is a mark nevertheless."""
    if marks := marks_of(link.directory):
        names = dict.fromkeys(name for mark in marks for name in requests_in(mark) or ())
        yield Taint(link.kind, link.id, tuple(names) or (UNKNOWN,))
