"""Requests for removal: files that are to be as though no source had ever had them, each request known by its id.

A file of requests is TOML ([[request]] tables), JSON lines, or a list as opt-outs have it. A request is

  who = "octocat"                an owner, owner/repo, owner/repo:path, URL or SWHID, as in an opt-out list
  repository = …, path = …       the same where a repository's name is no such word; without a path all of it
  copies_of = "file"             every file of which at least `threshold` (0.8) is copied from this one

with an `id`, which is all that is kept of it: in marks and in what a corpus remembers there are ids and no names.
Several tables may have one id. Without one it is a digest of the request: stable, but whoever suspects a name can make
it too.
"""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.core.records import swhid_of
from starsmith.corpus import optouts
from starsmith.corpus.copies import Copies, Original

COPIES = "copies_of"
THRESHOLD = 0.8
LARGEST_ORIGINAL_BYTES = 16 << 20
MOST_ORIGINALS = 100  # every file of every source is compared with each
HINT = "give an owner, owner/repo, owner/repo:path, a URL, swh:1:cnt:… or copies_of=FILE"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:#/-]{0,99}")
_KEYS = ("id", "who", "repository", "path", COPIES, "threshold", "since", "reason")


@dataclass(frozen=True)
class Request:
    """One wish: a name, a path under a name, a content, or the copies of a file."""

    id: str
    repository: str = ""  # in the form that `optouts.names_of` gives
    path: str = ""
    swhid: str = ""
    original: Original | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Removals:
    """All requests, found by what they name."""

    requests: tuple[Request, ...] = ()
    # Ids of requests that were fulfilled before: what they hold for is no part of the sources any more.
    earlier: frozenset[str] = frozenset()

    @property
    def ids(self) -> list[str]:
        """Of every request, each once, in their order."""
        return list(dict.fromkeys(request.id for request in self.requests))

    @property
    def digest(self) -> str:
        """Hex sha256 that changes with what they hold for."""
        wishes = [
            (
                one.id,
                one.repository,
                one.path,
                one.swhid,
                one.original and (one.original.content, one.original.threshold),
            )
            for one in self.requests
        ]
        return hashlib.sha256(repr((wishes, sorted(self.earlier))).encode()).hexdigest()

    def __reduce__(self) -> tuple[type["Removals"], tuple[Any, ...]]:
        # Tasks carry what is asked, and not the tables that are made of it.
        return Removals, (self.requests, self.earlier)

    def holding(self, repository: str, path: str, swhid: str = "", content: bytes | None = None) -> tuple[str, ...]:
        """Ids of the requests that hold for a file; without its content, those by name and SWHID."""
        found = list(self._contents.get(swhid, ()))
        for name in optouts.names_of(repository) if self._names else ():
            if places := self._names.get(name):
                for place in ("", *optouts.places_of(path)):
                    found += places.get(place, ())
        if content is not None and self._copies is not None:
            found += self._copies.of(content)
        return tuple(dict.fromkeys(found))

    def is_earlier(self, ids: Sequence[str]) -> bool:
        """True when one of the requests was fulfilled before."""
        return not self.earlier.isdisjoint(ids)

    @cached_property
    def has_copies(self) -> bool:
        """True when contents must be looked at."""
        return any(request.original is not None for request in self.requests)

    @cached_property
    def _contents(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for request in self.requests:
            if request.swhid:
                found.setdefault(request.swhid, []).append(request.id)
        return found

    @cached_property
    def _names(self) -> dict[str, dict[str, list[str]]]:
        """Repository -> path, "" for all of it -> ids."""
        found: dict[str, dict[str, list[str]]] = {}
        for request in self.requests:
            if request.repository:
                found.setdefault(request.repository, {}).setdefault(request.path, []).append(request.id)
        return found

    @cached_property
    def _copies(self) -> Copies | None:
        pairs = [(request.id, request.original) for request in self.requests if request.original is not None]
        return Copies(pairs) if pairs else None


def read_requests(what: str, *, name: str | None = None) -> tuple[Request, ...]:
    """The requests of a file, or the one that `what` is: a name as in a list, or `copies_of=FILE`.

    name  the id of the one request
    """
    key, mark, value = what.partition("=")
    if mark and key.strip() == COPIES:
        return (_request({"id": name, COPIES: value.strip()}, "the request", Path()),)
    path = Path(what)
    if os.path.isfile(what):  # noqa: PTH113 Path.is_file raises for a name that is too long
        if name is not None:
            raise InputError(f"{what} is a file of requests, which have ids of their own", hint="leave out --id")
        return _read_file(path)
    if re.match(r"\.{0,2}/|~", what) or path.suffix in (".toml", ".jsonl", ".csv", ".txt"):
        raise InputError(
            f"{what} is no file", hint="give a file of requests, or a name: owner, owner/repo, swh:1:cnt:…"
        )
    return (_request({"id": name, "who": what}, "the request", Path()),)


def _read_file(path: Path) -> tuple[Request, ...]:
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"{path} has no request", hint=HINT)
    found = tuple(_request(row, place, path.parent) for place, row in rows)
    if (number := sum(request.original is not None for request in found)) > MOST_ORIGINALS:
        raise InputError(f"{path} has {number:,} requests by {COPIES}, at most {MOST_ORIGINALS}", hint="split the file")
    return found


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() == ".jsonl":
        yield from _json_rows(path)
        return
    if path.suffix.lower() == ".toml":
        try:
            document = tomllib.loads(optouts.load(path))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InputError(f"{path}: {error}", hint=HINT) from None
        if (tables := document.pop("request", None)) is not None:
            if not isinstance(tables, list):
                raise InputError(f"{path}: request is no list of tables", hint=HINT)
            if document:  # a request under another name would be passed over, and nobody told
                raise InputError(f"{path}: only [[request]] tables are wanted, not {next(iter(document))!r}", hint=HINT)
            yield from ((f"{path} request {number}", table) for number, table in enumerate(tables, 1))
            return
    for entry in optouts.read_entries(path):
        yield f"{path.parent / entry.place}", {"who": entry.who}


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(optouts.load(path).splitlines(), 1):
        if line.strip():
            try:
                yield f"{path} line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path} line {number} is no JSON: {error}", hint=HINT) from None


