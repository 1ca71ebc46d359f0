"""`starsmith import`: a model from elsewhere."""

from pathlib import Path

import click

from starsmith.cli.options import DIRECTORY, out_option


@click.command("import")
@click.argument("directory", type=DIRECTORY, metavar="MODEL")
@out_option
@click.option("--name", default="", help="What the model is called where it comes from; by default its directory.")
@click.option("--license", "licence", default="", help="Its licence, where no card or licence file is beside it.")
@click.option("--revision", default="", help="Its commit or version.")
@click.option("--tokenizer", type=DIRECTORY, help="Vocabulary, if it is not in MODEL.")
def import_model(directory: Path, out: Path, name: str, licence: str, revision: str, tokenizer: Path | None) -> None:
    """Make a model artefact from MODEL, a Hugging Face directory of a StarCoder2 model, to train further or to serve.

    One file of weights or several, float32, float16 or bfloat16. Its licence texts and its card come along.
    """
    from starsmith.model import imports
    from starsmith.model.checkpoint import load_config
    from starsmith.tokenizer.bpe import END_OF_TEXT, FILE_NAME, Tokenizer

    load_config(directory)  # what is no StarCoder2 is told so before its vocabulary is looked at
    place = tokenizer or directory
    vocabulary = Tokenizer.load(place)
    origin = imports.Origin(name=name or directory.resolve().name, license=licence, revision=revision)
    imports.run(
        imports.ImportConfig(imported=origin),
        source=directory,
        tokenizer_file=place / FILE_NAME if place.is_dir() else place,
        vocab_size=vocabulary.vocab_size,
        end_of_text=END_OF_TEXT,
        out=out,
    )
    click.echo(out)
