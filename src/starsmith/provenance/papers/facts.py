"""What manifests and rows say, read once for every paper.

An artefact is opened only if its own digests hold and it is the one that its child was made from, so that no paper
repeats what somebody changed. Nothing here depends on the clock or on the place of a directory.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from starsmith.core import ancestry, artifact, merkle
from starsmith.core.console import progress
from starsmith.core.errors import ArtifactError
from starsmith.core.records import HELD_OUT, TRAIN
from starsmith.core.statement import parse_json, read_bytes
from starsmith.provenance.policy import Demands

BENCHMARK_TEXTS = "texts.parquet"
FINISHED = "finished"  # in run/times.json: when the work ended, ISO 8601 in UTC
NO_LICENSE = "none found"
FOLDERS = "folders and archives"

_GROUPS = ("license", "language", "split", "kind", "repository", "commit")
_SETTINGS = ("licenses", "malware", "opt_outs", "opt_outs_as_of", "redaction")  # of a corpus, that papers repeat
_COLUMNS = (*_GROUPS, "size_bytes", "redactions", "date")
_ROWS = 16_384
_PLACE = re.compile(r"(?:[a-z+]+://(?:[^/@]*@)?([^/:]+)(?::\d+)?/|[^/@:]+@([^/:]+):)?([^/:]+)/[^/]")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class Opened:
    """An artefact whose digests hold."""

    directory: Path
    manifest: artifact.Manifest
    taints: tuple[str, ...]  # marks that say that a source of it was withdrawn
    built: str  # when it was made, by its run record; "" when that does not say

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.directory.resolve().name

    @property
    def files(self) -> list[tuple[str, str, int]]:
        """(name, hex sha256, bytes) of every file."""
        return [
            (name, digest, (self.directory / name).stat().st_size)
            for name, digest in sorted(self.manifest.files.items())
        ]


@dataclass
class Amount:
    """Files and bytes of one kind."""

    files: int = 0
    size_bytes: int = 0

    def add(self, files: int, size_bytes: int) -> None:
        """Take more in."""
        self.files, self.size_bytes = self.files + files, self.size_bytes + size_bytes


Amounts = dict[str, Amount]


@dataclass
class Rows:
    """Sums over rows of a corpus."""

    by: dict[str, Amounts] = field(default_factory=lambda: {name: defaultdict(Amount) for name in _GROUPS[:4]})
    sources: dict[tuple[str, str], Amount] = field(default_factory=lambda: defaultdict(Amount))

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a group of rows in, with its values and its size."""
        for name, amounts in self.by.items():
            amounts[row[name]].add(row["size_count"], row["size_sum"])
        self.sources[row["repository"], row["commit"]].add(row["size_count"], row["size_sum"])

    @property
    def total(self) -> Amount:
        """All of them."""
        return sum_of(self.by["split"].values())

    @property
    def licenses(self) -> Amounts:
        """Files by SPDX expression."""
        return {name or NO_LICENSE: amount for name, amount in self.by["license"].items()}

    @property
    def unlicensed(self) -> int:
        """Files for which no licence was found."""
        return self.by["license"][""].files if "" in self.by["license"] else 0

    @property
    def languages(self) -> Amounts:
        """Files by programming language."""
        return {name or "unknown": amount for name, amount in self.by["language"].items()}

    @property
    def owners(self) -> Amounts:
        """Files by the owner of their repository, with its host."""
        return self._by_place(lambda host, owner: "/".join(filter(None, (host, owner))))

    @property
    def hosts(self) -> Amounts:
        """Files by the domain of their repository."""
        return self._by_place(lambda host, _: host)

    @property
    def repositories(self) -> Amounts:
        """Files by repository, whatever the commit."""
        return merged((repository, amount) for (repository, _), amount in self.sources.items())

    def _by_place(self, name_of: Callable[[str, str], str]) -> Amounts:
        return merged(
            (name_of(*place_of(repository)) or FOLDERS, amount) for (repository, _), amount in self.sources.items()
        )


