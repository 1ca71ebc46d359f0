"""`starsmith export`: papers about an artefact, for those who get it, and a model's weights in other formats."""

import json
from pathlib import Path

import click

from starsmith.cli import checkpoints
from starsmith.cli.options import DIRECTORY, FILE

PAPERS = ("dataset-card", "model-card", "croissant", "spdx", "cyclonedx", "eu-summary", "huggingface")
FORMATS = (*PAPERS, *checkpoints.DTYPES)


@click.command()
@click.argument("directory", type=DIRECTORY, metavar="ARTEFACT")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="Which paper or format.")
@click.option("--out", type=DIRECTORY, required=True, help="New file; for the last three formats a new directory.")
@click.option(
    "--dtype",
    type=click.Choice(checkpoints.DTYPES["gguf"]),
    help="Numbers of gguf (default f16) or safetensors (bf16).",
)
@click.option("--about", "about_file", type=FILE, help="TOML file with what no manifest knows: provider, licence, use.")
@click.option(
    "--use-restrictions", type=FILE, metavar="FILE", help="Licence of the base model, if it is not in its directory."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    directory: Path,
    form: str,
    out: Path,
    dtype: str | None,
    about_file: Path | None,
    use_restrictions: Path | None,
    as_json: bool,
) -> None:
    """Write a paper about the corpus or model in ARTEFACT, from its manifests, or its weights in another format.

    dataset-card, croissant: of a corpus. model-card: of a model. spdx (3.0.1), cyclonedx (1.6), eu-summary (Markdown,
    or JSON for FILE.json): of both. huggingface: a directory to upload. The same artefact gives the same bytes.

    gguf (for llama.cpp: f16, bf16, f32, q8_0, q4_0), safetensors (for transformers and vLLM: bf16, f16, f32): a
    directory with the weights, the model card, and the licence texts and use restrictions of what it was made from.
    """
    from starsmith.core.console import note
    from starsmith.core.errors import InputError
    from starsmith.provenance.papers import about
    from starsmith.provenance.papers import export as papers

    said = about.load(about_file)
    if form in checkpoints.DTYPES:
        taints = checkpoints.export(directory, form, dtype, out, about=said, use_restrictions=use_restrictions)
    elif dtype is not None:
        raise InputError(f"--dtype is for weights, and {form} has none of its own", hint="leave it out")
    else:
        taints = papers.export(directory, form, out, about=said, use_restrictions=use_restrictions)
    for taint in taints:
        note(f"warning: a source was withdrawn: {taint}")
    if as_json:
        click.echo(json.dumps({"format": form, "out": str(out), "withdrawn_sources": list(taints)}))
    else:
        click.echo(out)