def _request(row: Mapping[str, Any], place: str, folder: Path) -> Request:
    if not isinstance(row, dict):
        raise InputError(f"{place} is no table", hint=HINT)
    row = {key: value for key, value in row.items() if value is not None}
    if unknown := sorted(set(row) - set(_KEYS)):
        raise InputError(f"{place} has an unknown key {unknown[0]!r}", hint=f"known: {', '.join(_KEYS)}")
    if wrong := [key for key in row if key not in ("threshold", "since") and not isinstance(row[key], str)]:
        raise InputError(f"{place}: {wrong[0]} = {row[wrong[0]]!r} is no text", hint=HINT)
    kinds = [key for key in ("who", "repository", COPIES) if row.get(key)]
    if len(kinds) != 1 or ("path" in row and kinds != ["repository"]) or ("threshold" in row and kinds != [COPIES]):
        raise InputError(
            f"{place} has {', '.join(row) or 'nothing'}, wanted is one of who, repository, {COPIES}", hint=HINT
        )
    if (name := row.get("id")) is not None and not _ID.fullmatch(name):
        raise InputError(
            f"{place}: id {name!r} is none", hint="up to 100 of A-Z a-z 0-9 _ . : # / -, a letter or digit first"
        )
    if kinds == [COPIES]:
        return _copies_request(row, place, folder)
    if kinds == ["who"]:
        try:
            target = optouts.parse_who(optouts.Entry(row["who"].strip(), "", "", place))
        except InputError as error:
            raise InputError(error.message.removeprefix("opt-out list "), hint=HINT) from None
    else:
        target = optouts.Target(optouts.plain_name(row["repository"]), row.get("path", "").removeprefix("/"))
    if not (target.repository or target.swhid):
        raise InputError(f"{place}: {row[kinds[0]]!r} names nothing", hint=HINT)
    return Request(name or _digest(*vars(target).values()), target.repository, target.path, target.swhid)


def _copies_request(row: Mapping[str, Any], place: str, folder: Path) -> Request:
    threshold = row.get("threshold", THRESHOLD)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise InputError(
            f"{place}: threshold = {threshold!r}, wanted is above 0 and at most 1", hint="the default is 0.8"
        )
    path = folder / Path(row[COPIES]).expanduser()
    try:
        if not path.is_file():
            raise InputError(f"{place}: {path} is no file", hint="give a file of which the copies are to go")
        if path.stat().st_size > LARGEST_ORIGINAL_BYTES:
            raise InputError(
                f"{place}: {path} has more than {LARGEST_ORIGINAL_BYTES:,} bytes", hint="give a part of it"
            )
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: {row[COPIES]!r} cannot be read: {error}", hint="check the path") from None
    original = Original(content, float(threshold))
    if not original.tokens:
        raise InputError(f"{place}: {path} has no code", hint="give a file of which the copies are to go")
    return Request(row.get("id") or _digest(COPIES, swhid_of(content), str(float(threshold))), original=original)


def _digest(*values: str) -> str:
    return "r-" + hashlib.sha256("\0".join(values).encode()).hexdigest()[:12]
