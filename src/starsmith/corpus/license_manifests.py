"""The licence that a package's manifest declares: package.json, Cargo.toml, pyproject.toml and their like.

A manifest is read as data and nothing in it is run. It counts only where its folder has no licence file.
"""

import configparser
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from starsmith.corpus import license_names
from starsmith.corpus.license_texts import recognise
from starsmith.corpus.licenses import UNRECOGNISED, Finding, is_known_expression, known_ids, parse

LARGEST_MANIFEST_BYTES = 300_000
LONGEST_EXPRESSION = 500  # characters; what is longer is a text
MOST_NAMES = 20  # licences of one manifest

_CLASSIFIER = "License :: "
_GEM = re.compile(
    r"^[^#\n]*?\.licen[cs]es?\s*=\s*(\[[^\]\n]{0,300}\]|%w.[^\n]{0,300}|[\"'][^\"'\n]{0,200}[\"'])", re.MULTILINE
)
_NUGET = "https://licenses.nuget.org/"  # before an expression
_QUOTED = re.compile(r"[\"']([^\"'\n]{1,200})[\"']")


def looks_like_manifest(path: str) -> bool:
    """True for the names that `declared_in_manifest` can read."""
    return _reader(path) is not None


def manifest_findings(files: Iterable[tuple[str, bytes]]) -> dict[str, Finding]:
    """Folder -> what the manifests in it declare, from (path, content); different ones hold side by side (AND)."""
    found: dict[str, dict[str, str]] = {}
    for path, content in files:
        if finding := declared_in_manifest(path, content):
            found.setdefault(PurePosixPath(path).parent.as_posix(), {}).setdefault(finding.expression, finding.evidence)
    return {
        folder: Finding(_joined(list(findings), "AND"), "; ".join(findings.values()))
        for folder, findings in found.items()
    }


def declared_in_manifest(path: str, content: bytes) -> Finding | None:
    """What a manifest declares, None when that is nothing or only points to a file.

    A name that is no known licence is a licence all the same, of which we do not know what it says.
    """
    read = _reader(path)
    if read is None or len(content) > LARGEST_MANIFEST_BYTES or b"licen" not in content.lower():
        return None
    try:
        declared = [name.strip() for name in read(content.decode("utf-8", "replace")) if name.strip()]
    except (ValueError, RecursionError, configparser.Error, ElementTree.ParseError):
        return None  # no manifest, whatever its name
    if not declared or any(_points_elsewhere(name) for name in declared):
        return None
    expressions = [_expression(name) for name in dict.fromkeys(declared[:MOST_NAMES])]
    if None in expressions or len(declared) > MOST_NAMES:
        return Finding(UNRECOGNISED, f"{path} declares {declared[0][:80]!r}, which is no known licence")
    joined = _joined([one for one in dict.fromkeys(expressions) if one], "AND" if path.endswith(".gemspec") else "OR")
    return Finding(joined, f"declared in {path}")


def _reader(path: str) -> Callable[[str], Iterable[str]] | None:
    name = PurePosixPath(path).name
    return _BY_NAME.get(name) or _BY_SUFFIX.get(PurePosixPath(name).suffix)


def _points_elsewhere(name: str) -> bool:
    return name.upper().startswith("SEE LICEN") or (name.lower().startswith("file:"))


def _joined(expressions: list[str], operator: str) -> str:
    """One expression; each part with another operator in parentheses."""
    if len(expressions) == 1:
        return expressions[0]
    return f" {operator} ".join(
        f"({one})" if re.search(r" (?:AND|OR) ", one) and f" {operator} " not in one else one for one in expressions
    )


def _expression(name: str) -> str | None:
    """The SPDX expression for what somebody wrote: an expression, a usual name, or a whole text."""
    if len(name) > LONGEST_EXPRESSION:
        return " AND ".join(sorted(recognise(name))) or None
    spdx = re.sub(r"\s*/\s*", " OR ", name)  # Cargo's old form: MIT/Apache-2.0
    if is_known_expression(spdx) and (tree := parse(spdx)) is not None:
        return str(tree)
    return _named(name)


