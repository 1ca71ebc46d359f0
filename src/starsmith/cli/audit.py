"""`starsmith audit memorization`, `audit plant` and `audit exposure`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from starsmith.cli.options import DIRECTORY, STAGES, out_option, recipe_options

TABLES = (*STAGES, "memorization", "canaries", "exposure")  # a recipe may have the audits' settings too
Config = TypeVar("Config")

json_option = click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
corpus_option = click.option(
    "--corpus", type=DIRECTORY, help="Corpus that MODEL was trained on; by default it is found."
)


@click.group()
def audit() -> None:
    """Find out what a model remembers of the files it was trained on."""


@audit.command()
@click.argument("model", type=DIRECTORY)
@corpus_option
@click.option("--control", type=DIRECTORY, help="Corpus that MODEL never saw; by default the held-out files.")
@json_option
@out_option
@recipe_options
def memorization(
    model: Path,
    corpus: Path | None,
    control: Path | None,
    as_json: bool,
    out: Path,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """How much of its training files does MODEL give back, beside files that it never saw?"""
    from starsmith.evaluation import memorization as stage

    config = _load("memorization", stage.MemorizationConfig, recipe, overrides)
    stage.run(config, model=model, corpus=corpus or _corpus_of(model), control=control, out=out)
    results = json.loads((out / stage.RESULTS).read_text(encoding="utf-8"))
    if as_json:
        click.echo(json.dumps(results))
    else:
        print_memorization(results)


@audit.command()
@json_option
@out_option
@recipe_options
def plant(as_json: bool, out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Write random secrets into source files, for a corpus: starsmith corpus build SOURCE OUT/files."""
    from starsmith.core import artifact
    from starsmith.evaluation import canaries as stage

    stage.run(_load("canaries", stage.CanaryConfig, recipe, overrides), out=out)
    counts = artifact.read(out).counts
    if as_json:
        click.echo(json.dumps({**counts, "sources": str(out / stage.FILES)}))
    else:
        click.echo(f"{counts['canaries']:,} canaries, {counts['files']:,} files in {out / stage.FILES}")
        click.echo(f"then    starsmith corpus build SOURCE {out / stage.FILES} --out CORPUS")


