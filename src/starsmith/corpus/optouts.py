"""Opt-outs: whoever asked to be left out is, in this corpus and, with the same list, in any made before.

A list is text, CSV or TOML. Each entry names an owner (`octocat`), a repository (`octocat/hello`, or its URL), a path
in one (`octocat/hello:src/secret.py`, a folder when it ends in `/`), or a content by its SWHID, and may say since when
and why. Names are compared without case, and `owner` and `owner/repo` hold on every host; a URL holds on its own.
An entry counts from its date on by the day that the caller gives, so that a list can be filed ahead; without a day
every entry counts, because to leave out too early harms nobody.
"""

import csv
import io
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from starsmith.core.errors import InputError
from starsmith.corpus.files import Drop

LARGEST_LIST_BYTES = 256 << 20
HINT = "write WHO, SINCE, REASON: octocat, owner/repo, owner/repo:path, a URL or swh:1:cnt:…; then 2026-01-31"

T = TypeVar("T")

_SWHID = re.compile(r"swh:1:(?:cnt|dir|rev|rel|snp):[0-9a-f]{40}")
_CONTENT = "swh:1:cnt:"
_NAME = r"[A-Za-z0-9_.~][A-Za-z0-9_.~-]*"
_PLAIN = re.compile(rf"(?P<repository>{_NAME}(?:/{_NAME})*)(?::(?P<path>.+))?")
_URL = re.compile(
    r"(?:(?:git\+)?(?:https?|ssh|git)://)(?:[^@/\s]*@)?(?P<host>[\w.-]+)(?::\d+)?/(?P<repository>[^:?#\s]+)(?::(?P<path>.+))?"
)
_SCP = re.compile(r"[\w.-]+@(?P<host>[\w.-]+):(?P<repository>[^:?#\s]+)(?::(?P<path>.+))?")  # git@host:owner/repo.git
_FIELDS = ("who", "since", "reason")


@dataclass(frozen=True)
class Entry:
    """One wish, and where it is written."""

    who: str  # as written
    since: str  # ISO date, "" when none was given
    reason: str
    place: str  # "optouts.csv line 7"

    def drop(self) -> Drop:
        """Why a file that this holds for goes."""
        since = f" since {self.since}" if self.since else ""
        reason = f" ({self.reason})" if self.reason else ""
        return Drop("opted_out", f"{self.who}{since}, list {self.place}{reason}")


@dataclass
class OptOuts:
    """Entries by what they name: a look-up costs a few dictionary accesses, however long the lists are."""

    repositories: dict[str, Entry] = field(default_factory=dict)  # owner, owner/repo, host/owner, host/owner/repo
    paths: dict[str, dict[str, Entry]] = field(default_factory=dict)  # repository -> path, folders with a / at the end
    contents: dict[str, Entry] = field(default_factory=dict)  # SWHID

    def __len__(self) -> int:
        return len(self.repositories) + len(self.contents) + sum(map(len, self.paths.values()))

    @classmethod
    def load(cls, paths: Sequence[Path], *, today: date | None = None) -> "OptOuts":
        """Read lists; of several entries for one thing the first counts. Entries dated after `today` do not."""
        lists = cls()
        for path in paths:
            for entry in read_entries(path):
                target = parse_who(entry)
                if today is None or entry.since <= today.isoformat():
                    lists._add(target, entry)
        return lists

    def match(self, repository: str, path: str, swhid: str) -> Drop | None:
        """Why this file must go, None when nobody asked; `repository` is a URL or a name, in any usual form."""
        if self.contents and (entry := self.contents.get(swhid)):
            return entry.drop()
        for name in names_of(repository) if self.repositories or self.paths else ():
            if entry := self.repositories.get(name):
                return entry.drop()
            if (listed := self.paths.get(name)) and (entry := _of_path(listed, path)):
                return entry.drop()
        return None

    def _add(self, target: "Target", entry: Entry) -> None:
        if target.swhid:
            self.contents.setdefault(target.swhid, entry)
        elif target.path:
            self.paths.setdefault(target.repository, {}).setdefault(target.path, entry)
        else:
            self.repositories.setdefault(target.repository, entry)


@dataclass(frozen=True)
class Target:
    """What an entry names: a repository (or an owner), a path in one, or a content."""

    repository: str = ""
    path: str = ""
    swhid: str = ""


def remove(
    rows: Iterable[T],
    optouts: OptOuts,
    *,
    key: Callable[[T], tuple[str, str, str]],
    removed: Callable[[T, Drop], None],
) -> Iterator[T]:
    """The rows that stay. `key` gives repository, path and SWHID of a row; `removed` is told of each that goes.

    Applying a list twice changes nothing more, so a corpus can be taken through every later list.
    """
    for row in rows:
        if (drop := optouts.match(*key(row))) is None:
            yield row
        else:
            removed(row, drop)


def _of_path(listed: dict[str, Entry], path: str) -> Entry | None:
    """The entry for this file, or for a folder above it."""
    return next((listed[place] for place in places_of(path) if place in listed), None)


