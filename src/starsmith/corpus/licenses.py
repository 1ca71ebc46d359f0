"""The licence of each file with the evidence for it, and whether a policy lets that licence in.

What the file says of itself comes first (an SPDX tag, then a licence's text or notice in its head), then the nearest
licence file above it, then what is declared for the whole source.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from starsmith.corpus.license_texts import known_licenses, recognise

TAG_HEAD = 2048  # characters at the start of a file in which a tag counts
NOTICE_HEAD = 4096  # and in which the text or notice of a licence does
LARGEST_LICENSE_BYTES = 300_000
UNRECOGNISED = "LicenseRef-unrecognised"  # there is a licence, and we do not know what it says

_STEM = r"(?:licen[cs]es?|copying|unlicense|copyright|notice)"
_TEXT_SUFFIX = r"(?:\.(?:txt|text|md|markdown|rst|asc|html?))?"
_PLAIN_NAME = re.compile(rf"(?i)^(?:un)?(?:licen[cs]e|copying){_TEXT_SUFFIX}$")
_PREFIXED_NAME = re.compile(rf"(?i)^[\w.+]{{1,24}}[-_.]{_STEM}{_TEXT_SUFFIX}$")  # ICON_LICENSE.md, MIT-LICENSE.txt
_SUFFIXED_NAME = re.compile(rf"(?i)^{_STEM}(?:[-_.][\w.+-]{{1,24}}?)?{_TEXT_SUFFIX}$")  # LICENSE-APACHE, COPYING.LESSER
_NOT_TEXT = re.compile(r"(?i)\.(py|js|ts|c|h|cc|cpp|go|rs|java|rb|php|cs|css|json|ya?ml|toml|xml|sh|about|spdx)$")

_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+()\- \t]+)")
_JSDOC = re.compile(r"(?i)@licen[cs]e:?[ \t]+(\(?[a-z0-9.+-]+(?:[ \t]+(?:OR|AND|WITH)[ \t]+[a-z0-9.+-]+)*\)?)")
# Without one of these there is nothing to recognise. Substring searches: a pattern without case took 50 us a file.
_CUES = ("license", "licence", "redistribut", "permission", "proprietary and confidential")
_WORDING = (*_CUES, "warrant", "damage", "liab", "distribut", "copies", "notice")  # of which a notice's lines have one
_MARK = re.compile(r"[ \t]*([^\w\s]{0,3})")
_BLOCK_END = re.compile(r"\*/|-->|\"\"\"|'''")
LINES_AFTER = 2  # of the same paragraph, after the last with a cue: `(at your option) any later version`


@dataclass(frozen=True)
class Finding:
    """A licence and what it was read from."""

    expression: str  # SPDX, "" when nothing was found
    evidence: str


NOTHING = Finding("", "")


def looks_like_license_file(path: str) -> bool:
    """True for LICENSE, COPYING.txt, LICENSE-MIT, ICON_LICENSE.md and their like; not for code about licences."""
    name = PurePosixPath(path).name
    named = _PLAIN_NAME.match(name) or _PREFIXED_NAME.match(name) or _SUFFIXED_NAME.match(name)
    return bool(named) and not _NOT_TEXT.search(name)


def folder_findings(files: Iterable[tuple[str, str]]) -> dict[str, Finding]:
    """Folder -> licence, from the (path, text) of licence files. Several in one folder hold side by side (AND).

    A LICENSE that we do not recognise still says that another folder's licence does not hold here.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    unrecognised: dict[str, Finding] = {}
    for path, text in files:
        folder = PurePosixPath(path).parent.as_posix()
        names = recognise(text)
        found.setdefault(folder, []).extend((name, path) for name in names)
        if not names and text.strip() and _PLAIN_NAME.match(PurePosixPath(path).name):
            unrecognised[folder] = Finding(UNRECOGNISED, f"text of {path}, which is no known licence")
    return {**unrecognised, **{folder: _joined(pairs) for folder, pairs in found.items() if pairs}}


def find_license(path: str, text: str, by_folder: Mapping[str, Finding], declared: Finding = NOTHING) -> Finding:
    """Licence of one file.

    by_folder  what `folder_findings` gave; the nearest folder above the file wins
    declared   what is known of the whole source
    """
    head = text[:NOTICE_HEAD]
    plain = head.lower()
    if "spdx-license-identifier:" in plain and (tags := _tags(head[:TAG_HEAD])):
        return Finding(tags, "SPDX-License-Identifier in the file")
    if "@licen" in plain and (tag := _JSDOC.search(head[:TAG_HEAD])) and _is_known(tag[1]):
        return Finding(tag[1], "@license in the file")
    if any(cue in plain for cue in _CUES) and (names := recognise(_notice(plain))):
        return Finding(" AND ".join(sorted(names)), "notice in the file")
    folder = path
    while by_folder and folder != ".":
        folder = folder.rpartition("/")[0] or "."
        if found := by_folder.get(folder):
            return found
    return declared


