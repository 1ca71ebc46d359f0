"""`starsmith export`: papers about an artefact, for those who get it."""

import json
from pathlib import Path

import click

from starsmith.cli.options import DIRECTORY, FILE

FORMATS = ("dataset-card", "model-card", "croissant", "spdx", "cyclonedx", "eu-summary", "huggingface")


@click.command()
@click.argument("directory", type=DIRECTORY, metavar="ARTEFACT")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="Which paper.")
@click.option("--out", type=DIRECTORY, required=True, help="New file; for huggingface a new directory.")
@click.option("--about", "about_file", type=FILE, help="TOML file with what no manifest knows: provider, licence, use.")
@click.option(
    "--use-restrictions", type=FILE, metavar="FILE", help="Licence of the base model, if it is not in its directory."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    directory: Path, form: str, out: Path, about_file: Path | None, use_restrictions: Path | None, as_json: bool
) -> None:
    """Write a paper about the corpus or model in ARTEFACT, from its manifests.

    dataset-card, croissant: of a corpus. model-card: of a model. spdx (3.0.1), cyclonedx (1.6), eu-summary (Markdown,
    or JSON for FILE.json): of both. huggingface: a directory to upload. The same artefact gives the same bytes.
    """
    from starsmith.core.console import note
    from starsmith.provenance.papers import about
    from starsmith.provenance.papers import export as papers

    said = about.load(about_file)
    taints = papers.export(directory, form, out, about=said, use_restrictions=use_restrictions)
    for taint in taints:
        note(f"warning: a source was withdrawn: {taint}")
    if as_json:
        click.echo(json.dumps({"format": form, "out": str(out), "withdrawn_sources": list(taints)}))
    else:
        click.echo(out)
