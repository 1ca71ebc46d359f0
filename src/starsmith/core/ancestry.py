"""Where the artefacts lie that another was made from: where they were, or else beside it."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from starsmith.core.artifact import MANIFEST, PARENTS, RUN, read
from starsmith.core.errors import ArtifactError
from starsmith.core.statement import read_bytes


def parent_directory(path: Path, role: str) -> Path:
    """Where the parent in `role` of the artefact at `path` lies: where it was, or else beside the artefact."""
    manifest = read(path)
    wanted = next((parent for parent in manifest.parents if parent.role == role), None)
    if wanted is None:
        raise ArtifactError(f"{path} was not made from a {role}", hint=f"it is a {manifest.kind} artefact")
    siblings = sorted(path.resolve().parent.iterdir())
    for candidate in [*_recorded_places(path, role), *siblings]:
        if _has_id(candidate, wanted.id):
            return candidate
    raise ArtifactError(
        f"the {role} that {path} was made from (id {wanted.id[:16]}…) was not found",
        hint=f"put it beside {path}",
    )


def recorded_parent(path: Path, role: str) -> Path | None:
    """The directory, whatever is in it now, at the place where the parent in `role` was."""
    return next((place for place in _recorded_places(path, role) if os.path.isdir(place)), None)  # noqa: PTH112 Path.is_dir raises for a name that is too long


def ancestor_directory(path: Path, kind: str) -> Path:
    """The nearest artefact of `kind` in the chain above `path`."""
    queue = [path]
    for directory in queue:
        for parent in read(directory).parents:
            found = parent_directory(directory, parent.role)
            if read(found).kind == kind:
                return found
            queue.append(found)
    raise ArtifactError(f"there is no {kind} in the chain above {path}", hint=f"give the {kind} directory")


def _recorded_places(path: Path, role: str) -> Iterator[Path]:
    """Where the parent lay when the artefact was made, and beside the artefact under its role's name."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        relative = json.loads(read_bytes(path / RUN / PARENTS))[role]
        yield Path(os.path.normpath(path / relative))
        yield Path(os.path.normpath(path.resolve() / relative))  # `path` may be a link to the artefact
    yield path.resolve().parent / role


def _has_id(path: Path, wanted: str) -> bool:
    try:
        return bool(json.loads(read_bytes(path / MANIFEST))["predicate"]["id"] == wanted)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