def _tags(head: str) -> str:
    """The SPDX expressions in the tags of a file; several hold side by side (AND), as of parts with other origins."""
    # An HTML comment ends in -->
    found = dict.fromkeys(" ".join(tag.split()).rstrip("-").strip() for tag in _TAG.findall(head))
    expressions = [expression for expression in found if expression]
    if len(expressions) > 1:
        expressions = [f"({one})" if " OR " in one.upper() else one for one in expressions]
    return " AND ".join(expressions)


def _is_known(expression: str) -> bool:
    """Whether every name in an SPDX expression is the id of a licence or an exception."""
    names = re.findall(r"[^\s()]+", expression)
    return all(name in ("OR", "AND", "WITH") or canonical_id(name) in _known_canonical_ids() for name in names)


@cache
def _known_canonical_ids() -> frozenset[str]:
    return frozenset(map(canonical_id, known_ids()))


def _notice(plain: str) -> str:
    """The lines of a head in lower case that may be a licence's notice, and as few others as can be.

    So that the thousand files with one notice, each with its own copyright line above, code and comments below, give
    one string, which is recognised once.
    """
    first = len(plain)
    for cue in _WORDING:
        at = plain.find(cue, 0, first + len(cue))
        first = at if 0 <= at < first else first
    line = plain.rfind("\n", 0, first) + 1
    start = plain.rfind("\n", 0, max(line - 1, 0)) + 1  # `under the` may stand in the line before
    if "copyright" in plain[start:line] or "(c)" in plain[start:line]:
        start = line
    mark = _mark(plain, line)
    block = _comment_end(plain, line, mark)
    last = max(plain.rfind(cue, first, block) for cue in _WORDING)
    end = plain.find("\n", last, block)
    for _ in range(LINES_AFTER):
        if end < 0 or _mark(plain, end + 1) != mark or not any(map(str.isalnum, _line(plain, end + 1))):
            break
        end = plain.find("\n", end + 1, block)
    return plain[start : end if end >= 0 else block]


def _mark(plain: str, at: int) -> str:
    found = _MARK.match(plain, at)
    return found[1] if found else ""


def _line(plain: str, at: int) -> str:
    end = plain.find("\n", at)
    return plain[at : end if end >= 0 else len(plain)]


def _comment_end(plain: str, at: int, mark: str) -> int:
    """Where the comment ends whose line at `at` begins with `mark`."""
    if mark and (lines := _comment_lines(mark).match(plain, at)):
        return lines.end()
    ends = _BLOCK_END.search(plain, at)
    return ends.start() if ends else len(plain)


@lru_cache(maxsize=256)
def _comment_lines(mark: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[ \t]*(?:{re.escape(mark)}.*)?\n)+")


def is_permissive(expression: str, *, allow: Sequence[str] = ()) -> bool:
    """Whether a policy of our permissive list and `allow` lets a file under this SPDX expression in.

    All parts of an AND must be allowed, one of an OR; an exception (WITH) leaves its licence as it is. An expression
    that cannot be read is not allowed.
    """
    return _permits(expression, frozenset(allow))


def unknown_ids(ids: Iterable[str]) -> list[str]:
    """Those that are neither SPDX licence ids, deprecated ones included, nor of the form LicenseRef-…"""
    named = (name for name in ids if not name.startswith("LicenseRef-"))
    return [name for name in named if _current_id(name) not in known_ids()]


@cache
def known_ids() -> frozenset[str]:
    """Every id that may stand in an allow-list."""
    return frozenset(_spdx().known_symbols) | frozenset(known_licenses()) | permissive_ids()


@lru_cache(maxsize=16384)
def canonical_id(name: str) -> str:
    """What equal ids have in common: the current spelling, without case."""
    return _current_id(name).casefold()


def parse(expression: str) -> Any:
    """The tree of an SPDX expression, None when it cannot be read."""
    from license_expression import ExpressionError

    try:
        return _spdx().parse(expression, validate=False)
    except (ExpressionError, ValueError):  # ParseError of the underlying library is a ValueError or ExpressionError
        return None


def _current_id(name: str) -> str:
    """The id that now stands for a deprecated one or another spelling: GPL-3.0-only for GPL-3.0."""
    return str(getattr(parse(name), "key", name))


def _joined(pairs: Sequence[tuple[str, str]]) -> Finding:
    names = sorted({name for name, _ in pairs})
    paths = sorted({path for _, path in pairs})
    return Finding(" AND ".join(names), f"text of {', '.join(paths)}")


@lru_cache(maxsize=4096)
def _permits(expression: str, allow: frozenset[str]) -> bool:
    parsed = parse(expression)
    allowed = set(map(canonical_id, permissive_ids().union(allow)))
    return parsed is not None and _evaluate(parsed, allowed)


def _evaluate(node: Any, allowed: set[str]) -> bool:
    kind = type(node).__name__
    if kind == "AND":
        return all(_evaluate(part, allowed) for part in node.args)
    if kind == "OR":
        return any(_evaluate(part, allowed) for part in node.args)
    if kind == "LicenseWithExceptionSymbol":
        node = node.license_symbol
    return canonical_id(str(node.key)) in allowed


@cache
def _spdx() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@cache
def permissive_ids() -> frozenset[str]:
    """The Blue Oak Council's permissive licences, and four of ours."""
    text = resources.files("starsmith.corpus").joinpath("data/permissive.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
