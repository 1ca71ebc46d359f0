"""`starsmith corpus build`, `corpus card` and `corpus explain`."""

import json
from datetime import datetime
from pathlib import Path

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options

benchmarks_option = click.option(
    "--benchmarks", type=DIRECTORY, help="Benchmark texts that no file may contain: starsmith evaluate export."
)


@click.group()
def corpus() -> None:
    """Build and inspect a governed corpus."""


@corpus.command()
@click.argument("sources", nargs=-1)
@out_option
@click.option("--revision", help="Branch, tag or commit of the git repositories, instead of HEAD.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Also every version that a later commit wrote.")
@benchmarks_option
@click.option("--ray", "ray_address", metavar="ADDRESS", help="Run on this Ray cluster: auto, HOST:PORT or ray://…")
@click.option("--staging", metavar="PLACE", help="Directory or s3:// URL that all workers of the cluster reach.")
@recipe_options
def build(
    sources: tuple[str, ...],
    out: Path,
    revision: str | None,
    since: datetime | None,
    benchmarks: Path | None,
    ray_address: str | None,
    staging: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Build a corpus from SOURCES, or else from the running Python's standard library.

    A source is a folder, a git repository (path or URL), an archive (tar, zip, sdist, wheel), or tables (Parquet or
    JSON lines in The Stack's schemas; a file, folder, glob or s3:// URL). The same command goes on where an
    interrupted one stopped.
    """
    from starsmith.corpus import build as stage
    from starsmith.corpus.engine import Engine
    from starsmith.corpus.sources import open_sources, standard_library

    config = load_config("corpus", stage.CorpusConfig, recipe, overrides)
    day = since.date() if since else None
    found = open_sources(sources, revision=revision, since=day, threads=config.threads) or [standard_library()]
    stage.run(config, sources=found, out=out, benchmarks=benchmarks, engine=Engine(ray_address), staging=staging)
    click.echo((out / "card.md").read_text(encoding="utf-8"))


@corpus.command()
@click.argument("directory", metavar="CORPUS", type=DIRECTORY)
def card(directory: Path) -> None:
    """Print the data card of CORPUS; card.html beside it has the plots."""
    from starsmith.core import artifact

    artifact.read(directory, kind="corpus")
    click.echo((directory / "card.md").read_text(encoding="utf-8"))


@corpus.command()
@click.argument("file", type=DIRECTORY)
@click.option("--corpus", "directory", type=DIRECTORY, help="Compare with this corpus for duplicates.")
@benchmarks_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a stage.")
@recipe_options
def explain(
    file: Path,
    directory: Path | None,
    benchmarks: Path | None,
    as_json: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Tell what each stage sees in FILE, decides and why."""
    from starsmith.core.console import table
    from starsmith.corpus.config import CorpusConfig
    from starsmith.corpus.explain import explain as words_on
    from starsmith.corpus.stages import Rules

    config = load_config("corpus", CorpusConfig, recipe, overrides)
    words = list(words_on(file, Rules(config, benchmarks), corpus=directory))
    if as_json:
        for word in words:
            click.echo(json.dumps(vars(word)))
        return
    table(str(file), ("stage", "decision", "why"), [(word.stage, word.decision, word.why) for word in words])
