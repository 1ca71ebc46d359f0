"""A model by its manifest, and everything it was made from and measured by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, StarsmithError
from starsmith.provenance.papers import bases
from starsmith.provenance.papers.about import About
from starsmith.provenance.papers.bases import Base, Restrictions
from starsmith.provenance.papers.facts import (
    CorpusFacts,
    Opened,
    open_artifact,
    open_parent,
    read_corpus,
    read_object,
)

ARCHITECTURE, RESULTS = "config.json", "results.json"
_MEASURES = ("evaluation", "memorization-audit", "exposure-audit")  # kinds of artefacts that say something of a model


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation."""

    type: str  # short name without spaces
    name: str
    value: float
    of: str  # what it was measured on: "100 holes"
    interval: tuple[float, float] | None = None  # 95 %, as the evaluation has it
    baseline: float | None = None  # the same figure of the plain model beside it


@dataclass(frozen=True)
class EvaluationFacts:
    """An evaluation or an audit that lies beside the model."""

    artefact: Opened
    task: str
    corpus: str  # id of the corpus whose held-out files were used, "" where nothing says so
    metrics: tuple[Metric, ...]  # empty for a task whose results have no form known here
    baseline: str = ""  # what it is compared with


@dataclass(frozen=True)
class ModelFacts:
    """A model, its bases, corpora and evaluations."""

    artefact: Opened
    architecture: dict[str, Any]
    chain: tuple[Opened, ...]  # all it was made from but bases, the nearest first
    corpora: tuple[CorpusFacts, ...]
    bases: tuple[Base, ...]
    restrictions: Restrictions | None
    licence: str
    evaluations: tuple[EvaluationFacts, ...]

    @property
    def is_derivative(self) -> bool:
        """Whether it was made from another model."""
        return any(base.id != self.artefact.manifest.id for base in self.bases)

    @property
    def taints(self) -> tuple[str, ...]:
        """Marks of itself and of all it was made from, each with the kind of artefact that has it."""
        named = [(one.manifest.kind, one.taints) for one in (self.artefact, *self.chain)]
        named += [(f"base {base.name}", base.taints) for base in self.bases if base.id != self.artefact.manifest.id]
        return tuple(f"{name}: {taint}" for name, taints in named for taint in taints)

    def parent(self, kind: str) -> Opened | None:
        """The nearest artefact of this kind in the chain."""
        return next((one for one in self.chain if one.manifest.kind == kind), None)


def read_model(opened: Opened, about: About, *, use_restrictions: Path | None = None) -> ModelFacts:
    """Walk the chain above a model, and look for evaluations beside it."""
    chain = tuple(_chain(opened))
    found = bases.find_bases(opened, about)
    restrictions = bases.restrictions_of(found, use_restrictions)
    return ModelFacts(
        artefact=opened,
        architecture=read_object(opened.directory / ARCHITECTURE),
        chain=chain,
        corpora=tuple(read_corpus(one) for one in chain if one.manifest.kind == "corpus"),
        bases=found,
        restrictions=restrictions,
        licence=bases.licence_of(found, restrictions, about),
        evaluations=tuple(_evaluations(opened)),
    )


def settings_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings in all tables of a stage, without the tables' names."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from settings_of(value)
        else:
            yield key, value


def _chain(model: Opened) -> Iterator[Opened]:
    queue, seen = [model], {model.manifest.id}
    for child in queue:
        for parent in child.manifest.parents:
            if parent.role not in (bases.ROLE, "benchmarks") and parent.id not in seen:
                seen.add(parent.id)
                opened = open_parent(child, parent)
                queue.append(opened)
                yield opened


def _evaluations(model: Opened) -> Iterator[EvaluationFacts]:
    """What was measured of this very model and lies beside it, in the order of the names."""
    for place in sorted(model.directory.resolve().parent.iterdir()):
        manifest = _manifest(place)
        if manifest is None or manifest.kind not in _MEASURES:
            continue
        parents = {parent.role: parent for parent in manifest.parents}
        if "model" not in parents or parents["model"].id != model.manifest.id:
            continue
        results = read_object(place / RESULTS) if RESULTS in manifest.files else {}
        is_held_out = results.get("task") == "held-out"
        yield EvaluationFacts(
            open_artifact(place),
            str(results.get("task", "")) or place.name,
            parents["corpus"].id if is_held_out and "corpus" in parents else "",
            tuple(_held_out(results, place) if is_held_out else ()),
            str(results.get("baseline", "")),
        )


def _manifest(place: Path) -> artifact.Manifest | None:
    try:
        return artifact.read(place) if (place / artifact.MANIFEST).is_file() else None
    except (StarsmithError, PermissionError):  # not about this model, as far as anybody can tell
        return None


def _held_out(results: dict[str, Any], place: Path) -> Iterator[Metric]:
    """The figures of the task "held-out"."""
    try:
        bits, infilling = results["bits_per_byte"], results["infilling"]
        plain = infilling["baseline"]
        size = f"{bits['files']:,} held-out files, {bits['bytes']:,} bytes"
        yield Metric("bits_per_byte", "bits per byte, less is better", bits["model"], size, None, bits["baseline"])
        if holes := infilling["holes"]:
            low, high = infilling["exact_95"]
            exact, of = infilling["exact"] / holes, f"{holes:,} held-out lines"
            yield Metric("exact_match", "lines filled in exactly", exact, of, (low, high), plain["exact"] / holes)
            yield Metric(
                "similarity", "similarity of filled-in lines", infilling["similarity"], of, None, plain["similarity"]
            )
        if checked := infilling["syntax_checked"]:
            of = f"{checked:,} filled-in lines"
            share = plain["syntax_valid"] / plain["syntax_checked"] if plain["syntax_checked"] else None
            valid = infilling["syntax_valid"] / checked
            yield Metric("syntax_valid", "files that still parse", valid, of, None, share)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{place / RESULTS} has no results of the task held-out: {error!r}", hint="evaluate the model again"
        ) from None
