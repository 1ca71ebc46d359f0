"""An artefact and all it was made from become a verdict: it holds, something was changed, or a part is missing."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from starsmith.core import ancestry, artifact
from starsmith.core.errors import ArtifactError
from starsmith.provenance.contents import check_contents
from starsmith.provenance.policy import Demands

Verdict = Literal["holds", "tampered", "incomplete", "policy"]
# Does a kind of artefact again: (problems, notes).
Redo = Callable[[Path, artifact.Manifest], tuple[list[str], list[str]]]

UNREADABLE = "?"  # kind and id of an artefact whose manifest cannot be read
# A parent's role is its kind where it is one of these.
KINDS = ("corpus", "benchmarks", "tokenizer", "tokens", "model", "evaluation", "index")


@dataclass(frozen=True)
class Checked:
    """One artefact of the chain."""

    path: Path
    kind: str
    id: str
    files: int


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was made, or must not be used; the message names the file."""

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
    pinned: list[MissingParent] = field(default_factory=list)  # not there, but the caller vouches for its id
    objections: list[Problem] = field(default_factory=list)  # of the policy
    notes: list[str] = field(default_factory=list)  # what could not be done again

    @property
    def verdict(self) -> Verdict:
        """A change outweighs an absence, and that an objection."""
        if self.problems:
            return "tampered"
        if self.missing:
            return "incomplete"
        return "policy" if self.objections else "holds"

    def problems_by_artifact(self) -> Counter[Path]:
        """How many problems each directory has."""
        return Counter(problem.path for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "verdict": self.verdict,
            "artifacts": [{**asdict(checked), "path": str(checked.path)} for checked in self.artifacts],
            "problems": [_problem_json(problem) for problem in self.problems],
            "missing": [{**asdict(parent), "child": str(parent.child)} for parent in self.missing],
            "pinned": [{**asdict(parent), "child": str(parent.child)} for parent in self.pinned],
            "objections": [_problem_json(problem) for problem in self.objections],
            "notes": self.notes,
        }


def verify_chain(
    path: Path,
    *,
    policy: Demands | None = None,
    pins: Collection[str] = (),
    redo: Mapping[str, Redo] | None = None,
) -> Verification:
    """Check the artefact at `path` and all of its ancestors, each once, down to the last byte.

    policy  what may be used; without one, only a withdrawn source is told of
    pins    ids of artefacts that need not be there: whoever gives them has checked them elsewhere
    redo    kind -> what does such an artefact again, for what can be done again; only where all else holds
    """
    if not path.is_dir():
        raise ArtifactError(
            f"{path} does not exist, or is no directory", hint="give the directory that a starsmith command wrote"
        )
    walk = _Walk(policy or Demands(), frozenset(pins))
    queue, seen = [path], {path.resolve()}
    for directory in queue:
        for parent in walk.check(directory):
            if parent.resolve() not in seen:
                seen.add(parent.resolve())
                queue.append(parent)
    found = walk.found
    kinds = {checked.kind for checked in found.artifacts}
    found.objections += [Problem(path, message) for message in walk.policy.check_chain(kinds)]
    if redo and not found.problems:
        _redo(found, redo)
    return found


@dataclass
class _Walk:
    """The state of one verification."""

    policy: Demands
    pins: frozenset[str]
    found: Verification = field(default_factory=Verification)

    def check(self, directory: Path) -> list[Path]:
        """Check one artefact; returns the directories of its parents."""
        found = self.found
        problems = artifact.verify(directory)
        try:
            manifest = artifact.read(directory)
        except ArtifactError:  # it is among the problems already
            found.artifacts.append(Checked(directory, UNREADABLE, UNREADABLE, 0))
            found.problems += [Problem(directory, message) for message in problems]
            return []
        problems = problems or check_contents(directory, manifest)
        found.problems += [Problem(directory, message) for message in problems]
        found.artifacts.append(Checked(directory, manifest.kind, manifest.id, len(manifest.files)))
        found.objections += [Problem(directory, message) for message in self.policy.check(directory, manifest)]
        parents = [self._find_parent(directory, parent) for parent in manifest.parents]
        return [parent for parent in parents if parent is not None]

    def _find_parent(self, child: Path, parent: artifact.Parent) -> Path | None:
        """The directory of a parent; its id, seal and kind compared with what the child wrote down."""
        try:
            directory = ancestry.parent_directory(child, parent.role)
        except ArtifactError:
            return self._explain_absence(child, parent)
        try:
            manifest = artifact.read(directory)
        except ArtifactError:  # said when the parent itself is checked
            return directory
        if manifest.seal != parent.seal:
            message = f"{directory / artifact.MANIFEST} is not the one that {child} was made from: its seal differs"
            self.found.problems.append(Problem(directory, message))
        if parent.role in KINDS and manifest.kind != parent.role:
            message = (
                f"{child / artifact.MANIFEST} names {directory} as its {parent.role}, it is of kind {manifest.kind}"
            )
            self.found.problems.append(Problem(child, message))
        return directory

    def _explain_absence(self, child: Path, parent: artifact.Parent) -> Path | None:
        """Nothing has the parent's id: it is gone, or what lies in its place was damaged or swapped."""
        place = ancestry.recorded_parent(child, parent.role)
        if place is None:
            gone = self.found.pinned if parent.id in self.pins else self.found.missing
            gone.append(MissingParent(child, parent.role, parent.id))
            return None
        try:
            seen = artifact.read(place).id
        except ArtifactError:  # said when that directory itself is checked
            return place
        message = (
            f"{place / artifact.MANIFEST} has id {seen[:16]}…, "
            f"{child} was made from the {parent.role} {parent.id[:16]}…"
        )
        self.found.problems.append(Problem(place, message))
        return place


def _redo(found: Verification, redo: Mapping[str, Redo]) -> None:
    for checked in found.artifacts:
        if checked.kind not in redo:
            found.notes.append(f"{checked.path} cannot be made again: it is of kind {checked.kind}")
            continue
        if any(gone.child == checked.path for gone in (*found.missing, *found.pinned)):
            found.notes.append(f"{checked.path} was not made again: what it was made from is not there")
            continue
        problems, notes = redo[checked.kind](checked.path, artifact.read(checked.path))
        found.problems += [Problem(checked.path, message) for message in problems]
        found.notes += notes


def _problem_json(problem: Problem) -> dict[str, str]:
    return {"path": str(problem.path), "message": problem.message}
