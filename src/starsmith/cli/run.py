"""`starsmith run`: a recipe, stage by stage. The order of the stages is the order of the folders."""

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from starsmith.cli.options import DIRECTORY, STAGES

if TYPE_CHECKING:
    from starsmith.corpus.origins import Removal
    from starsmith.corpus.sources import Source


@dataclass(frozen=True)
class Step:
    """Where a stage lives, what it is given and what it writes."""

    module: str
    config: str  # name of the settings class
    writes: str  # directory of its artefact, and the name under which later stages are given it
    takes: tuple[str, ...] = ()  # artefacts of earlier stages


STEPS = {
    "corpus": Step("starsmith.corpus.build", "CorpusConfig", "corpus"),
    "tokenizer": Step("starsmith.tokenizer.train", "TokenizerConfig", "tokenizer", ("corpus",)),
    "tokens": Step("starsmith.tokenizer.tokens", "TokensConfig", "tokens", ("corpus", "tokenizer")),
    "pretrain": Step("starsmith.training.pretrain", "PretrainConfig", "model", ("tokens", "tokenizer")),
    "evaluation": Step("starsmith.evaluation.run", "EvaluationConfig", "evaluation", ("model", "corpus")),
    "index": Step("starsmith.provenance.index", "IndexConfig", "index", ("corpus",)),
}


@dataclass(frozen=True)
class Outcome:
    """What became of one stage."""

    stage: str
    directory: Path
    seconds: float
    skipped: bool  # up to date already


@click.command()
@click.argument("recipe", type=DIRECTORY)
@click.argument("paths", type=DIRECTORY, nargs=-1)
@click.option("--out", type=DIRECTORY, required=True, help="Directory for the stages' artefacts.")
@click.option("--only", type=click.Choice(STAGES), help="Run this stage alone, on what is there.")
@click.option("--without", metavar="REQUESTS", help="Requests for removal, as corpus remove takes them.")
@click.option("--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override a setting.")
def run(
    recipe: Path, paths: tuple[Path, ...], out: Path, only: str | None, without: str | None, overrides: tuple[str, ...]
) -> None:
    """Run RECIPE on PATHS (folders or git repositories; by default the running Python's standard library)."""
    from starsmith.core.config import apply_overrides, load_recipe
    from starsmith.core.console import table

    tables = apply_overrides(load_recipe(recipe, known=STAGES), overrides, known=STAGES)
    sources = sources_of(paths) if only in (None, "corpus") else []
    outcomes = run_stages(tables, sources=sources, out=out, only=only, where=str(recipe), without=without)
    rows = [(found.stage, found.directory, took(found)) for found in outcomes]
    table(f"{recipe}", ("stage", "artefact", "time"), rows, right=("time",))


def run_stages(
    tables: Mapping[str, Mapping[str, Any]],
    *,
    sources: "Sequence[Source]",
    out: Path,
    only: str | None,
    where: str,
    without: str | None = None,
) -> list[Outcome]:
    """Run the stages of a recipe in order; every setting of every stage is checked before the first begins."""
    from starsmith.core.config import build

    configs = {
        name: build(
            getattr(importlib.import_module(step.module), step.config), tables.get(name, {}), where=f"{where} [{name}]"
        )
        for name, step in STEPS.items()
    }
    removal = _removal(without) if without is not None else None
    return [_run_stage(name, configs[name], out, sources, removal) for name in STAGES if only in (None, name)]


def sources_of(paths: Sequence[Path]) -> "list[Source]":
    """What lies at the paths; of none, the running Python's standard library."""
    from starsmith.corpus.sources import open_sources, standard_library

    return open_sources(paths) or [standard_library()]


def _removal(requests: str) -> "Removal":
    from starsmith.corpus.origins import Removal
    from starsmith.corpus.removal_requests import Removals, read_requests

    return Removal(Removals(read_requests(requests)))


def _run_stage(name: str, config: Any, out: Path, sources: "Sequence[Source]", removal: "Removal | None") -> Outcome:
    from starsmith.core import artifact
    from starsmith.core.console import note

    step = STEPS[name]
    directory, inputs = out / step.writes, {role: out / role for role in step.takes}
    # Sources may have changed on disk, so a corpus is always built; an equal one leaves all that follows up to date.
    if inputs and artifact.is_up_to_date(directory, config=config, parents=inputs):
        note(f"{name}: up to date")
        return Outcome(name, directory, 0.0, skipped=True)
    started = time.monotonic()
    module = importlib.import_module(step.module)
    if name == "pretrain":
        from starsmith.cli.pretrain import train

        train(config, **inputs, out=directory)
    elif inputs:
        module.run(config, **inputs, out=directory)
    else:
        module.run(config, sources=sources, out=directory, removal=removal)
    return Outcome(name, directory, time.monotonic() - started, skipped=False)


def took(outcome: Outcome) -> str:
    """The time a stage took, for a table."""
    return "up to date" if outcome.skipped else f"{outcome.seconds:.0f} s"
