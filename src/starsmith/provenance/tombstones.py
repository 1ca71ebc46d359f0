"""Documents of an index that were withdrawn after it was made: from then on no answer names them.

`tombstones.json` in the index, or beside it as `NAME.tombstones.json`, has the requests' ids and the rows of
`documents.parquet`: {"requests": [{"id": "…"}], "documents": [3, 17]}, and perhaps the id of the `corpus` whose rows
they are: a mark stays where an index is made again. It is looked for again all the time, so a server that runs heeds
a withdrawal at once.
"""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError
from starsmith.core.statement import parse_json
from starsmith.provenance.marks import LARGEST_BYTES

NAME = "tombstones.json"
RECHECK_S = 0.02  # a completion asks fifty times a second

_Stamp = tuple[tuple[int, int, int] | None, ...]  # of each place: inode, time of change and size, if it is there


class Tombstones:
    """The withdrawn documents of one index, read again when the file changes."""

    def __init__(self, index: Path | None, documents: int) -> None:
        self._places = (index / NAME, index.resolve().with_name(f"{index.resolve().name}.{NAME}")) if index else ()
        self._corpora = [parent.id for parent in artifact.read(index).parents] if index else []
        self._documents = documents
        self._stamp: _Stamp = ()
        self._checked_at = float("-inf")
        self._removed = np.zeros(documents, np.bool_)

    def removed(self) -> NDArray[np.bool_]:
        """(D,) true for each withdrawn document; the same array until something changes."""
        if (now := time.monotonic()) - self._checked_at < RECHECK_S:
            return self._removed
        stamp = tuple(_stamp(place) for place in self._places)
        if stamp != self._stamp:
            removed = np.zeros(self._documents, np.bool_)
            for place, seen in zip(self._places, stamp, strict=True):
                if seen is not None:
                    removed[self._read(place)] = True
            self._removed, self._stamp = removed, stamp
        self._checked_at = now  # after it was read: one that cannot be is an error each time, and not every other
        return self._removed

    def _read(self, place: Path) -> list[int]:
        hint = "write it again: starsmith corpus remove"
        try:
            if place.stat().st_size > LARGEST_BYTES:
                raise ValueError(f"more than {LARGEST_BYTES:,} bytes")
            content = parse_json(place.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{place} cannot be read: {error}", hint=hint) from None
        documents = content.get("documents", []) if isinstance(content, dict) else None
        if not isinstance(documents, list) or not all(
            isinstance(row, int) and not isinstance(row, bool) and 0 <= row < self._documents for row in documents
        ):
            raise ArtifactError(f"{place}: documents is no list of rows below {self._documents}", hint=hint)
        if content.get("corpus") not in (None, *self._corpora):
            raise ArtifactError(
                f"{place} has rows of another corpus than this index was made from",
                hint="take it away if the index has nothing of what was withdrawn; else run starsmith corpus remove",
            )
        return documents


def _stamp(place: Path) -> tuple[int, int, int] | None:
    try:
        status = place.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
