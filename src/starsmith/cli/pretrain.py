"""`starsmith pretrain`."""

from pathlib import Path

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options


@click.command()
@click.argument("tokens", type=DIRECTORY)
@click.option("--tokenizer", type=DIRECTORY, help="Vocabulary; by default the one TOKENS was made with.")
@out_option
@recipe_options
def pretrain(tokens: Path, tokenizer: Path | None, out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Train a StarCoder2 model on TOKENS. Interrupted, the same command goes on where it was."""
    from starsmith.core.artifact import parent_directory
    from starsmith.training import pretrain as stage

    config = load_config("pretrain", stage.PretrainConfig, recipe, overrides)
    stage.run(config, tokens=tokens, tokenizer=tokenizer or parent_directory(tokens, "tokenizer"), out=out)