@dataclass
class CorpusFacts:
    """A corpus by its manifest and its rows, whose texts are not read."""

    artefact: Opened
    rows: Rows = field(default_factory=Rows)
    training: Rows = field(default_factory=Rows)  # those that are not held out
    redacted_files: int = 0
    first_day: str = ""  # of the revisions in it
    last_day: str = ""
    schema: pa.Schema | None = None
    root: str = ""  # of its Merkle tree
    benchmarks: tuple[str, ...] = ()  # whose texts no file may contain

    @property
    def counts(self) -> Mapping[str, int]:
        """The manifest's account."""
        return self.artefact.manifest.counts

    @property
    def splits(self) -> Amounts:
        """Training and held-out files."""
        return {name: self.rows.by["split"][name] for name in (TRAIN, HELD_OUT) if name in self.rows.by["split"]}

    @property
    def places(self) -> str:
        """The number of sources in words."""
        number = len(self.rows.repositories)
        return f"{number:,} {'repository or other source' if number == 1 else 'repositories and other sources'}"

    @property
    def steps(self) -> list[str]:
        """The steps that had something to do, in order."""
        config = self.artefact.manifest.config
        idle = {"opt_out": not config["opt_outs"], "decontamination": not self.benchmarks, "malware": not self.scanners}
        return [name.replace("_", " ") for name in self.artefact.manifest.filters if not idle.get(name)]

    @property
    def scanners(self) -> list[str]:
        """What looked for malware."""
        config = self.artefact.manifest.config["malware"]
        return [name for name, key in (("ClamAV", "clamd"), ("YARA rules", "yara")) if config.get(key)]

    @property
    def sought(self) -> list[str]:
        """Kinds of secrets and personal data that were looked for."""
        config = self.artefact.manifest.config["redaction"]
        found = [name.replace("_", " ") for name in ("emails", "ip_addresses", "keys", "passwords") if config.get(name)]
        return [*found, "names"] if "redacted_name" in self.counts else found  # names need a model that finds them

    def counted(self, prefix: str) -> dict[str, int]:
        """Counts under names with this prefix, the largest first."""
        found = {name.removeprefix(prefix): count for name, count in self.counts.items() if name.startswith(prefix)}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def open_artifact(directory: Path, *, made_into: artifact.Parent | None = None) -> Opened:
    """Check the artefact's own digests, and that it is the parent that a child names."""
    manifest = artifact.read(directory)
    with progress(f"export: checking {directory.name}") as advance:
        problems = artifact.verify(directory)
        advance()
    if made_into is not None and (manifest.id, manifest.seal) != (made_into.id, made_into.seal):
        problems = [f"{directory / artifact.MANIFEST} is not the one that its child was made from"]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(f"{problems[0]}{more}: no paper is written about it", hint=f"starsmith verify {directory}")
    prefix = f"{directory} is tainted: "
    taints = tuple(message.removeprefix(prefix) for message in Demands().check(directory, manifest))
    return Opened(directory, manifest, taints, _finished(directory))


def open_parent(child: Opened, parent: artifact.Parent) -> Opened:
    """The artefact that `child` was made from."""
    return open_artifact(ancestry.parent_directory(child.directory, parent.role), made_into=parent)


def read_corpus(opened: Opened) -> CorpusFacts:
    """Add up the rows of a corpus."""
    facts = CorpusFacts(opened)
    if missing := [name for name in _SETTINGS if name not in opened.manifest.config]:
        raise ArtifactError(
            f"{opened.directory} has no setting {', '.join(missing)}", hint="rebuild it: starsmith corpus build"
        )
    shards = sorted((opened.directory / "shards").glob("*.parquet"))
    if not shards:
        raise ArtifactError(f"{opened.directory} has no Parquet shards", hint="rebuild it: starsmith corpus build")
    with progress("export: adding up", total=len(shards), unit="shards") as advance:
        for shard in shards:
            _add_shard(facts, shard)
            advance()
    if unknown := sorted(set(facts.rows.by["split"]) - {TRAIN, HELD_OUT}):
        raise ArtifactError(
            f"{opened.directory} has rows of the split {unknown[0]!r}, wanted: {TRAIN} or {HELD_OUT}", hint="rebuild it"
        )
    facts.root = merkle.read_tree(opened.directory).root.hex()
    facts.benchmarks = _benchmarks(opened)
    return facts


