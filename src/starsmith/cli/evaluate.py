"""`starsmith evaluate`."""

import json
from pathlib import Path
from typing import Any

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options


@click.command()
@click.argument("model", type=DIRECTORY)
@click.option("--task", type=click.Choice(["held-out"]), default="held-out", show_default=True, help="What to measure.")
@click.option("--corpus", type=DIRECTORY, help="Corpus with held-out files; by default the one MODEL was trained on.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@out_option
@recipe_options
def evaluate(
    model: Path,
    task: str,  # noqa: ARG001 there is one so far; naming it keeps commands valid when there are more
    corpus: Path | None,
    out: Path,
    as_json: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Measure MODEL on held-out files, beside a plain n-gram model."""
    from starsmith.core.artifact import ancestor_directory
    from starsmith.evaluation import run as stage

    config = load_config("evaluation", stage.EvaluationConfig, recipe, overrides)
    stage.run(config, model=model, corpus=corpus or ancestor_directory(model, "corpus"), out=out)
    results = json.loads((out / stage.RESULTS).read_text())
    if as_json:
        click.echo(json.dumps(results))
    else:
        print_results(results)


def print_results(results: dict[str, Any]) -> None:
    """The figures as a table, and what they mean in a sentence."""
    from starsmith.core.console import table

    bits, infilling = results["bits_per_byte"], results["infilling"]
    low, high = (f"{100 * bound:.1f}" for bound in infilling["exact_95"])
    values = (f"{bits[name]:.3f}" for name in ("model", "baseline"))
    rows = [("bits per byte", *values, f"{bits['files']} files, {bits['bytes']:,} bytes")]
    rows += [
        (label, _share(infilling, key, of), _share(infilling["baseline"], key, of), detail)
        for label, key, of, detail in (
            ("line infills exact", "exact", "holes", f"95 %: {low} to {high} %"),
            ("file still parses", "syntax_valid", "syntax_checked", "Python only"),
            ("ended by the model itself", "ended_by_model", "holes", "within 48 tokens"),
        )
    ]
    table("Held-out files", ("measure", "model", "n-gram", ""), rows, right=("model", "n-gram"))


def _share(figures: dict[str, Any], key: str, of: str) -> str:
    return f"{figures[key]} of {figures[of]}"
