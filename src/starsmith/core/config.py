"""A recipe's TOML table becomes a frozen dataclass: default < recipe < `--set`, and nothing unknown passes.

A stage declares its settings as a frozen, keyword-only dataclass of plain fields (bool, int, float, str,
`X | None`, tuples of those, a table of names to floats) and of further dataclasses, which are sub-tables. An unknown
key, a wrong type or a bad value is a ConfigError naming the place.
"""

import copy
import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from starsmith.core.errors import ConfigError, InputError

Tables = dict[str, dict[str, Any]]
T = TypeVar("T")

LARGEST_TOML_BYTES = 16 << 20
NONE = "none"  # TOML has no null: this is how a recipe takes back a value


def read_toml(path: Path, what: str, *, hint: str) -> dict[str, Any]:
    """The content of a TOML file of bounded size; `what` and `hint` are for the error when it cannot be read."""
    try:
        if path.is_file() and path.stat().st_size > LARGEST_TOML_BYTES:
            raise InputError(f"{what} {path} is larger than {LARGEST_TOML_BYTES >> 20} MiB", hint=hint)
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{what} {path} does not exist", hint=hint) from None
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}", hint=hint) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint="mend the line it names") from None


def load_recipe(path: Path, *, known: Sequence[str]) -> Tables:
    """Read a recipe: TOML whose top level is one table per stage, each name one of `known`."""
    tables = read_toml(path, "recipe", hint="give a .toml file: ls recipes/")
    for name, table in tables.items():
        if name not in known:
            raise ConfigError(f"{path} has no table [{name}] to use", hint=_suggest(name, known))
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name!r} stands outside a table", hint=f"put it under one of {known}")
    return tables


def apply_overrides(
    tables: Mapping[str, Mapping[str, Any]], overrides: Sequence[str], *, known: Sequence[str]
) -> Tables:
    """`--set table.key=value`, each laid over the tables; a value is read as TOML, or else as a string.

    The key may have further parts, `corpus.filters.longest_line=500`, for a sub-table.
    """
    merged: Tables = copy.deepcopy({name: dict(table) for name, table in tables.items()})
    for text in overrides:
        name, dot, rest = text.partition(".")
        key, equals, value = rest.partition("=")
        if not (dot and equals and key):
            raise ConfigError(
                f"--set {text!r} has no table.key=value form", hint="for example --set pretrain.minutes=10"
            )
        if name not in known:
            raise ConfigError(f"--set {text!r}: there is no table {name!r}", hint=_suggest(name, known))
        *inner, last = (part.strip() for part in key.split("."))
        table = merged.setdefault(name, {})
        for part in inner:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {text!r}: {part!r} is a setting, not a table", hint="leave out what follows")
        table[last] = _parse_value(value.strip())
    return merged


def build(cls: type[T], table: Mapping[str, Any], *, where: str) -> T:
    """Make `cls` from a TOML table; `where` names the place in error messages."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in names:
            raise ConfigError(f"{where} has no setting {key!r}", hint=_suggest(key, names))
        values[key] = _coerce(value, hints[key], where=f"{where} {key}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None


def to_table(config: Any) -> dict[str, Any]:
    """The settings as plain JSON values, for a manifest."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_table(value)
    return list(value) if isinstance(value, tuple) else value


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _coerce(value: Any, hint: Any, *, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} = {value!r} is not a table", hint=f"give its settings one by one: {where}.KEY")
        return build(typing.cast(type[Any], hint), value, where=where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} = {value!r} is not a table", hint="write it as { name = value }")
        return {key: _coerce(item, typing.get_args(hint)[1], where=f"{where} {key}") for key, item in value.items()}
    if origin is types.UnionType:
        if value == NONE and type(None) in typing.get_args(hint):
            return None
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return _coerce(value, options[0], where=where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} = {value!r} is not a list", hint="write it as [a, b]")
        return tuple(_coerce(item, typing.get_args(hint)[0], where=where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and type(value) is date:  # TOML has dates; a setting has it as people write it
        return value.isoformat()
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(
            f"{where} = {value!r} is of type {type(value).__name__}, not {hint.__name__}",
            hint="mend the value",
        )
    return value


def _suggest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
