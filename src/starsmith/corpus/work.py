"""The three tasks of a build: read a unit and judge its files, compare a group, finish a shard.

Each is a function from a picklable task to a small outcome; tables pass between them through storage (`shards.STAGED`),
never through the engine. A task that was done with the same fingerprint is not done again, which is how an
interrupted build goes on and how a lost worker costs only its own task.
"""

import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from starsmith.core.records import HELD_OUT, TRAIN, sha256_of, swhid_of
from starsmith.corpus import duplicates, shards, storage
from starsmith.corpus.duplicates import Member
from starsmith.corpus.files import CODE, Drop, RawFile, Unreadable
from starsmith.corpus.origins import Listing, Removed, listed_values
from starsmith.corpus.signals import signals
from starsmith.corpus.sketch import keys_of, shingle_set
from starsmith.corpus.stages import (
    LATE_STAGES,
    READ_STAGES,
    Examination,
    Rules,
    first_objection,
    rendered_forms,
)
from starsmith.corpus.trees import TreeUnit, Unit

Row = dict[str, Any]
_LEFT = [name for name in shards.STAGED.names if name not in ("identity", "license_rank", "keys")]  # once decided


@dataclass(frozen=True)
class Dropped:
    """A file that went, for the list of them."""

    repository: str
    path: str
    stage: str
    reason: str
    detail: str = ""
    swhid: str = ""  # of its content, where that was read


@dataclass
class Tally:
    """What became of the files of one task."""

    files: int = 0
    rows: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    read: Listing = field(default_factory=Listing)  # of the source: all but what earlier requests hold for
    left: Listing = field(default_factory=Listing)  # what no request for removal holds for
    removed: list[Removed] = field(default_factory=list)  # what one does; nowhere else is it counted or named


@dataclass(frozen=True)
class ReadTask:
    """Read one unit of a source."""

    unit: Unit
    rules: Rules
    place: str  # of the Parquet file that is written, and beside it of the outcome
    fingerprint: str


@dataclass(frozen=True)
class CollectTask:
    """Take the shingle sets of the files in groups out of one staged table."""

    staged: str
    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]  # group of each
    buckets: NDArray[np.int64]  # the task that compares the group
    place: str  # {bucket} stands for its number
    words: int


@dataclass(frozen=True)
class CompareTask:
    """Compare the members of the groups of one bucket."""

    places: tuple[str, ...]
    threshold: float


@dataclass(frozen=True)
class ShardTask:
    """Finish the files of one shard."""

    parts: tuple[tuple[str, NDArray[np.int64]], ...]  # staged table and the rows of it that are left
    clusters: pa.Table  # of those rows, in the same order: cluster, cluster_size
    rules: Rules
    held_out: float  # share of the files, by a hash of the content
    weights: dict[str, float]  # of languages
    place: str
    fingerprint: str


def read_unit(task: ReadTask) -> Tally:
    """Judge every file of a unit and stage those that pass all stages before duplicates."""
    return _once(task.place, task.fingerprint, lambda: _read_unit(task))


def finish_shard(task: ShardTask) -> Tally:
    """Take the files of a shard through the last stages and write it."""
    return _once(task.place, task.fingerprint, lambda: _finish_shard(task))


def collect_sets(task: CollectTask) -> list[tuple[int, str]]:
    """Write the shingle sets of one staged table, a file for each bucket; returns (bucket, place)."""
    order = np.argsort(task.rows)
    keys: list[pa.Array] = []
    sets: list[bytes] = []
    for _, group in storage.read_groups(task.staged, ["text", "keys"], task.rows[order]):
        keys += group["keys"].chunks
        sets += [shingle_set(memoryview(text.as_buffer()), task.words).tobytes() for text in group["text"]]
    table = pa.table(
        {
            "number": task.numbers[order],
            "label": task.labels[order],
            "keys": pa.chunked_array(keys),
            "elements": pa.array(sets, pa.large_binary()),
        }
    )
    written = []
    for bucket in np.unique(task.buckets).tolist():
        place = task.place.format(bucket=bucket)
        part = table.filter(pa.array(task.buckets[order] == bucket))
        storage.write_table(part, place, storage.STAGED)
        written.append((bucket, place))
    return written


