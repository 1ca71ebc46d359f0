"""`starsmith tokenizer train` and `starsmith tokens`."""

from pathlib import Path

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options


@click.group()
def tokenizer() -> None:
    """Train a vocabulary."""


@tokenizer.command()
@click.argument("corpus", type=DIRECTORY)
@out_option
@recipe_options
def train(corpus: Path, out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Train a byte-level BPE vocabulary on CORPUS."""
    from starsmith.tokenizer import train as stage

    stage.run(load_config("tokenizer", stage.TokenizerConfig, recipe, overrides), corpus=corpus, out=out)


@click.command()
@click.argument("corpus", type=DIRECTORY)
@click.option("--tokenizer", "vocabulary", type=DIRECTORY, required=True, help="Directory of the vocabulary.")
@out_option
@recipe_options
def tokens(corpus: Path, vocabulary: Path, out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Encode CORPUS into token shards that training reads."""
    from starsmith.tokenizer import tokens as stage

    config = load_config("tokens", stage.TokensConfig, recipe, overrides)
    stage.run(config, corpus=corpus, tokenizer=vocabulary, out=out)
