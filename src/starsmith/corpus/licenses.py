"""The licence of each file with the evidence for it, and whether a policy lets that licence in.

What the file says of itself comes first (an SPDX or JSDoc tag, then a licence's text or notice), then the nearest
licence file above it (or the manifest of a folder without one), then what is declared for the whole source.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Any

from starsmith.corpus.license_texts import known_licenses, recognise, recognise_file

TAG_HEAD = 2048  # characters at the start of a file in which a tag counts
NOTICE_HEAD = 4096  # and in which the text or notice of a licence does
LARGEST_LICENSE_BYTES = 300_000
UNRECOGNISED = "LicenseRef-unrecognised"  # there is a licence, and we do not know what it says

_STEM = r"(?:licen[cs]es?|copying|unlicense|copyright|notice)"
_TEXT_SUFFIX = r"(?:\.(?:txt|text|md|markdown|rst|asc|html?))?"
_PLAIN_NAME = re.compile(rf"(?i)^(?:un)?(?:licen[cs]e|copying){_TEXT_SUFFIX}$")
_PREFIXED_NAME = re.compile(rf"(?i)^[\w.+]{{1,24}}[-_.]{_STEM}{_TEXT_SUFFIX}$")  # ICON_LICENSE.md, MIT-LICENSE.txt
_SUFFIXED_NAME = re.compile(rf"(?i)^{_STEM}(?:[-_.][\w.+-]{{1,24}}?)?{_TEXT_SUFFIX}$")  # LICENSE-APACHE, COPYING.LESSER
_NOT_TEXT = re.compile(r"(?i)\.(pyc?|js|ts|c|h|cc|cpp|go|rs|java|rb|php|cs|css|json|ya?ml|toml|xml|sh|about|spdx)$")

_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+()\- \t]+)")
_JSDOC = re.compile(r"(?i)@licen[cs]e:?[ \t]+(\(?[a-z0-9.+-]+(?:[ \t]+(?:OR|AND|WITH)[ \t]+[a-z0-9.+-]+)*\)?)")
# Without one of these there is nothing to recognise. Substring searches: a pattern without case took 50 us a file.
_CUES = ("license", "licence", "redistribut", "permission", "proprietary and confidential")
_FIRST_WORDS = ("licen", "distribut", "permission", "confidential", "warrant")  # of which a notice has one early
_LAST_WORDS = ("licen", "warrant", "damage", "liab", "notice", "permission")  # and one of these late
_MARK = re.compile(r"[ \t]*([^\w\s]{0,3})")
_LINE_MARKS = frozenset("#;%!-*")  # of which a mark consists that each line of a comment has; // too
_LETTER = re.compile(r"[a-z]")
_OPENERS = frozenset(("/*", "/**", "/*!", '"""', "'''", "<!-"))
_BLOCK_END = re.compile(r"\*/|-->|\"\"\"|'''")
_RESTRICTING = ("commons clause", "confidential", "unauthori", "public license")  # wherever they stand
MOST_COMMENTS = 3  # of a head that are looked at for a notice
LINES_AROUND = 4  # of a paragraph, before the first and after the last with such a word: `or any later version`


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
        names = recognise_file(text)
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
    if any(map(plain.__contains__, _CUES)) and (found := _own_license(head, plain)):
        return found
    folder = path
    while by_folder and folder != ".":
        folder = folder.rpartition("/")[0] or "."
        if found := by_folder.get(folder):
            return found
    return declared


def _own_license(head: str, plain: str) -> Finding | None:
    """What a file says of itself at its start; `plain` is the same in lower case."""
    start = plain[:TAG_HEAD]
    if "spdx-license-identifier:" in start and (tags := _tags(head[:TAG_HEAD])):
        return Finding(tags, "SPDX-License-Identifier in the file")
    if "@licen" in start and (tag := _JSDOC.search(head[:TAG_HEAD])) and is_known_expression(tag[1]):
        return Finding(tag[1], "@license in the file")
    names = _noticed(plain)
    return Finding(" AND ".join(names), "notice in the file") if names else None


