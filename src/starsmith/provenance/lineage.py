"""An artefact and all it was made from become a verdict: it holds, something was changed, or a part is missing."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError

Verdict = Literal["holds", "tampered", "incomplete"]

UNREADABLE = "?"  # kind and id of an artefact whose manifest cannot be read


@dataclass(frozen=True)
class Checked:
    """One artefact of the chain."""

    path: Path
    kind: str
    id: str
    files: int


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was made; the message names the file."""

    path: Path  # the artefact's directory
    message: str


@dataclass(frozen=True)
class MissingParent:
    """An artefact that another was made from and that was not found."""

    child: Path
    role: str
    id: str


@dataclass
class Verification:
    """What was found in a chain, the artefact asked about first."""

    artifacts: list[Checked] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    missing: list[MissingParent] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """A change outweighs an absence."""
        if self.problems:
            return "tampered"
        return "incomplete" if self.missing else "holds"

    def problems_by_artifact(self) -> Counter[Path]:
        """How many problems each directory has."""
        return Counter(problem.path for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "verdict": self.verdict,
            "artifacts": [{**asdict(checked), "path": str(checked.path)} for checked in self.artifacts],
            "problems": [{"path": str(problem.path), "message": problem.message} for problem in self.problems],
            "missing": [{**asdict(parent), "child": str(parent.child)} for parent in self.missing],
        }


def verify_chain(path: Path) -> Verification:
    """Check the artefact at `path` and all of its ancestors, each once, down to the last byte."""
    if not path.is_dir():
        raise ArtifactError(
            f"{path} does not exist, or is no directory", hint="give the directory that a starsmith command wrote"
        )
    found = Verification()
    queue, seen = [path], {path.resolve()}
    for directory in queue:
        for parent in _check(directory, found):
            if parent.resolve() not in seen:
                seen.add(parent.resolve())
                queue.append(parent)
    return found


def _check(directory: Path, found: Verification) -> list[Path]:
    """Check one artefact; returns the directories of its parents."""
    found.problems += [Problem(directory, message) for message in artifact.verify(directory)]
    try:
        manifest = artifact.read(directory)
    except ArtifactError:  # it is among the problems already
        found.artifacts.append(Checked(directory, UNREADABLE, UNREADABLE, 0))
        return []
    found.artifacts.append(Checked(directory, manifest.kind, manifest.id, len(manifest.files)))
    parents = [_find_parent(directory, parent, found) for parent in manifest.parents]
    return [parent for parent in parents if parent is not None]


def _find_parent(child: Path, parent: artifact.Parent, found: Verification) -> Path | None:
    """The directory of a parent, its id and seal compared with what the child wrote down."""
    try:
        directory = artifact.parent_directory(child, parent.role)
    except ArtifactError:
        return _explain_absence(child, parent, found)
    try:
        if artifact.read(directory).seal != parent.seal:
            message = f"{directory / artifact.MANIFEST} is not the one that {child} was made from: its seal differs"
            found.problems.append(Problem(directory, message))
    except ArtifactError:  # said when the parent itself is checked
        pass
    return directory


def _explain_absence(child: Path, parent: artifact.Parent, found: Verification) -> Path | None:
    """Nothing has the parent's id: it is gone, or what lies in its place was damaged or swapped."""
    place = artifact.recorded_parent(child, parent.role)
    if place is None:
        found.missing.append(MissingParent(child, parent.role, parent.id))
        return None
    try:
        seen = artifact.read(place).id
    except ArtifactError:  # said when that directory itself is checked
        return place
    message = (
        f"{place / artifact.MANIFEST} has id {seen[:16]}…, {child} was made from the {parent.role} {parent.id[:16]}…"
    )
    found.problems.append(Problem(place, message))
    return place
