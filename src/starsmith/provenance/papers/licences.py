"""Licences as the papers want them: one expression for many files, a hub's name, an SPDX element's identifier."""

import re
from collections.abc import Iterable

# Names that the Hugging Face hub takes in `license:`; any other goes to `license_name`.
HUB_LICENSES = frozenset(
    [
        "afl-3.0",
        "agpl-3.0",
        "apache-2.0",
        "artistic-2.0",
        "bigcode-openrail-m",
        "bigscience-bloom-rail-1.0",
        "bigscience-openrail-m",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "bsl-1.0",
        "cc",
        "cc-by-2.0",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "cdla-sharing-1.0",
        "creativeml-openrail-m",
        "ecl-2.0",
        "epl-1.0",
        "epl-2.0",
        "eupl-1.1",
        "eupl-1.2",
        "gpl",
        "gpl-2.0",
        "gpl-3.0",
        "isc",
        "lgpl",
        "lgpl-2.1",
        "lgpl-3.0",
        "lppl-1.3c",
        "mit",
        "mpl-2.0",
        "ms-pl",
        "ncsa",
        "odbl",
        "odc-by",
        "ofl-1.1",
        "openrail",
        "openrail++",
        "osl-3.0",
        "pddl",
        "postgresql",
        "unlicense",
        "wtfpl",
        "zlib",
    ]
)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:-]*")
_OPERATORS = ("AND", "OR", "WITH")


def concluded(expressions: Iterable[str]) -> str:
    """One SPDX expression for files under all of these: every licence must be kept to for its files."""
    parts: set[str] = set()
    for expression in expressions:
        if "(" in expression or " OR " in expression.upper():
            parts.add(f"({expression})")
        elif expression:
            parts.update(re.split(r"\s+AND\s+", expression))
    ordered = sorted(parts)
    if len(ordered) == 1 and ordered[0].startswith("("):
        return ordered[0][1:-1]
    return " AND ".join(ordered)


def ids_in(expressions: Iterable[str]) -> list[str]:
    """The licence ids in expressions, each once."""
    words = {word for expression in expressions for word in _WORD.findall(expression)}
    return sorted(words - set(_OPERATORS))


def is_expression(text: str) -> bool:
    """Whether a text is an SPDX expression of known licences."""
    from license_expression import ExpressionError, get_spdx_licensing

    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(text, validate=True)
    except ExpressionError:
        return False
    return parsed is not None


def as_expression(text: str) -> str:
    """What a person wrote as an SPDX expression: as it is, or a reference to a licence that SPDX does not list."""
    return text if is_expression(text) else "LicenseRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-")


def hub_fields(licence: str) -> dict[str, str]:
    """The fields of a card's front matter that name a licence."""
    if not licence:
        return {}
    if licence.lower() in HUB_LICENSES:
        return {"license": licence.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.+-]+", "-", licence.lower()).strip("-")}
