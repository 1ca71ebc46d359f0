"""`starsmith evaluate MODEL` and `starsmith evaluate export`."""

import json
from pathlib import Path
from typing import Any

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options


class _ModelOrCommand(click.Group):
    """A group whose first word may also be a model to measure."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The named command, else `model` with all words."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["model", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """An option ahead of MODEL belongs to the measuring of it."""
        leads = args and args[0].startswith("-") and args[0] not in ("-h", "--help")
        return super().parse_args(ctx, ["model", *args] if leads else args)


@click.group(cls=_ModelOrCommand)
def evaluate() -> None:
    """Measure a model: starsmith evaluate MODEL --out DIR."""


@evaluate.command()
@click.argument("data", type=DIRECTORY)
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Leave out files of these names: 'tokenizer/*'.")
@out_option
def export(data: Path, ignore: tuple[str, ...], out: Path) -> None:
    """Collect the benchmark texts below DATA, so that a corpus can leave out every file that contains one."""
    from starsmith.core.artifact import read
    from starsmith.core.console import table
    from starsmith.evaluation import export as stage

    stage.run(stage.ExportConfig(ignore=ignore), data=data, out=out)
    rows = [(name, f"{count:,}") for name, count in sorted(read(out, kind="benchmarks").counts.items())]
    table(f"Benchmark texts in {out}", ("benchmark", "texts"), rows, right=("texts",))


@evaluate.command()
@click.argument("model", type=DIRECTORY)
@click.option("--task", type=click.Choice(["held-out"]), default="held-out", show_default=True, help="What to measure.")
@click.option("--corpus", type=DIRECTORY, help="Corpus with held-out files; by default the one MODEL was trained on.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@out_option
@recipe_options
def model(
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
