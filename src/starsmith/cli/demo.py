"""`starsmith demo`: the quickstart recipe from end to end, then what came of it, said plainly."""

import json
import shutil
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from starsmith.cli.evaluate import print_results
from starsmith.cli.options import DIRECTORY, STAGES
from starsmith.cli.report import samples_of
from starsmith.cli.run import Outcome, run_stages, sources_of, took

if TYPE_CHECKING:
    from starsmith.evaluation.samples import Sample

RECIPE = "quickstart.toml"
SAMPLES = 3


@click.command()
@click.argument("paths", type=DIRECTORY, nargs=-1)
@click.option("--out", type=DIRECTORY, default=Path("runs/demo"), show_default=True, help="Where the artefacts go.")
@click.option("--minutes", type=float, help="Time box of the training; the recipe says 3.")
@click.option("--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override a setting.")
def demo(paths: tuple[Path, ...], out: Path, minutes: float | None, overrides: tuple[str, ...]) -> None:
    """Run the whole chain on PATHS: folders or git repositories, or else the running Python's standard library.

    About five minutes on two cores. Run it again and it skips what is up to date.
    """
    from starsmith.core.config import apply_overrides, load_recipe
    from starsmith.core.console import note
    from starsmith.evaluation import report

    recipe = recipe_file(RECIPE)
    if minutes is not None:
        overrides = (*overrides, f"pretrain.minutes={minutes}")
    tables = apply_overrides(load_recipe(recipe, known=STAGES), overrides, known=STAGES)
    outcomes = run_stages(tables, sources=sources_of(paths), out=out, only=None, where=RECIPE)
    samples = samples_of(out, SAMPLES)
    _print_samples(samples)
    _print_stages(outcomes, out)
    page = report.write(out, out / "report.html", samples=samples)
    note("")
    click.echo(f"report  {page}")
    click.echo(f"check   {_program()} verify {out / 'model'}")
    click.echo(f"serve   {_program()} serve {out / 'model'}")


def _program() -> str:
    """What to type for this program: its name where the shell finds it, else where it lies."""
    return "starsmith" if shutil.which("starsmith") else sys.argv[0]


def recipe_file(name: str) -> Path:
    """A recipe that comes with Starsmith: inside the installed package, or in the checkout."""
    packaged = Path(str(resources.files("starsmith"))) / "recipes" / name
    return packaged if packaged.is_file() else Path(__file__).resolve().parents[3] / "recipes" / name


def _print_samples(samples: "Sequence[Sample]") -> None:
    from rich.text import Text

    from starsmith.core.console import stdout_console

    console = stdout_console()
    console.print(Text("Three held-out places, chosen by hash before the model saw them", style="bold"))
    for sample in samples:
        console.print(Text(f"\n── {sample.path}:{sample.line}", style="cyan"))
        shown = Text("\n".join(sample.before.split("\n")[-8:]))
        shown.append(sample.completion or "(nothing)", style="bold green")
        console.print(shown)
        for line in dict.fromkeys(_sources(sample)) or ["no stretch of it equals a training file in the index"]:
            console.print(Text(f"   ↳ {line}", style="dim"))


def _sources(sample: "Sample") -> list[str]:
    lines = []
    for match in sample.matches:
        where = "; ".join(
            f"{source.path}:{source.first_line}-{source.last_line} ({source.license})" for source in match.sources
        )
        lines.append(f"{match.tokens} code tokens, {match.kind}, in {match.count} places: {where}")
    return lines


def _print_stages(outcomes: Sequence[Outcome], out: Path) -> None:
    from starsmith.core import artifact
    from starsmith.core.console import table

    counts = {found.stage: artifact.read(found.directory).counts for found in outcomes}
    results = json.loads((out / "evaluation" / "results.json").read_text())
    figures = _figures(counts, results)
    rows = [(found.stage, figures[found.stage], took(found)) for found in outcomes]
    table("\nStages", ("stage", "figures", "time"), rows, right=("time",))
    print_results(results)


def _figures(counts: dict[str, dict[str, int]], results: dict[str, Any]) -> dict[str, str]:
    """One line for each stage."""
    corpus, tokens, model, index = (counts[name] for name in ("corpus", "tokens", "pretrain", "index"))
    left_out = sum(number for name, number in corpus.items() if name.startswith("dropped_"))
    bits, infilling = results["bits_per_byte"], results["infilling"]
    return {
        "corpus": f"{corpus['kept']:,} files, {corpus['kept_bytes'] / 1e6:.1f} MB; {left_out:,} files left out",
        "tokenizer": f"{counts['tokenizer']['vocabulary']:,} entries",
        "tokens": f"{tokens['train_tokens']:,} tokens of {tokens['train_bytes'] / tokens['train_tokens']:.2f} bytes",
        "pretrain": f"{model['parameters']:,} parameters, {model['steps']:,} steps, {model['tokens']:,} tokens",
        "evaluation": f"{bits['model']:.2f} bits per byte; {infilling['exact']} of {infilling['holes']} infills exact",
        "index": f"{index['fingerprints']:,} fingerprints of {index['documents']:,} files",
    }
