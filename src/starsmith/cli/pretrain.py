"""`starsmith pretrain`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from starsmith.cli.options import DIRECTORY, load_config, out_option, recipe_options

if TYPE_CHECKING:
    from starsmith.training.config import PretrainConfig


@click.command()
@click.argument("tokens", type=DIRECTORY)
@click.option("--tokenizer", type=DIRECTORY, help="Vocabulary; by default the one TOKENS was made with.")
@click.option("--base", type=DIRECTORY, help="Model to train on from: of starsmith pretrain, or starsmith import.")
@out_option
@recipe_options
def pretrain(
    tokens: Path, tokenizer: Path | None, base: Path | None, out: Path, recipe: Path | None, overrides: tuple[str, ...]
) -> None:
    """Train a StarCoder2 model on TOKENS. Interrupted, the same command goes on where it was.

    Under `torchrun` it uses every rank: torchrun --nproc-per-node 8 --no-python starsmith pretrain TOKENS --out DIR
    """
    from starsmith.core.ancestry import parent_directory
    from starsmith.training.config import PretrainConfig

    config = load_config("pretrain", PretrainConfig, recipe, overrides)
    train(config, tokens=tokens, tokenizer=tokenizer or parent_directory(tokens, "tokenizer"), out=out, base=base)


def train(config: "PretrainConfig", *, tokens: Path, tokenizer: Path, out: Path, base: Path | None = None) -> None:
    """Run the stage with the model watched on held-out files."""
    from starsmith.evaluation.watch import Watch
    from starsmith.tokenizer.bpe import Tokenizer
    from starsmith.training import pretrain as stage

    watch = Watch(tokens, Tokenizer.load(tokenizer), context_tokens=config.data.context_tokens)
    stage.run(config, tokens=tokens, tokenizer=tokenizer, out=out, base=base, watch=watch)