def place_of(repository: str) -> tuple[str, str]:
    """Host and owner of a repository's URL; "" for what a name or a folder does not tell."""
    match = _PLACE.match(repository)
    if match is None:
        return "", ""
    return (match.group(1) or match.group(2) or "").lower(), match.group(3)


def merged(items: Iterable[tuple[str, Amount]]) -> Amounts:
    """Amounts of equal names added."""
    found: Amounts = defaultdict(Amount)
    for name, amount in items:
        found[name].add(amount.files, amount.size_bytes)
    return dict(found)


def sum_of(amounts: Iterable[Amount]) -> Amount:
    """All of them as one."""
    total = Amount()
    for amount in amounts:
        total.add(amount.files, amount.size_bytes)
    return total


def largest(amounts: Amounts, top: int, *, by_files: bool = False) -> list[tuple[str, Amount]]:
    """The largest by bytes or files, equal ones by name; what is beyond `top` is one row."""
    order = sorted(amounts.items(), key=lambda item: (-(item[1].files if by_files else item[1].size_bytes), item[0]))
    if len(order) <= top + 1:
        return order
    return [*order[:top], (f"{len(order) - top:,} more", sum_of(amount for _, amount in order[top:]))]


def _add_shard(facts: CorpusFacts, shard: Path) -> None:
    try:
        with pq.ParquetFile(shard) as file:
            if missing := sorted(set(_COLUMNS) - set(file.schema_arrow.names)):
                raise ArtifactError(
                    f"{shard} has no column {', '.join(missing)}", hint="rebuild it: starsmith corpus build"
                )
            facts.schema = facts.schema or file.schema_arrow
            for batch in file.iter_batches(batch_size=_ROWS, columns=list(_COLUMNS)):
                _add_batch(facts, pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{shard} is not readable Parquet: {error}", hint="restore it, or rebuild") from None


def _add_batch(facts: CorpusFacts, table: pa.Table) -> None:
    groups = {name: pc.fill_null(table[name], "") for name in _GROUPS}
    sized = pa.table({**groups, "size": pc.fill_null(table["size_bytes"], 0)})
    sums = [("size", "count"), ("size", "sum")]
    for row in sized.group_by(list(_GROUPS), use_threads=False).aggregate(sums).to_pylist():
        facts.rows.add(row)
        if row["split"] == TRAIN:
            facts.training.add(row)
    facts.redacted_files += pc.sum(pc.greater(pc.fill_null(table["redactions"], 0), 0)).as_py() or 0
    days = [day[:10] for day in pc.unique(table["date"]).to_pylist() if day and _DAY.match(day)]
    if days:
        facts.first_day = min([*days, *filter(None, [facts.first_day])])
        facts.last_day = max([*days, facts.last_day])


def _benchmarks(corpus: Opened) -> tuple[str, ...]:
    """Names of the benchmarks that the corpus was cleaned of."""
    parent = next((parent for parent in corpus.manifest.parents if parent.role == "benchmarks"), None)
    if parent is None:
        return ()
    directory = open_parent(corpus, parent).directory
    try:
        return tuple(sorted(pc.unique(pq.read_table(directory / BENCHMARK_TEXTS)["benchmark"]).to_pylist()))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ArtifactError(f"{directory / BENCHMARK_TEXTS} cannot be read: {error}", hint="export it again") from None


def _finished(directory: Path) -> str:
    """When the work ended, by the run record; no digest covers it."""
    try:
        moment = parse_json(read_bytes(directory / artifact.RUN / artifact.TIMES))[FINISHED]
        finished = datetime.fromisoformat(moment)
        if finished.tzinfo is None:  # a place on the globe is not guessed
            return ""
        return finished.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OSError, ValueError, OverflowError, KeyError, TypeError, RecursionError):
        return ""


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file of an artefact."""
    try:
        found = json.loads(read_bytes(file))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}", hint="restore it") from None
    if not isinstance(found, dict):
        raise ArtifactError(f"{file} holds no JSON object", hint="restore it")
    return found