def compare(task: CompareTask) -> list[duplicates.Duplicate]:
    """The files of one bucket that go for others."""
    table = pa.concat_tables([storage.read_table(place) for place in task.places])
    table = table.sort_by([("label", "ascending"), ("number", "ascending")])
    labels = table["label"].to_numpy()
    found: list[duplicates.Duplicate] = []
    for start, end in _runs(labels):
        found += duplicates.left_out(_members(table.slice(start, end - start)), task.threshold)
    return found


def _read_unit(task: ReadTask) -> Tally:
    account, rules = Tally(), _shared(task.rules)
    rows = chain.from_iterable(_judge(*file, rules, account) for file in _readable(task.unit, rules, account))
    account.rows = storage.write_rows(rows, task.place, shards.STAGED, storage.STAGED)
    return account


def _readable(unit: Unit, rules: Rules, account: Tally) -> Iterator[tuple[RawFile, str]]:
    """Each file with its SWHID, but for those that are to be as though the source had none."""
    for file in unit.files():
        swhid = "" if isinstance(file, Unreadable) else swhid_of(file.content)
        if _is_removed(file, swhid, unit, rules, account):
            continue
        account.files += 1
        if isinstance(file, Unreadable):
            account.dropped.append(Dropped(file.repository, file.path, "read", file.drop.reason, file.drop.detail))
        else:
            yield file, swhid


def _is_removed(file: RawFile | Unreadable, swhid: str, unit: Unit, rules: Rules, account: Tally) -> bool:
    """Whether a request for removal holds for a file; and the file, on the lists of what the source has."""
    values = listed_values(file, swhid, of_tree=isinstance(unit, TreeUnit))
    removals, content = rules.removals, None if isinstance(file, Unreadable) else file.content
    ids = removals.holding(file.repository, file.path, swhid, content) if removals is not None else ()
    if not ids:
        account.left.add(*values)
    elif removals is not None and removals.is_earlier(ids):
        return True
    account.read.add(*values)
    if ids:
        account.removed.append(Removed(file.repository, file.path, swhid, ids))
    return bool(ids)


def _judge(file: RawFile, swhid: str, rules: Rules, account: Tally) -> Iterator[Row]:
    for form in rendered_forms(file, rules):
        if isinstance(form, Drop):
            objection: tuple[str, Drop] | None = ("read", form)
        else:
            found = Examination(form, swhid=swhid)
            objection = first_objection(found, rules, READ_STAGES)
        if objection is not None:
            stage, drop = objection
            account.dropped.append(Dropped(file.repository, file.path, stage, drop.reason, drop.detail, swhid))
            continue
        yield _staged_row(file, found, rules)


def _staged_row(file: RawFile, found: Examination, rules: Rules) -> Row:
    config = rules.config
    seen = found.statistics
    assert seen is not None
    keys, words = keys_of(
        found.content, words=config.duplicates.words, bands=config.duplicates.bands, rows=config.duplicates.rows
    )
    return {
        "path": file.path,
        "text": found.content,  # UTF-8, which Arrow takes as it is
        "language": found.language,
        "license": found.license.expression,
        "license_evidence": found.license.evidence,
        "repository": file.repository,
        "commit": file.commit,
        "swhid": found.swhid,
        "sha256": sha256_of(file.content),
        "controls": found.file.controls,
        "kind": found.file.kind,
        "size_bytes": len(file.content),
        "stars": file.stars,
        "date": file.date,
        "identity": found.swhid if found.file.kind == CODE else f"{found.file.kind} {found.swhid}",
        "license_rank": config.licenses.rank(found.license),
        "keys": keys,
        **signals(file.path, found.language, found.text, found.content, seen, words)._asdict(),
    }


def _members(table: pa.Table) -> Iterator[Member]:
    for row in table.to_pylist():
        elements = np.frombuffer(row["elements"], np.uint32)
        yield Member(row["number"], np.array(row["keys"], np.uint64), elements)


