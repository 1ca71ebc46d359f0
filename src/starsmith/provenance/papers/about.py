"""What no manifest can know: who stands for an artefact, under which name and licence it is given out, and for what.

A TOML file, all of it optional. A paper says "not given" where it wants what is not in it, or, where its format has no
way to say so, is not written.
"""

import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from starsmith.core.config import build, read_toml
from starsmith.core.errors import ConfigError

NOT_GIVEN = "not given"

_URL = re.compile(r"[a-z][a-z0-9+.-]*:[^\s<>\"{}|\\^`]+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Provider:
    """The table [provider]."""

    name: str = ""  # of the organisation or person
    contact: str = ""  # e-mail address or URL
    authorised_representative: str = ""  # in the Union, of a provider outside it: name and contact


@dataclass(frozen=True, kw_only=True)
class Release:
    """The table [release]."""

    name: str = ""  # by default the name of the directory
    version: str = ""  # MAJOR.MINOR.PATCH; by default the artefact's id stands for it
    url: str = ""  # where it can be had
    date: str = ""  # day on which it is given out, or placed on the market
    built: str = ""  # day on which it was made
    license: str = ""  # SPDX expression under which it is given out
    datasets: tuple[str, ...] = ()  # of a model: names under which its corpora are published
    citation: str = ""  # BibTeX

    def __post_init__(self) -> None:
        _check(self, "date", "built")
        if self.version and not re.fullmatch(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?", self.version):
            raise ConfigError(f"version = {self.version!r}: no version", hint="write it as 1.0.0")


@dataclass(frozen=True, kw_only=True)
class Use:
    """The table [use]."""

    summary: str = ""  # what it is, in a sentence or two
    intended: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The table [sources]: where the data come from."""

    url: str = ""  # of a model: where its corpus can be had, the day on which that was made, and given out
    built: str = ""
    date: str = ""

    acquired_from: str = ""  # first and last day on which sources were cloned or downloaded
    acquired_until: str = ""
    public_datasets: tuple[str, ...] = ()  # name and link of each large one
    licensed: str = ""  # data under a commercial licence from their rightsholders
    private: str = ""  # other data of third parties that are not public
    crawlers: str = ""  # names, purposes and behaviour of crawlers
    user_data: str = ""
    synthetic: str = ""
    other: str = ""

    def __post_init__(self) -> None:
        _check(self, "acquired_from", "acquired_until", "built", "date")


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The table [measures]: what a provider does about rights and unlawful content."""

    code_of_practice: bool | None = None  # signed the Code of Practice for general-purpose AI
    reservation_of_rights: str = ""  # measures before and during collection, beside opt-out lists
    illegal_content: str = ""
    other: str = ""


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """The table [base]: for a base model that does not say it itself."""

    name: str = ""
    license: str = ""


@dataclass(frozen=True, kw_only=True)
class About:
    """All of the file."""

    provider: Provider = field(default_factory=Provider)
    release: Release = field(default_factory=Release)
    use: Use = field(default_factory=Use)
    sources: Sources = field(default_factory=Sources)
    measures: Measures = field(default_factory=Measures)
    base: BaseModel = field(default_factory=BaseModel)


def load(path: Path | None) -> About:
    """What the file at `path` says; nothing without one."""
    if path is None:
        return About()
    table = read_toml(path, "the file", hint="give a TOML file to --about, or leave it out")
    return build(About, table, where=str(path))


def _check(table: "Release | Sources", *days: str) -> None:
    for name in days:
        if (day := getattr(table, name)) and not _is_day(day):
            raise ConfigError(f"{name} = {day!r}: no date", hint="write it as 2026-01-31")
    if table.url and not _URL.fullmatch(table.url):
        raise ConfigError(f"url = {table.url!r}: no URL", hint="for example https://example.org/corpus")


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