def _noticed(plain: str) -> list[str]:
    """Licences in the first comments that speak of one, and what restricts them further below."""
    names: set[str] = set()
    at = 0
    for _ in range(MOST_COMMENTS):
        if names or (at and not any(plain.find(cue, at) >= 0 for cue in _CUES)):
            break
        start, at = _notice(plain, at)
        names.update(recognise(plain[start:at]))
    if names and any(plain.find(cue, at) >= 0 for cue in _RESTRICTING):
        names.update(recognise(plain[at:]))
    return sorted(names)


def _tags(head: str) -> str:
    """The SPDX expressions in the tags of a file; several hold side by side (AND), as of parts with other origins."""
    # An HTML comment ends in -->
    found = dict.fromkeys(" ".join(tag.split()).rstrip("-").strip() for tag in _TAG.findall(head))
    expressions = [expression for expression in found if expression]
    if len(expressions) > 1:
        expressions = [f"({one})" if " OR " in one.upper() else one for one in expressions]
    return " AND ".join(expressions)


@cache
def _known_canonical_ids() -> frozenset[str]:
    return frozenset(map(canonical_id, known_ids()))


def _notice(plain: str, at: int) -> tuple[int, int]:
    """Start and end of the first lines after `at` that may be a licence's notice, and as few others as can be.

    So that the thousand files with one notice, each with its own copyright line above, code and comments below, give
    one string, which is recognised once.
    """
    first = len(plain)
    for cue in _FIRST_WORDS:
        found = plain.find(cue, at, first + len(cue))
        first = found if 0 <= found < first else first
    line = plain.rfind("\n", 0, first) + 1
    mark = _mark(plain, line)
    start = line
    for _ in range(LINES_AROUND):
        above = plain.rfind("\n", at, max(start - 1, at)) + 1
        if start == 0 or above < at or not _continues(plain, above, mark):
            start = above if at <= above < start and _mark(plain, above) in _OPENERS else start
            break
        start = above
    block = max(_comment_end(plain, line, first, mark), first + 1)
    last = first
    for cue in _LAST_WORDS:
        last = max(last, plain.rfind(cue, last, block))
    end = plain.find("\n", last, block)
    for _ in range(LINES_AROUND):
        if end < 0 or not _continues(plain, end + 1, mark):
            break
        end = plain.find("\n", end + 1, block)
    return start, end if end >= 0 else block


def _continues(plain: str, at: int, mark: str) -> bool:
    """Whether the line at `at` belongs to a paragraph of a comment with this mark, and names no holder."""
    end = plain.find("\n", at)
    line = plain[at : end if end >= 0 else len(plain)]
    return _mark(line, 0) == mark and _LETTER.search(line) is not None and "copyright" not in line and "(c)" not in line


def _mark(plain: str, at: int) -> str:
    found = _MARK.match(plain, at)
    return found[1] if found else ""


def _comment_end(plain: str, line: int, first: int, mark: str) -> int:
    """Where the comment ends with a cue at `first`, in the line that starts at `line` and begins with `mark`."""
    if (mark[:2] == "//" or (mark and set(mark) <= _LINE_MARKS)) and (lines := _comment_lines(mark).match(plain, line)):
        return lines.end()
    ends = _BLOCK_END.search(plain, first)
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


def is_known_expression(expression: str) -> bool:
    """Whether every name in an SPDX expression is the id of a licence or an exception."""
    names = re.findall(r"[^\s()]+", expression)
    return bool(names) and all(
        name in ("OR", "AND", "WITH") or canonical_id(name) in _known_canonical_ids() for name in names
    )


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
    # By file, and the largest text of a file first: a licence before what it carries with it.
    names = dict.fromkeys(name for name, _ in sorted(pairs, key=itemgetter(1)))
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
    """The Blue Oak Council's permissive licences, and five of ours."""
    text = resources.files("starsmith.corpus").joinpath("data/permissive.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
