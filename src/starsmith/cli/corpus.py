"""`starsmith corpus build` and `starsmith corpus card`."""

from pathlib import Path

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options


@click.group()
def corpus() -> None:
    """Build and inspect a governed corpus."""


@corpus.command()
@click.argument("sources", type=DIRECTORY, nargs=-1)
@out_option
@recipe_options
def build(sources: tuple[Path, ...], out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Build a corpus from SOURCES: folders or git repositories, or else the running Python's standard library."""
    from starsmith.corpus import build as stage
    from starsmith.corpus.sources import open_sources, standard_library

    config = load_config("corpus", stage.CorpusConfig, recipe, overrides)
    found = open_sources(sources) or [standard_library()]
    stage.run(config, sources=found, out=out)
    click.echo((out / "card.md").read_text(encoding="utf-8"))


@corpus.command()
@click.argument("directory", metavar="CORPUS", type=DIRECTORY)
def card(directory: Path) -> None:
    """Print the data card of CORPUS."""
    from starsmith.core import artifact

    artifact.read(directory, kind="corpus")
    click.echo((directory / "card.md").read_text(encoding="utf-8"))
