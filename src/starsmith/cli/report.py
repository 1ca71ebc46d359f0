"""`starsmith report`."""

from pathlib import Path

import click

from starsmith.cli.options import DIRECTORY


@click.command()
@click.argument("run", type=DIRECTORY)
@click.option("--out", type=DIRECTORY, help="The page; by default RUN/report.html.")
@click.option("--samples", type=int, default=3, show_default=True, help="Held-out places to show.")
def report(run: Path, out: Path | None, samples: int) -> None:
    """Write a static page about the artefacts in the directory RUN."""
    from starsmith.core.errors import InputError
    from starsmith.evaluation import report as pages
    from starsmith.evaluation.samples import take_samples

    if not run.is_dir():
        raise InputError(f"{run} does not exist", hint="give the directory of a run: starsmith demo --out DIR")
    needed = {name: run / name for name in ("model", "corpus", "index")}
    complete = all(path.is_dir() for path in needed.values())
    taken = take_samples(**needed, count=samples) if complete else []
    click.echo(pages.write(run, out or run / "report.html", samples=taken))
