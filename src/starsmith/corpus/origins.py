"""Where a corpus came from, so that it can be made again without some of it: `run/sources.json`.

Each source is remembered by its place, repository and commit, and by a digest over its files that does not depend on
their order: made again from anything else, a corpus would be another one. What requests for removal hold for is no
part of a source, so a corpus that was made without a file is like one whose sources never had it.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.statement import parse_json, read_bytes
from starsmith.corpus import git
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.files import RawFile, Unreadable
from starsmith.corpus.removal_requests import Removals
from starsmith.corpus.sources import Source, open_source, open_sources, standard_library
from starsmith.corpus.tables import is_table

FILE, REMOVALS = "sources.json", "removals.json"  # in run/
_MODULUS = 2**256


@dataclass
class Listing:
    """How many files there are, and the sum of their digests: equal for equal files in whatever order."""

    files: int = 0
    digest: int = 0

    def add(self, *values: str) -> None:
        """Take a file in."""
        self.files += 1
        self.digest = (self.digest + int.from_bytes(hashlib.sha256(repr(values).encode()).digest(), "big")) % _MODULUS

    def update(self, other: "Listing") -> None:
        """Take the files of another listing in."""
        self.files += other.files
        self.digest = (self.digest + other.digest) % _MODULUS

    def to_json(self) -> list[Any]:
        """As plain JSON values."""
        return [self.files, f"{self.digest:064x}"]

    @classmethod
    def from_json(cls, value: Any) -> "Listing":
        """From what `to_json` gave."""
        files, digest = value
        return cls(int(files), int(digest, 16))


@dataclass(frozen=True)
class Removed:
    """A file of a source that a request holds for."""

    repository: str
    path: str
    swhid: str  # "" of one that could not be read
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """A source as it was read."""

    repository: str
    commit: str
    place: str  # relative to the corpus; "" for the standard library
    listing: Listing
    folder: str = ""  # of a git repository, as `found` and `since`
    since: str = ""
    found: bool = False

    @property
    def name(self) -> str:
        """For an error."""
        return f"{self.repository} at {self.commit[:12]}" if self.commit else self.repository


@dataclass(frozen=True)
class Origins:
    """What `run/` remembers of a build."""

    corpus: Path
    sources: tuple[Origin, ...]
    lists: dict[str, str]  # opt-out lists and rules, sha256
    past: "Past"


@dataclass(frozen=True)
class Past:
    """The removals that a corpus went through."""

    fulfilled: tuple[str, ...] = ()  # ids of their requests
    corpora: tuple[str, ...] = ()  # ids of the corpora before it, which have what was removed, and most of what it has

    def write(self, run: Path) -> None:
        """Write it to `run/`; nothing where there is none."""
        (run / REMOVALS).unlink(missing_ok=True)
        if self.fulfilled:
            table = {"requests": [{"id": one} for one in self.fulfilled], "corpora": list(self.corpora)}
            (run / REMOVALS).write_text(json.dumps(table) + "\n")

    def and_then(self, corpus: Path, ids: Sequence[str]) -> "Past":
        """What is the past of a corpus that is made from `corpus` by a removal."""
        known = dict.fromkeys((*self.corpora, artifact.read(corpus).id))
        return Past(tuple(sorted({*self.fulfilled, *ids})), tuple(known))


@dataclass(frozen=True)
class Removal:
    """What a build leaves out, and what its sources are held against."""

    removals: Removals
    made_from: Origins | None = None

    @property
    def past(self) -> Past:
        """Of the corpus that is made."""
        if self.made_from is None:
            return Past(tuple(sorted(self.removals.ids)))
        return self.made_from.past.and_then(self.made_from.corpus, self.removals.ids)


@dataclass
class Ledger:
    """What is read of each source while a corpus is made."""

    sources: Sequence[Source]
    read: list[Listing] = field(default_factory=list)  # all but what earlier requests hold for
    left: list[Listing] = field(default_factory=list)  # what no request holds for
    removed: list[Removed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.read = [Listing() for _ in self.sources]
        self.left = [Listing() for _ in self.sources]

    def add(self, source: int, read: Listing, left: Listing, removed: Sequence[Removed]) -> None:
        """Take in what one unit of a source gave."""
        self.read[source].update(read)
        self.left[source].update(left)
        self.removed += removed

    def check(self, made_from: Origins) -> None:
        """Raises when the sources are not those that the corpus was made from."""
        wanted, seen = _by_name(made_from.sources), _by_name(map(self._origin, range(len(self.sources)), self.read))
        for (repository, commit), listing in wanted.items():
            found = seen.pop((repository, commit), None)
            if found == listing:
                continue
            name = f"{repository} at {commit[:12]}" if commit else repository
            if found is None:
                raise InputError(
                    f"{name} is not among the sources, and {made_from.corpus} was made from it",
                    hint="give all of its sources again: starsmith corpus remove REQUESTS SOURCE…",
                )
            raise InputError(
                f"{name} is not what {made_from.corpus} was made from: "
                f"{found.files:,} files were read, {listing.files:,} then, or their contents differ",
                hint=_changed_hint(made_from),
            )
        if extra := next(((name, found) for name, found in seen.items() if found.files), None):
            raise InputError(f"{extra[0][0]} is no source of {made_from.corpus}", hint=_changed_hint(made_from))

    def _origin(self, number: int, listing: Listing, out: Path = Path()) -> Origin:
        source = self.sources[number]
        if isinstance(source, git.GitSource):
            since = source.since.isoformat() if source.since else ""
            place = _relative(source.root, out)
            return Origin(source.repository, source.commit, place, listing, source.folder, since, source.found)
        place = "" if source == standard_library() else _relative(source.root, out)
        return Origin(source.repository, source.commit, place, listing)

    def write(self, run: Path, config: CorpusConfig, removal: Removal | None) -> None:
        """Write what a later removal needs; a source of which nothing is left is forgotten."""
        out = run.parent
        origins = [self._origin(number, listing, out) for number, listing in enumerate(self.left) if listing.files]
        table = [{**vars(origin), "listing": origin.listing.to_json()} for origin in origins]
        (run / FILE).write_text(json.dumps({"sources": table, "lists": digests_of_lists(config)}, indent=1) + "\n")
        removal.past.write(run) if removal else Past().write(run)


def read(corpus: Path) -> Origins:
    """What a corpus remembers of its sources."""
    run = corpus / artifact.RUN
    try:
        table = parse_json(read_bytes(run / FILE))
        rows = [{**row, "listing": Listing.from_json(row["listing"])} for row in table["sources"]]
        sources = tuple(Origin(**row) for row in rows)
        for one in sources:
            if any(type(value) is not str for value in (one.repository, one.commit, one.place, one.folder, one.since)):
                raise ValueError(f"{one} is no source")
            _day(one.since)
        return Origins(corpus, sources, dict(table["lists"]), read_past(corpus))
    except FileNotFoundError:
        raise ArtifactError(
            f"{corpus} does not remember its sources: it has no {artifact.RUN}/{FILE}",
            hint="build it again, which gives the same corpus; or see --without-sources",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{run / FILE} is damaged: {error!r}", hint="build the corpus again") from None


def read_past(corpus: Path) -> Past:
    """The removals that a corpus went through."""
    file = corpus / artifact.RUN / REMOVALS
    try:
        table = parse_json(read_bytes(file))
        ids = tuple(str(request["id"]) for request in table["requests"])
        return Past(ids, tuple(str(one) for one in table["corpora"]))
    except FileNotFoundError:
        return Past()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{file} is damaged: {error!r}", hint="restore it") from None


def reopen(origins: Origins, config: CorpusConfig, places: Sequence[Path | str]) -> list[Source]:
    """The sources that a corpus was made from, at the same commits: where they were, or at `places` if they moved."""
    check_lists(origins, config)
    if places:
        return [source for place in places for source in _opened(place, origins, config)]
    return [_reopened(origin, origins.corpus, config) for origin in origins.sources]


def digests_of_lists(config: CorpusConfig) -> dict[str, str]:
    """sha256 of every opt-out list and file of rules."""
    return {
        name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in (*config.opt_outs, *config.malware.yara)
    }


def check_lists(origins: Origins, config: CorpusConfig) -> None:
    """Raises when an opt-out list or a file of rules is not what the corpus was made with."""
    for name in (*config.opt_outs, *config.malware.yara):
        if not Path(name).is_file():
            raise InputError(f"{name}, a list that {origins.corpus} was made with, is not there", hint="put it back")
    for name, digest in digests_of_lists(config).items():
        if origins.lists.get(name) != digest:
            raise InputError(
                f"{name} has changed since {origins.corpus} was made with it",
                hint="restore it; or build anew with the new list: starsmith corpus build … --without REQUESTS",
            )


def listed_values(file: RawFile | Unreadable, swhid: str, *, of_tree: bool) -> tuple[str, ...]:
    """What makes a file of a source this one."""
    if isinstance(file, Unreadable):
        return (file.repository, file.path, "", file.drop.reason)
    # In a tree the licence comes from other files, which are listed themselves.
    license_ = "" if of_tree else f"{file.license.expression} {file.license.evidence}"
    own = (file.commit, file.date, file.kind, f"{file.stars}", file.language or "", license_)
    return (file.repository, file.path, swhid, *own)


def _opened(place: Path | str, origins: Origins, config: CorpusConfig) -> list[Source]:
    """What lies at a place that the user gives, at the commits that were recorded of it."""
    if git.is_url(str(place)) and not is_table(str(place)):
        name = git.without_credentials(str(place))
        known = [(one.commit, _day(one.since)) for one in origins.sources if one.repository == name]
        if known:
            return [open_source(place, revision=commit, since=since) for commit, since in dict.fromkeys(known)]
    return [_at_commit(source, origins) for source in open_sources([place], threads=config.threads)]


def _day(since: str) -> date | None:
    return date.fromisoformat(since) if since else None


def _at_commit(source: Source, origins: Origins) -> Source:
    """A git repository at the commit that was recorded of it, any other source as it is."""
    if not isinstance(source, git.GitSource):
        return source
    known = [one for one in origins.sources if (one.repository, one.folder) == (source.repository, source.folder)]
    known = [one for one in known if one.commit]
    wanted = next((one for one in known if one.commit == source.commit), next(iter(known), None))
    return _git_source(source.root, wanted) if wanted else source


def _git_source(root: Path, origin: Origin) -> Source:
    if not origin.commit:
        return git.found_repository(root)
    source = git.open_repository(root, revision=origin.commit, since=_day(origin.since))
    return replace(source, repository=origin.repository, folder=origin.folder, found=origin.found)


def _reopened(origin: Origin, corpus: Path, config: CorpusConfig) -> Source:
    if not origin.place:
        return standard_library()
    if "://" in origin.place:
        raise InputError(
            f"{corpus} was made from {origin.place}, and nothing is fetched that was not asked for",
            hint="give all of its sources again: starsmith corpus remove REQUESTS SOURCE…",
        )
    place = Path(os.path.normpath(corpus.resolve() / origin.place))
    if not (place.exists() or "*" in place.name):
        raise InputError(
            f"{origin.name}, which {corpus} was made from, is not at {place} any more",
            hint="give all of its sources where they are now: starsmith corpus remove REQUESTS SOURCE…",
        )
    if origin.commit or origin.found:
        return _git_source(place, origin)
    return open_source(place, threads=config.threads)


def _relative(root: Path | str, out: Path) -> str:
    return str(root) if "://" in str(root) else os.path.relpath(Path(root).resolve(), out.resolve())


def _by_name(origins: Iterator[Origin] | Sequence[Origin]) -> dict[tuple[str, str], Listing]:
    """(Repository, commit) -> all of its files; two folders may have one name."""
    found: dict[tuple[str, str], Listing] = defaultdict(Listing)
    for origin in origins:
        found[origin.repository, origin.commit].update(origin.listing)
    return dict(found)


def _changed_hint(made_from: Origins) -> str:
    if made_from.past.fulfilled:
        ids = ", ".join(made_from.past.fulfilled[:5])
        return f"give the requests that it was made without too ({ids}), as they were; or restore the sources"
    return "restore the sources as they were; or build anew: starsmith corpus build … --without REQUESTS"
