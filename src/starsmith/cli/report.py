"""`starsmith report`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from starsmith.cli.options import DIRECTORY

if TYPE_CHECKING:
    from starsmith.evaluation.samples import Sample


@click.command()
@click.argument("run", type=DIRECTORY)
@click.option("--out", type=DIRECTORY, help="The page; by default RUN/report.html.")
@click.option("--samples", type=int, default=3, show_default=True, help="Held-out places to show.")
def report(run: Path, out: Path | None, samples: int) -> None:
    """Write a static page about the artefacts in the directory RUN."""
    from starsmith.core.errors import InputError
    from starsmith.evaluation import report as pages

    if not run.is_dir():
        raise InputError(f"{run} does not exist", hint="give the directory of a run: starsmith demo --out DIR")
    complete = all((run / name).is_dir() for name in ("model", "corpus", "index"))
    taken = samples_of(run, samples) if complete else []
    click.echo(pages.write(run, out or run / "report.html", samples=taken))


def samples_of(run: Path, count: int) -> "list[Sample]":
    """What an editor would be given at a few held-out places, with its sources."""
    from starsmith.evaluation.infilling import Hole
    from starsmith.evaluation.samples import take_samples
    from starsmith.inference.completion import CompletionRequest
    from starsmith.serving.prompt import editor_request, language_of

    def ask(hole: Hole) -> CompletionRequest:
        return editor_request(hole.prefix, hole.suffix, language=language_of(hole.file.path))

    return take_samples(model=run / "model", corpus=run / "corpus", index=run / "index", count=count, ask=ask)