def _runs(values: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """(start, end) of each run of equal values."""
    borders = np.flatnonzero(np.diff(values)) + 1
    edges = [0, *borders.tolist(), len(values)]
    yield from pairwise(edges)


def _finish_shard(task: ShardTask) -> Tally:
    account, rules = Tally(), _shared(task.rules)
    finished: list[Row] = []
    for row in _rows_to_finish(task):
        account.files += 1
        if (changes := _finish(row, rules, task, account)) is not None:
            finished.append({**row, **changes})
    # Like beside like: one language's files, and in it a repository's, compress best together.
    finished.sort(key=itemgetter("language", "repository", "path", "kind"))
    account.rows = storage.write_rows(finished, task.place, shards.SCHEMA, storage.KEPT)
    return account


def _rows_to_finish(task: ShardTask) -> Iterator[Row]:
    first = 0
    for place, rows in task.parts:
        for places, group in storage.read_groups(place, _LEFT, rows):
            clusters = task.clusters.slice(first + int(places[0]), len(places))
            for row, cluster in zip(group.to_pylist(), clusters.to_pylist(), strict=True):
                yield row | cluster
        first += len(rows)


def _finish(row: Row, rules: Rules, task: ShardTask, account: Tally) -> Row | None:
    """What the last stages change or add, None for a file that one of them drops."""
    found = Examination(_raw_file(row, rules), text=row["text"], language=row["language"], swhid=row["swhid"])
    if (objection := first_objection(found, rules, LATE_STAGES)) is not None:
        stage, drop = objection
        account.dropped.append(Dropped(row["repository"], row["path"], stage, drop.reason, drop.detail, row["swhid"]))
        return None
    redacted = found.redacted
    assert redacted is not None
    for kind, number in redacted.counts.items():
        account.counts[f"redacted_{kind}"] += number
    split = HELD_OUT if share(row["swhid"]) < task.held_out else TRAIN
    account.counts["held_out"] += split == HELD_OUT
    account.counts["kept_bytes"] += utf8_bytes(redacted.text)
    own_weight = rules.config.sampling.repositories.get(row["repository"], 1.0)
    return {
        "text": redacted.text,
        "controls": redacted.controls,
        "split": split,
        "redactions": sum(redacted.counts.values()),
        "weight": task.weights.get(row["language"], 1.0) * own_weight,
    }


def utf8_bytes(text: str) -> int:
    """Size of a text in UTF-8; nothing is encoded where it is ASCII."""
    return len(text) if text.isascii() else len(text.encode())


def _raw_file(row: Row, rules: Rules) -> RawFile:
    """The file as the last stages ask of it; only a scanner for malware wants the content."""
    return RawFile(
        path=row["path"],
        content=row["text"].encode() if rules.scanners else b"",
        repository=row["repository"],
        kind=row["kind"],
        controls=tuple(row["controls"]),
    )


def share(swhid: str) -> float:
    """A number in [0, 1) that depends on the content alone, so that a file keeps its split when others come."""
    return int.from_bytes(hashlib.sha256(swhid.encode()).digest()[:8], "big") / 2**64


def _once(place: str, fingerprint: str, work: Callable[[], Tally]) -> Tally:
    """Do the work, unless it was done before: its outcome then stands beside its table."""
    marker = place.replace(".parquet", ".json")
    known = storage.read_json(marker)
    if known is not None and known["fingerprint"] == fingerprint:
        return _tally_of(known)
    if known is not None:
        storage.remove(marker)  # else it would stand beside a table that is not its
    account = work()
    outcome = {
        "files": account.files,
        "rows": account.rows,
        "dropped": [list(vars(row).values()) for row in account.dropped],
        "counts": dict(account.counts),
        "read": account.read.to_json(),
        "left": account.left.to_json(),
        "removed": [list(vars(row).values()) for row in account.removed],
    }
    storage.write_json({"fingerprint": fingerprint, **outcome}, marker)
    return account


def _tally_of(outcome: dict[str, Any]) -> Tally:
    return Tally(
        outcome["files"],
        outcome["rows"],
        [Dropped(*row) for row in outcome["dropped"]],
        Counter(outcome["counts"]),
        Listing.from_json(outcome["read"]),
        Listing.from_json(outcome["left"]),
        [Removed(row[0], row[1], row[2], tuple(row[3])) for row in outcome["removed"]],
    )


def _shared(rules: Rules) -> Rules:
    """One object for equal rules, so that a process opens its lists and scanners once."""
    return _opened(pickle.dumps(rules))


@lru_cache(maxsize=2)
def _opened(pickled: bytes) -> Rules:
    rules: Rules = pickle.loads(pickled)  # noqa: S301 pickled above
    return rules
