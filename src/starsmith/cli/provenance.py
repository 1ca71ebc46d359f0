"""`starsmith index`, `attribute` and `verify`: where code comes from, and whether the chain of artefacts holds."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options

if TYPE_CHECKING:
    from starsmith.provenance.attribution import Match, Source
    from starsmith.provenance.lineage import Verification

EXIT_STATUS = {"holds": 0, "tampered": 1, "incomplete": 2}


@click.command()
@click.argument("corpus", type=DIRECTORY)
@out_option
@recipe_options
def index(corpus: Path, out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Fingerprint the training files of CORPUS, to find where code comes from."""
    from starsmith.provenance import index as stage

    stage.run(load_config("index", stage.IndexConfig, recipe, overrides), corpus=corpus, out=out)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--index", "index_dir", type=DIRECTORY, required=True, help="Directory of the index.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def attribute(file: Path, index_dir: Path, as_json: bool) -> None:
    """Say which corpus files the code in FILE (- for standard input) goes back to."""
    from starsmith.provenance.attribution import Attributor

    attributor = Attributor.open(index_dir)
    text = _read_text(file)
    matches = attributor.attribute(text)
    if as_json:
        found = [{**_query_lines(text, match), **match.to_json()} for match in matches]
        click.echo(json.dumps({"file": str(file), "matches": found}, indent=2))
        return
    if not matches:
        click.echo(
            f"{file}: no match. A copy of {attributor.guaranteed_tokens} code tokens or more would have been found."
        )
    for match in matches:
        _print_match(text, match)


@click.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(directory: Path, as_json: bool) -> None:
    """Check the artefact in DIRECTORY and everything it was made from, to the last byte.

    Exit status 0: it holds; 1: something was changed; 2: something it was made from is missing.
    """
    from starsmith.provenance.lineage import verify_chain

    found = verify_chain(directory)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print_verification(found)
    sys.exit(EXIT_STATUS[found.verdict])


def _read_text(file: Path) -> str:
    from starsmith.core.errors import InputError

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{file} is not a file", hint="give one file, or - for standard input") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error}", hint="convert it first") from None


def _query_lines(text: str, match: "Match") -> dict[str, Any]:
    first = text.count("\n", 0, match.start) + 1
    return {"first_line": first, "last_line": first + text.count("\n", match.start, match.end)}


def _print_match(text: str, match: "Match") -> None:
    lines = _query_lines(text, match)
    where = f"lines {lines['first_line']}-{lines['last_line']}"
    places = f"{match.count:,} place{'s' if match.count > 1 else ''}"
    click.echo(f"{where}  {match.tokens} tokens  {match.kind}  in {places} of the corpus")
    for source in match.sources:
        click.echo(f"  {source.path}:{source.first_line}-{source.last_line}  {source.license or 'no licence'}")
        click.echo(f"    {_origin(source)}")
    click.echo()


def _origin(source: "Source") -> str:
    repository = f"{source.repository}@{source.commit}" if source.commit else source.repository
    return f"{repository}  {source.swhid}"


def _print_verification(found: "Verification") -> None:
    from starsmith.core.console import table

    wrong = found.problems_by_artifact()
    rows = [
        (checked.path, checked.kind, checked.id[:16], checked.files, "CHANGED" if wrong[checked.path] else "holds")
        for checked in found.artifacts
    ]
    table("The chain", ("artefact", "kind", "id", "files", "verdict"), rows, right=("files",))
    for problem in found.problems:
        click.echo(f"changed: {problem.message}")
    for parent in found.missing:
        click.echo(f"missing: the {parent.role} that {parent.child} was made from (id {parent.id[:16]}…)")
    click.echo({"holds": "holds", "tampered": "does not hold", "incomplete": "incomplete"}[found.verdict])
