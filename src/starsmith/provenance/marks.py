"""The marks of withdrawn sources that an artefact bears, in it or beside it, and the requests that they name.

`tainted.json` and `tombstones.json` (`core.artifact.MARKS`) are set after an artefact was made. One that cannot be read
is a mark nevertheless: somebody has put it there.
"""

from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.statement import parse_json

LARGEST_BYTES = 1 << 28
_LONGEST_NAME = 200  # characters of an id


def marks_of(directory: Path) -> list[Path]:
    """The marks in an artefact and beside it (`NAME.tainted.json`)."""
    real = directory.resolve()
    places = [real / name for name in artifact.MARKS]
    places += [real.with_name(f"{real.name}.{name}") for name in artifact.MARKS]
    return [place for place in places if place.is_symlink() or place.exists()]


def requests_in(mark: Path) -> list[str] | None:
    """The ids of the requests in a mark, each once; None if it cannot be read."""
    try:
        if mark.is_symlink() or not mark.is_file() or mark.stat().st_size > LARGEST_BYTES:
            return None
        return list(dict.fromkeys(_names(parse_json(mark.read_bytes()))))
    except (OSError, ValueError, RecursionError):
        return None


def _names(value: Any) -> list[str]:
    """Request ids: a string, an object with `id`, `request` or `requests`, or a list of these."""
    if isinstance(value, str):
        return [value[:_LONGEST_NAME].encode("utf-8", "replace").decode()]  # a lone surrogate is in no header
    if isinstance(value, list):
        return [name for item in value for name in _names(item)]
    if isinstance(value, dict):
        return [name for key in ("id", "request", "requests") for name in _names(value.get(key))]
    return []
