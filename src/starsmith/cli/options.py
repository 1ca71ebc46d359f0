"""Options that several commands share, and how a stage's settings are read from them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

STAGES = ("corpus", "tokenizer", "tokens", "pretrain", "evaluation", "index")  # the tables of a recipe, in order

Command = TypeVar("Command", bound=Callable[..., Any])
Config = TypeVar("Config")

DIRECTORY = click.Path(path_type=Path)
FILE = click.Path(path_type=Path)

out_option = click.option("--out", type=DIRECTORY, required=True, help="New directory.")


def recipe_options(command: Command) -> Command:
    """Add `--recipe FILE` and `--set table.key=value`."""
    command = click.option("--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override a setting.")(
        command
    )
    return click.option("--recipe", type=FILE, help="Recipe whose settings to use.")(command)


def load_config(table: str, cls: type[Config], recipe: Path | None, overrides: Sequence[str]) -> Config:
    """Settings of one stage: default < recipe < `--set`."""
    from starsmith.core.config import apply_overrides, build, load_recipe

    tables = apply_overrides(load_recipe(recipe, known=STAGES) if recipe else {}, overrides, known=STAGES)
    return build(cls, tables.get(table, {}), where=f"{recipe or '--set'} [{table}]")