def places_of(path: str) -> Iterator[str]:
    """The names under which a path may be listed: its own, and each folder above it, with a / at the end."""
    yield path
    cut = path.rfind("/")
    while cut > 0:
        yield path[: cut + 1]
        cut = path.rfind("/", 0, cut)


@lru_cache(maxsize=65536)
def names_of(repository: str) -> tuple[str, ...]:
    """Every name under which a repository may be listed: each prefix of its path, with its host and without.

    https://gitlab.com/group/sub/repo -> group, group/sub, group/sub/repo, and the three after gitlab.com/.
    """
    host, plain = _host_and_path(repository)
    parts = plain.split("/")
    prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts)) if parts[count]]
    return (*prefixes, *(f"{host}/{prefix}" for prefix in prefixes if host))


def _host_and_path(text: str) -> tuple[str, str]:
    for form in (_URL, _SCP):
        if found := form.fullmatch(text.strip()):
            return found["host"].casefold(), plain_name(found["repository"])
    return "", plain_name(text)


def plain_name(text: str) -> str:
    """A repository's name as names are compared."""
    return text.strip().strip("/").casefold().removesuffix(".git")


def parse_who(entry: Entry) -> Target:
    """What an entry names: an owner, a repository, a file in one, or a content."""
    text = entry.who
    if text.casefold().startswith("swh:"):
        swhid = text.casefold().partition(";")[0]  # qualifiers say where it was seen, not what it is
        if not _SWHID.fullmatch(swhid):
            raise _bad(entry.place, f"{text!r} is no SWHID")
        if not swhid.startswith(_CONTENT):
            raise _bad(entry.place, f"{text!r} names no content (swh:1:cnt:…)")
        return Target(swhid=swhid)
    found = _URL.fullmatch(text) or _SCP.fullmatch(text) or _PLAIN.fullmatch(text)
    if found is None:
        raise _bad(entry.place, f"{text!r} names no owner, repository, path or content")
    parts = found.groupdict()
    host = f"{parts['host'].casefold()}/" if parts.get("host") else ""
    return Target(host + plain_name(found["repository"]), (found["path"] or "").removeprefix("/"))


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of a list, in its order."""
    text = load(path)
    rows = _toml_rows(path, text) if path.suffix.lower() == ".toml" else _line_rows(path, text)
    for place, row in rows:
        who, since, reason = (str(row.get(name) or "").strip() for name in _FIELDS)
        if not who:
            raise _bad(place, "no name in it")
        if since and not is_date(since):
            raise _bad(place, f"{since!r} is no date like 2026-01-31")
        yield Entry(who, since, reason, place)


def load(path: Path) -> str:
    """The text of a list; InputError for one that cannot be read."""
    try:
        if path.stat().st_size > LARGEST_LIST_BYTES:
            raise InputError(f"opt-out list {path} is larger than {LARGEST_LIST_BYTES:,} bytes", hint="split it")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"opt-out list {path} cannot be read: {error.strerror}", hint="mend corpus.optouts") from None
    except UnicodeDecodeError as error:
        raise InputError(f"opt-out list {path} is not UTF-8: byte {error.start}", hint="save it as UTF-8") from None


def _line_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row a line, as CSV; a line that begins with # and an empty one say nothing; a header may name the columns."""
    columns: Sequence[str] = _FIELDS
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        for cells in reader:
            place = f"{path.name} line {reader.line_num}"
            if not cells or not any(map(str.strip, cells)) or cells[0].lstrip().startswith("#"):
                continue
            if len(cells) > 1 and cells[0].strip().casefold() == "who" and columns is _FIELDS:
                columns = [cell.strip().casefold() for cell in cells]
                if unknown := sorted(set(columns) - set(_FIELDS)):
                    raise _bad(place, f"unknown column {unknown[0]!r}")
                continue
            if len(cells) > len(columns) and columns[-1] == "reason":  # a comma in the reason
                cells = [*cells[: len(columns) - 1], ", ".join(cells[len(columns) - 1 :])]
            if len(cells) > len(columns):
                raise _bad(place, f"{len(cells)} fields, at most {len(columns)} are wanted")
            yield place, dict(zip(columns, cells, strict=False))
    except csv.Error as error:
        raise _bad(f"{path.name} line {reader.line_num}", str(error)) from None


def _toml_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """[[optout]] tables of who, since and reason; their places are the numbers of the tables' lines."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _bad(path.name, str(error)) from None
    tables = document.pop("optout", [])
    if document or not isinstance(tables, list):
        raise _bad(path.name, f"only [[optout]] tables are wanted, not {next(iter(document), 'optout')!r}")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*optout\s*\]\]", line)]
    for number, table in enumerate(tables):
        place = f"{path.name} line {lines[number]}" if len(lines) == len(tables) else f"{path.name} table {number + 1}"
        if not isinstance(table, dict) or (unknown := sorted(set(table) - set(_FIELDS))):
            raise _bad(place, f"unknown key {unknown[0]!r}" if isinstance(table, dict) else "no table")
        yield place, table


def is_date(text: str) -> bool:
    """True for an ISO date as 2026-01-31."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _bad(place: str, problem: str) -> InputError:
    return InputError(f"opt-out list {place}: {problem}", hint=HINT)