@audit.command()
@click.argument("model", type=DIRECTORY)
@click.option("--canaries", type=DIRECTORY, required=True, help="What `starsmith audit plant` wrote.")
@corpus_option
@json_option
@out_option
@recipe_options
def exposure(
    model: Path,
    canaries: Path,
    corpus: Path | None,
    as_json: bool,
    out: Path,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """How much likelier does MODEL find the planted secrets than others that could have stood there?"""
    from starsmith.evaluation import exposure as stage

    config = _load("exposure", stage.ExposureConfig, recipe, overrides)
    stage.run(config, model=model, canaries=canaries, corpus=corpus or _corpus_of(model), out=out)
    results = json.loads((out / stage.RESULTS).read_text(encoding="utf-8"))
    if as_json:
        click.echo(json.dumps(results))
    else:
        print_exposure(results)


def print_memorization(results: dict[str, Any]) -> None:
    """The random windows in every context, all groups with the longest prefix, and sampling."""
    from starsmith.core.console import note, table

    contexts, control = results["contexts"], results["control"]
    longest = max((name for name in contexts if name.startswith("prefix")), key=lambda name: int(name.split()[1]))
    sides = ("training files", "control", "difference, points")
    tokens = results["suffix_tokens"]
    rows = [(name, *_compared(found["random"])) for name, found in contexts.items()]
    table(
        f"{tokens} tokens given back by greedy decoding, with 95 % intervals; random windows",
        ("given", *sides),
        rows,
        right=sides,
    )
    rows = [(name, *_compared(found)) for name, found in contexts[longest].items()]
    table(f"The same by group, {longest}", ("windows", *sides), rows, right=sides)
    scheme = ", ".join(f"{name} {value}" for name, value in results["scheme"].items() if value is not None)
    p, grid = _grid(contexts[longest]["random"])
    table(f"By one of n samples, with p = {p:g} ({scheme}), {longest}", ("n", *sides), grid, right=("n", *sides))
    rows = [(name, *_medians(found["random"])) for name, found in contexts.items()]
    table("Median log-probability of the random windows", ("given", *sides[:2]), rows, right=sides)
    note(
        f"control: {control['files']:,} {control['of']}, {control['windows']:,} windows; left out of the figures are "
        f"{control['also_in_training']:,} that stand in the training files too"
    )


def print_exposure(results: dict[str, Any]) -> None:
    """Exposure by the number of copies."""
    from starsmith.core.console import table

    columns = ("copies", "secrets", "in corpus", "bits", "chance", "most", "p", "extracted")
    for form, found in results["forms"].items():
        rows = [
            (
                group["copies"],
                group["canaries"],
                f"{group['in_corpus']:,} of {group['copies'] * group['canaries']:,}",
                f"{group['exposure']:.2f}",
                f"{group['exposure_by_chance']:.2f}",
                f"{group['most']:.2f}",
                f"{group['p_value']:.4f}",
                f"{group['extracted']} of {group['canaries']}",
            )
            for group in found["by_copies"]
        ]
        table(f"Exposure of {form}s, in bits", columns, rows, right=columns)
        if found["rank_correlation"] is None:
            click.echo("rank correlation of lines in the corpus and exposure: none, as all are equal")
        else:
            click.echo(
                f"rank correlation of lines in the corpus and exposure: {found['rank_correlation']:.3f} "
                f"(p {found['p_value']:.4f})"
            )


def _load(table: str, cls: type[Config], recipe: Path | None, overrides: Sequence[str]) -> Config:
    from starsmith.core.config import apply_overrides, build, load_recipe

    tables = apply_overrides(load_recipe(recipe, known=TABLES) if recipe else {}, overrides, known=TABLES)
    return build(cls, tables.get(table, {}), where=f"{recipe or '--set'} [{table}]")


def _corpus_of(model: Path) -> Path:
    from starsmith.core import ancestry, artifact

    artifact.read(model, kind="model")
    return ancestry.ancestor_directory(model, "corpus")


def _compared(found: dict[str, Any]) -> tuple[str, str, str]:
    corpus, control, difference = (found[name] for name in ("corpus", "control", "corpus_minus_control"))
    return _share(corpus), _share(control), _difference(difference and difference["extracted"])


def _medians(found: dict[str, Any]) -> list[str]:
    values = [found[side]["median_log_prob"] for side in ("corpus", "control")]
    return ["none" if value is None else f"{value:.1f}" for value in values]


def _grid(found: dict[str, Any]) -> tuple[float, list[tuple[str, ...]]]:
    """A line for each n, with the middle one of the probabilities p; the others are in the file."""
    corpus, control, difference = (found[name] for name in ("corpus", "control", "corpus_minus_control"))
    probabilities = sorted({cell["p"] for cell in corpus["discoverable"]})
    p = probabilities[len(probabilities) // 2]
    return p, [
        (
            f"{cell['n']:,}",
            _cell(cell, corpus),
            _cell(control["discoverable"][place], control) if control["discoverable"] else "none",
            _difference(difference and difference["discoverable"][place]),
        )
        for place, cell in enumerate(corpus["discoverable"])
        if cell["p"] == p
    ]


def _share(side: dict[str, Any] | None) -> str:
    if side is None:
        return "-"
    return _cell(side["extracted"], side) if side["extracted"] is not None else "none"


def _cell(cell: dict[str, Any], side: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in cell["share_95"])
    return f"{cell['count']}/{side['windows']}, {low:.1f}-{high:.1f}%"


def _difference(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = (100 * bound for bound in found["difference_95"])
    return f"{100 * found['difference']:+.1f} ({low:+.1f} {high:+.1f})"