def _named(name: str) -> str | None:
    return license_names.named(name) or _by_name().get(license_names.plain(name))


@cache
def _by_name() -> dict[str, str]:
    """Ids by what is left of them without punctuation: `bsd 3 clause`."""
    return {re.sub(r"[^a-z0-9+]+", " ", name.lower()): name for name in sorted(known_ids(), reverse=True)}


def _package_json(text: str) -> Iterator[str]:
    data = json.loads(text)
    if not isinstance(data, dict):
        return
    for declared in (data.get("license"), data.get("licenses")):
        for one in declared if isinstance(declared, list) else [declared]:
            name = one.get("type") or one.get("name") if isinstance(one, dict) else one
            if isinstance(name, str):
                yield name


def _cargo(text: str) -> Iterator[str]:
    data = tomllib.loads(text)
    for table in (data.get("package"), _table(data, "workspace").get("package")):
        if isinstance(table, dict) and isinstance(name := table.get("license"), str):
            yield name
            return


def _pyproject(text: str) -> Iterator[str]:
    data = tomllib.loads(text)
    project, poetry = _table(data, "project"), _table(_table(data, "tool"), "poetry")
    declared = project.get("license", poetry.get("license"))
    if isinstance(declared, dict):
        declared = declared.get("text")
    classifiers = project.get("classifiers", poetry.get("classifiers"))
    yield from _python(declared, classifiers if isinstance(classifiers, list) else [])


def _setup_cfg(text: str) -> Iterator[str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    if parser.has_section("metadata"):
        metadata = parser["metadata"]
        yield from _python(
            metadata.get("license") or metadata.get("license_expression"), metadata.get("classifiers", "").splitlines()
        )


def _python(declared: object, classifiers: Iterable[object]) -> Iterator[str]:
    """The licence of Python metadata; classifiers tell where it is not given, or not by a name that we know."""
    named = [one.strip() for one in classifiers if isinstance(one, str) and one.strip().startswith(_CLASSIFIER)]
    names = [name for one in named if (name := one.rpartition(" :: ")[2]) != "OSI Approved"]
    if isinstance(declared, str) and declared.strip() and (_expression(declared.strip()) or not names):
        yield declared
    else:
        yield from names


def _gemspec(text: str) -> Iterator[str]:
    for found in _GEM.finditer(text):
        value = found[1]
        yield from re.findall(r"[\w.+-]+", value[3:]) if value.startswith("%w") else _QUOTED.findall(value)


def _pom(text: str) -> Iterator[str]:
    for licenses in _children(_xml(text), "licenses"):
        for one in _children(licenses, "license"):
            yield from (name.text or "" for name in _children(one, "name"))


def _nuspec(text: str) -> Iterator[str]:
    for metadata in _children(_xml(text), "metadata"):
        licenses = _children(metadata, "license")
        if licenses:
            yield from (one.text or "" for one in licenses if one.get("type") == "expression")
            return
        for url in _children(metadata, "licenseUrl"):
            address = (url.text or "").strip()
            if found := license_names.by_address(address):
                yield found
            elif address.startswith(_NUGET):  # others are mostly the repository's own licence file, which is read
                yield unquote(address.removeprefix(_NUGET))


def _xml(text: str) -> ElementTree.Element:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("entities could expand without end")
    return ElementTree.fromstring(text)  # noqa: S314 - of text, so that no other encoding hides an entity


def _children(node: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [child for child in node if child.tag.rpartition("}")[2] == name]


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


_BY_NAME: dict[str, Callable[[str], Iterable[str]]] = {
    "package.json": _package_json,
    "composer.json": _package_json,
    "Cargo.toml": _cargo,
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "pom.xml": _pom,
}
_BY_SUFFIX: dict[str, Callable[[str], Iterable[str]]] = {".gemspec": _gemspec, ".nuspec": _nuspec}
