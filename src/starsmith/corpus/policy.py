"""Which licences are let in: a base list, and what is allowed or denied by SPDX id or category beside it.

Of an expression all parts of an AND must be allowed, and one of an OR; an exception (WITH) leaves its licence as it
is. What cannot be read is not allowed. This is a filter, not legal advice.
"""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property, lru_cache
from importlib import resources
from typing import Any

from starsmith.core.errors import ConfigError
from starsmith.corpus import licenses
from starsmith.corpus.files import Drop
from starsmith.corpus.license_names import PROPRIETARY
from starsmith.corpus.license_notices import COMMONS_CLAUSE
from starsmith.corpus.licenses import UNRECOGNISED, Finding

BLUE_OAK, SCANCODE_PERMISSIVE, NONE = "blue_oak", "scancode_permissive", "none"
BASES = (BLUE_OAK, SCANCODE_PERMISSIVE, NONE)
PERMISSIVE_RANK, OTHER_RANK, UNLICENSED_RANK = 0, 1, 2

_OURS = {COMMONS_CLAUSE: "source-available", PROPRIETARY: "commercial", UNRECOGNISED: "unstated"}
_NO_LICENSE = "no licence in the file, in a licence file above it, or declared for its repository"


@dataclass(frozen=True, kw_only=True)
class LicensePolicy:
    """What a file's licence must be."""

    base: str = SCANCODE_PERMISSIVE  # blue_oak, scancode_permissive (Blue Oak and ScanCode's, as BigCode) or none
    allow: tuple[str, ...] = ()  # SPDX ids let in beside the base
    allow_categories: tuple[str, ...] = ()  # and categories: weak-copyleft, copyleft, source-available ...
    deny: tuple[str, ...] = ()  # SPDX ids never let in, before all else; under an OR the other choice still holds
    unlicensed: bool = False  # keep files for which no licence was found, as The Stack v2 does

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise ConfigError(f"base={self.base!r}: no such list of licences", hint=_suggest(self.base, BASES))
        if unknown := sorted(set(self.allow_categories) - set(categories())):
            hint = _suggest(unknown[0], sorted(categories()))
            raise ConfigError(f"allow_categories={unknown}: no categories of licences", hint=hint)
        for name, ids in (("allow", self.allow), ("deny", self.deny)):
            if wrong := licenses.unknown_ids(ids):
                hint = _suggest(
                    wrong[0], sorted(licenses.known_ids()), otherwise="names as on https://spdx.org/licenses"
                )
                raise ConfigError(f"{name}={wrong}: no SPDX licence ids", hint=hint)

    def decide(self, finding: Finding) -> Drop | None:
        """Why a file under this licence does not come in, None when it does."""
        if not finding.expression:
            return None if self.unlicensed else Drop("no_license", _NO_LICENSE)
        if not (reasons := self.objection(finding.expression)):
            return None
        return Drop("not_permissive", f"{finding.expression} ({finding.evidence}): {reasons}")

    def objection(self, expression: str) -> str:
        """What stands against an SPDX expression, "" when nothing does."""
        return ", ".join(self._reason(name) for name in _refused(self, expression))

    def rank(self, finding: Finding) -> int:
        """0 permissive, 1 allowed otherwise, 2 none found: of copies of a file the one of the lowest rank stays."""
        if not finding.expression:
            return UNLICENSED_RANK
        return OTHER_RANK if _refused(_permissive(), finding.expression) else PERMISSIVE_RANK

    def allows(self, name: str) -> bool:
        """Whether one licence, by its SPDX id, is let in."""
        return licenses.canonical_id(name) not in self._denied and (
            licenses.canonical_id(name) in self._allowed or category_of(name) in self.allow_categories
        )

    def _reason(self, name: str) -> str:
        if licenses.canonical_id(name) in self._denied:
            return f"{name} is denied"
        category = category_of(name)
        return f"{name} is {category} and not allowed" if category else f"{name} is not allowed"

    @cached_property
    def _denied(self) -> frozenset[str]:
        return frozenset(map(licenses.canonical_id, self.deny))

    @cached_property
    def _allowed(self) -> frozenset[str]:
        names = set(self.allow)
        if self.base != NONE:
            names |= licenses.permissive_ids()
        if self.base == SCANCODE_PERMISSIVE:
            names.update(*(categories()[category] for category in ("permissive", "public-domain")))
        return frozenset(map(licenses.canonical_id, names))


@cache
def _permissive() -> LicensePolicy:
    return LicensePolicy(base=SCANCODE_PERMISSIVE)


@cache
def categories() -> dict[str, tuple[str, ...]]:
    """Category -> SPDX ids, from ScanCode's licence index, and of ours."""
    text = resources.files("starsmith.corpus").joinpath("data/license_categories.json").read_text(encoding="utf-8")
    found = {category: tuple(ids) for category, ids in json.loads(text).items()}
    return {
        category: (*ids, *(name for name, of in _OURS.items() if of == category)) for category, ids in found.items()
    }


def category_of(name: str) -> str:
    """Category of a licence by its SPDX id, "" when it is not known."""
    return _by_id().get(licenses.canonical_id(name), "")


@cache
def _by_id() -> dict[str, str]:
    found: dict[str, str] = {}
    for category, ids in categories().items():
        for name in ids:
            found.setdefault(name.casefold(), category)
    return found


@lru_cache(maxsize=65536)
def _refused(policy: LicensePolicy, expression: str) -> tuple[str, ...]:
    """The licences for which `policy` does not let an expression in, none when it does."""
    parsed = licenses.parse(expression)
    return (expression,) if parsed is None else tuple(dict.fromkeys(_blockers(policy, parsed)))


def _blockers(policy: LicensePolicy, node: Any) -> list[str]:
    kind = type(node).__name__
    if kind in ("AND", "OR"):
        parts = [_blockers(policy, part) for part in node.args]
        if kind == "OR" and not all(parts):
            return []
        return [name for part in parts for name in part]
    if kind == "LicenseWithExceptionSymbol":
        node = node.license_symbol
    name = str(node.key)
    return [] if policy.allows(name) else [name]


def _suggest(name: str, known: "tuple[str, ...] | list[str]", *, otherwise: str = "") -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise or f"known: {', '.join(known)}"
