"""`starsmith corpus build`, `corpus card`, `corpus explain`, `corpus contains` and `corpus remove`."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options
from starsmith.cli.removal import remove

if TYPE_CHECKING:
    from starsmith.corpus.membership import Membership

benchmarks_option = click.option(
    "--benchmarks", type=DIRECTORY, help="Benchmark texts that no file may contain: starsmith evaluate export."
)


@click.group()
def corpus() -> None:
    """Build and inspect a governed corpus."""


corpus.add_command(remove)


@corpus.command()
@click.argument("sources", nargs=-1)
@out_option
@click.option("--revision", help="Branch, tag or commit of the git repositories, instead of HEAD.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Also every version that a later commit wrote.")
@benchmarks_option
@click.option("--without", metavar="REQUESTS", help="Leave out what these requests name: see corpus remove.")
@click.option("--ray", "ray_address", metavar="ADDRESS", help="Run on this Ray cluster: auto, HOST:PORT or ray://…")
@click.option("--staging", metavar="PLACE", help="Directory or s3:// URL that all workers of the cluster reach.")
@recipe_options
def build(
    sources: tuple[str, ...],
    out: Path,
    revision: str | None,
    since: datetime | None,
    benchmarks: Path | None,
    without: str | None,
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
    from starsmith.corpus.origins import Removal
    from starsmith.corpus.removal_requests import Removals, read_requests
    from starsmith.corpus.sources import open_sources, standard_library

    config = load_config("corpus", stage.CorpusConfig, recipe, overrides)
    day = since.date() if since else None
    found = open_sources(sources, revision=revision, since=day, threads=config.threads) or [standard_library()]
    removal = Removal(Removals(read_requests(without))) if without is not None else None
    engine = Engine(ray_address)
    stage.run(config, sources=found, out=out, benchmarks=benchmarks, engine=engine, staging=staging, removal=removal)
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


@corpus.command()
@click.argument("what")
@click.option("--corpus", "directory", type=DIRECTORY, help="The corpus; by default the folder you are in.")
@click.option("--most", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Rows to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def contains(what: str, directory: Path | None, most: int, as_json: bool) -> None:
    """Tell whether WHAT is in a corpus: an owner, owner/repo or URL, a SWHID (swh:1:cnt:…), or a FILE by its content.

    Owners and repositories are compared as opt-outs are: without case, and on every host unless a URL names one. Files
    that were left out as duplicates of others are told with what stands for them.

    Exit status 0: a file of it is in the corpus; 1: none is, or there was an error, which goes to standard error.
    """
    from starsmith.core.errors import InputError
    from starsmith.corpus import membership

    if directory is None and not Path("manifest.json").is_file():
        raise InputError("no corpus was given, and the folder you are in is none", hint="give --corpus DIR")
    found = membership.contains(directory or Path(), membership.ask(what), most=most)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print_membership(found)
    sys.exit(0 if found.is_in else 1)


def _print_membership(found: "Membership") -> None:
    from starsmith.core.console import table

    named = {"name": "owner or repository", "content": "content", "file": "file"}[found.question.form]
    swhid = f" ({found.question.swhid})" if found.question.form == "file" else ""
    title = f"{named} {found.question.what}{swhid}: {_number(found.count)} in the corpus"
    if not found.is_in:
        click.echo(title)
    else:
        rows = [
            (row.repository, row.commit[:12], row.path, row.license or "none found", row.split) for row in found.rows
        ]
        table(_of_all(title, found.count, len(rows)), ("repository", "commit", "path", "licence", "split"), rows)
    if found.left_out_count:
        went = [
            (one.repository, one.path, one.of + ("" if one.stands else ", which went later"), f"{one.similarity:.3f}")
            for one in found.left_out
        ]
        title = _of_all(
            f"Left out, as another is much the same: {_number(found.left_out_count)}", found.left_out_count, len(went)
        )
        table(title, ("repository", "path", "duplicate of", "similarity"), went, right=("similarity",))


def _number(count: int) -> str:
    return f"{count:,} file{'s' if count > 1 else ''}" if count else "no file"


def _of_all(title: str, count: int, shown: int) -> str:
    return f"{title}, the first {shown:,} are shown" if shown < count else title
