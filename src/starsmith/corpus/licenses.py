"""The licence of each file, with the evidence: its own SPDX tag, else the nearest licence file, else what is declared.

Licence texts are recognised by the share of a known text's five-word shingles that the file contains, so another
copyright line or line breaking changes nothing, and a file that holds several licences yields them all.
"""

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsmith.core.hashing import code_tokens, shingles

SHINGLE_WORDS = 5
LEAST_CONTAINMENT = 0.8  # of a licence's shingles in a file: names of holders and products differ
MISSING_COST = 2  # what a shingle that is not there weighs against one that is, when near variants compete
MOST_SHARED = 0.5  # of a licence's shingles with those already found, beyond which it is a variant or part of them
TAG_HEAD = 2048  # characters at the start of a file in which a tag counts
LARGEST_LICENSE_BYTES = 300_000

_LICENSE_NAME = re.compile(r"(?i)^(.*[-_.])?(licen[cs]es?|copying|copyright|unlicense|mit-license)([-_.].*)?$")
_SOURCE_SUFFIX = re.compile(r"(?i)\.(py|js|ts|c|h|cc|cpp|go|rs|java|rb|php|cs|html|css|json|ya?ml|toml|xml|sh)$")
_END_OF_TERMS = "END OF TERMS AND CONDITIONS"
_TAG = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+()\- ]+)")


@dataclass(frozen=True)
class Finding:
    """A licence and what it was read from."""

    expression: str  # SPDX, "" when nothing was found
    evidence: str


def looks_like_license_file(path: str) -> bool:
    """True for LICENSE, COPYING.txt, LICENSE-MIT and their like; not for source code about licences."""
    name = PurePosixPath(path).name
    return bool(_LICENSE_NAME.match(name)) and not _SOURCE_SUFFIX.search(name)


def find_license(path: str, text: str, by_folder: Mapping[str, Finding], declared: str) -> Finding:
    """Licence of one file.

    by_folder  what `folder_findings` gave; the nearest folder above the file wins
    declared   SPDX id known of the whole source, or ""
    """
    if tag := _TAG.search(text[:TAG_HEAD]):
        expression = tag.group(1).strip().removesuffix("--").strip()
        return Finding(expression, "SPDX-License-Identifier in the file")
    for folder in PurePosixPath(path).parents:
        if found := by_folder.get(folder.as_posix()):
            return found
    return Finding(declared, "declared for the source" if declared else "")


def folder_findings(files: Iterable[tuple[str, str]]) -> dict[str, Finding]:
    """Folder -> licence, from the (path, text) of licence files. Several in one folder hold side by side (AND)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path, text in files:
        for license_id in detect(text):
            found.setdefault(PurePosixPath(path).parent.as_posix(), []).append((license_id, path))
    return {folder: _joined(pairs) for folder, pairs in found.items()}


def is_permissive(expression: str, *, allow: Sequence[str] = ()) -> bool:
    """Whether a policy of our permissive list and `allow` lets a file under this SPDX expression in.

    All parts of an AND must be allowed, one of an OR; an exception (WITH) leaves its licence as it is. An expression
    that cannot be read is not allowed.
    """
    return _permits(expression, frozenset(allow))


@lru_cache(maxsize=4096)
def detect(text: str) -> tuple[str, ...]:
    """SPDX ids of the licences whose texts stand in `text`, the largest first.

    A licence whose shingles are all part of another that was found (BSD-2-Clause in BSD-3-Clause) is not named.
    """
    library = _library()
    present = np.isin(library.shingles, _text_shingles(text), assume_unique=False)
    matched = np.add.reduceat(present, library.starts).astype(np.int64)
    order = np.argsort(MISSING_COST * (library.sizes - matched) - matched, kind="stable")
    names: list[str] = []
    taken: NDArray[np.uint64] = np.zeros(0, np.uint64)
    for number in order:
        if matched[number] < LEAST_CONTAINMENT * library.sizes[number]:
            continue
        start, end = library.starts[number], library.starts[number] + library.sizes[number]
        own = library.shingles[start:end][present[start:end]]
        if np.isin(own, taken).mean() < MOST_SHARED:
            names.append(library.names[number])
            taken = np.union1d(taken, own)
    return tuple(names)


@dataclass(frozen=True)
class _Library:
    names: list[str]
    shingles: NDArray[np.uint64]  # of all licences, one after the other
    starts: NDArray[np.int64]  # where each licence's begin
    sizes: NDArray[np.int64]


@cache
def _library() -> _Library:
    packed = resources.files("starsmith.corpus").joinpath("data/licenses.json.gz").read_bytes()
    texts: dict[str, str] = json.loads(gzip.decompress(packed))
    # Deprecated ids (GPL-3.0+) double current ones; of equal texts the shortest name stands for all.
    current = sorted((name for name in texts if not name.endswith("+") and f"{name}-only" not in texts), key=len)
    terms = {name: texts[name].split(_END_OF_TERMS)[0] for name in current}  # not how to apply them, often left out
    sets = {name: found for name in current if len(found := _text_shingles(terms[name]))}
    sizes = np.array([len(found) for found in sets.values()], np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    return _Library(list(sets), np.concatenate(list(sets.values())), starts, sizes)


def _text_shingles(text: str) -> NDArray[np.uint64]:
    """Distinct hashes of every five consecutive words; case, punctuation and labels of one character left out."""
    content = text.lower().encode()
    tokens = code_tokens(content)
    data = np.frombuffer(content, np.uint8)
    first = data[tokens.starts] if len(tokens) else data[:0]
    is_word = (first >= 128) | ((first >= ord("a")) & (first <= ord("z"))) | ((first >= ord("0")) & (first <= ord("9")))
    counted = is_word & (tokens.ends - tokens.starts > 1)
    return np.unique(shingles(tokens.hashes[counted], SHINGLE_WORDS))


def _joined(pairs: Sequence[tuple[str, str]]) -> Finding:
    names = sorted({name for name, _ in pairs})
    paths = sorted({path for _, path in pairs})
    return Finding(" AND ".join(names), f"text of {', '.join(paths)}")


@lru_cache(maxsize=4096)
def _permits(expression: str, allow: frozenset[str]) -> bool:
    from license_expression import ExpressionError

    try:
        parsed = _spdx().parse(expression, validate=False)
    except (ExpressionError, ValueError):  # ParseError of the underlying library is a ValueError or ExpressionError
        return False
    return parsed is not None and _evaluate(parsed, allow | _permissive_ids())


def _evaluate(node: Any, allowed: frozenset[str]) -> bool:
    kind = type(node).__name__
    if kind == "AND":
        return all(_evaluate(part, allowed) for part in node.args)
    if kind == "OR":
        return any(_evaluate(part, allowed) for part in node.args)
    if kind == "LicenseWithExceptionSymbol":
        node = node.license_symbol
    return str(node.key).casefold() in {name.casefold() for name in allowed}


@cache
def _spdx() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@cache
def _permissive_ids() -> frozenset[str]:
    text = resources.files("starsmith.corpus").joinpath("data/permissive.txt").read_text(encoding="utf-8")
    return frozenset(text.split())
