"""`starsmith report`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from starsmith.cli.options import DIRECTORY, FILE

if TYPE_CHECKING:
    from starsmith.evaluation.samples import Sample


@click.command()
@click.argument("run", type=DIRECTORY, metavar="RUN|LOG")
@click.option("--out", type=FILE, help="The page; by default RUN/report.html, MODEL/run/report.html or LOG.html.")
@click.option("--samples", type=int, default=3, show_default=True, help="Held-out places of a run to show.")
@click.option("--last", metavar="SHA256", help="Digest of a line that the log must have.")
def report(run: Path, out: Path | None, samples: int, last: str | None) -> None:
    """Write a static page about the artefacts in the directory RUN, or about a LOG of completions.

    RUN may also be a model's directory, and one in training (DIR.partial): the page has its curves so far. Or the
    scores of a benchmark that starsmith evaluate wrote.

    Exit status 1: the chain of the log does not hold; standard error names the first line that does not.
    """
    from starsmith.core.errors import InputError
    from starsmith.evaluation import report as pages
    from starsmith.evaluation import score_page, scored

    if out is not None and (out.is_dir() or not out.resolve().parent.is_dir()):
        fault = "is a directory" if out.is_dir() else f"cannot be written: {out.parent} is no directory"
        raise InputError(f"--out {out} {fault}", hint="give the name of a file, for example --out report.html")
    if run.is_file():
        report_log(run, out or run.with_name(f"{run.name}.html"), last)
        return
    if last is not None:
        raise click.UsageError("--last goes with a LOG")
    if not run.is_dir():
        hint = "give the directory of a run, or a log that starsmith serve --log wrote"
        fault = "is neither a directory nor a file" if run.exists() else "does not exist"
        raise InputError(f"{run} {fault}", hint=hint)
    if score_page.is_scores(run):
        click.echo(score_page.write([scored.read(run)], out or run / "run" / "scores.html"))
        return
    complete = all((run / name).is_dir() for name in ("model", "corpus", "index"))
    taken = samples_of(run, samples) if complete else []
    place = run / "run" if pages.is_model(run) else run  # a model's own files are counted and digested
    click.echo(pages.write(run, out or place / "report.html", samples=taken))


def report_log(log: Path, out: Path, last: str | None) -> None:
    """Write the page about a log; an error if its chain does not hold."""
    from starsmith.core.errors import ArtifactError, InputError
    from starsmith.evaluation import log_page

    if last is not None and (len(last) != 64 or set(last) - set("0123456789abcdef")):
        raise InputError(f"--last {last} is no sha256", hint="give the 64 hex digits that starsmith serve printed")
    if out.resolve() == log.resolve():
        raise InputError(f"--out {out} is the log itself", hint="give another --out")
    checked = log_page.write(log, out, last=last)
    if checked.fault is None or checked.lines:
        click.echo(out)
    if checked.fault is not None:
        hold = f"the {checked.lines} lines before it hold: compare with a copy of the log"
        message = f"{log} line {checked.fault.line} {checked.fault.message}"
        raise ArtifactError(message, hint=hold if checked.lines else "give a log that starsmith serve --log wrote")


def samples_of(run: Path, count: int) -> "list[Sample]":
    """What an editor would be given at a few held-out places, with its sources."""
    from starsmith.evaluation.infilling import Hole
    from starsmith.evaluation.samples import take_samples
    from starsmith.inference.completion import CompletionRequest
    from starsmith.serving.prompt import editor_request, language_of

    def ask(hole: Hole) -> CompletionRequest:
        return editor_request(hole.prefix, hole.suffix, language=language_of(hole.file.path))

    return take_samples(model=run / "model", corpus=run / "corpus", index=run / "index", count=count, ask=ask)
