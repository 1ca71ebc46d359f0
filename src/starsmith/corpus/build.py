"""Stage: sources become a governed corpus, in which every file is kept, or dropped for a reason that is counted.

Three rounds of tasks (`work`), which an engine runs side by side: units are read and their files judged; the files
whose sketches meet are compared; shards are finished. Between them the driver holds a few hundred bytes a
file and no text. What is done is kept in `run/` of the unfinished artefact, so the same command goes on where an
interrupted one stopped.
"""

import hashlib
import json
import math
import pickle
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.config import to_table
from starsmith.core.console import progress
from starsmith.core.errors import InputError
from starsmith.core.merkle import write_tree
from starsmith.core.version import source_sha256
from starsmith.corpus import card, origins, ranking, storage, withheld, work
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.duplicates import Duplicate, groups
from starsmith.corpus.engine import Engine, collecting_seldom
from starsmith.corpus.sampling import language_weights
from starsmith.corpus.sources import FolderSource, Source
from starsmith.corpus.stages import DUPLICATES, NEAR_DUPLICATES, STAGE_NAMES, Rules

__all__ = ["CorpusConfig", "run"]

SHARD_BYTES = 64 * 2**20  # of text in a shard
BUCKET_BYTES = 128 * 2**20  # of text whose shingle sets one task holds at a time


@dataclass
class _Build:
    """What one build works with."""

    rules: Rules
    engine: Engine
    draft: artifact.Draft
    staging: str  # where tasks leave tables for one another
    dropped: list[work.Dropped] = field(default_factory=list)
    files: int = 0  # forms of files that came to the first stage
    removal: origins.Removal | None = None

    @property
    def config(self) -> CorpusConfig:
        return self.rules.config


@dataclass(frozen=True)
class _Decision:
    """Which of the staged files go on, numbered by how much they are to be kept (0 first)."""

    table: pa.Table  # ranking.KNOWN columns, part and row, in the order of the numbers
    stays: NDArray[np.bool_]  # (N,)
    of: NDArray[np.int64]  # (N,) the number of the file that stands for each, its own where it stays

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(N,) files that each stands for, itself among them; 0 where it goes."""
        return np.bincount(self.of, minlength=len(self.of))


def run(
    config: CorpusConfig,
    *,
    sources: Sequence[Source],
    out: Path,
    benchmarks: Path | None = None,
    engine: Engine | None = None,
    staging: str | None = None,
    removal: origins.Removal | None = None,
) -> list[origins.Removed]:
    """Write the corpus of `sources`; the order in which they are given does not matter.

    Returns the files that were left out because a request for removal holds for them, which are named nowhere else.

    benchmarks  artefact of texts that no file may contain, by `starsmith evaluate export`
    engine      where the tasks run: this machine by default, or a Ray cluster
    staging     directory or URL that all workers reach, in which a folder is made and removed; by default the
                unfinished artefact has it
    removal     what is to be as though the sources had never had it
    """
    check_place(out, sources)
    parents = {"benchmarks": benchmarks} if benchmarks else {}
    rules = Rules(config, benchmarks.resolve() if benchmarks else None, removal.removals if removal else None)
    replace(rules).check()  # a copy: tasks carry the rules, and open the lists for themselves
    with (
        collecting_seldom(),
        engine or Engine() as running,
        artifact.create(
            out, kind="corpus", config=config, rooms=("core", "corpus"), parents=parents, resume=True
        ) as draft,
    ):
        own = draft.run.resolve() / "staging"
        place = storage.join(staging, f"starsmith-{_digest(str(out.resolve()))[:16]}") if staging else str(own)
        build = _Build(rules, running, draft, place, removal=removal)
        draft.filters += [name for name in STAGE_NAMES if name != "read"]
        ledger = origins.Ledger(sources)
        parts = _read(build, ledger)
        decision = _decide(build, parts)
        if not decision.stays.any():
            _discard(build)
            raise _nothing_left(sources, build)
        _finish(build, decision, parts)
        _account(build, decision)
        ledger.write(draft.run, config, removal)
        _discard(build)
    return ledger.removed


def check_place(out: Path, sources: Sequence[Source]) -> None:
    """What is written must not be read as source by this build or the next."""
    for source in sources:
        if isinstance(source, FolderSource) and out.resolve().is_relative_to(source.root.resolve()):
            raise InputError(f"{out} lies in {source.root}, which it is to be made from", hint="give another --out")


def _read(build: _Build, ledger: origins.Ledger) -> list[work.ReadTask]:
    """Judge every file; returns the tasks, which have the places of the staged tables, in order."""
    removals, removal = build.rules.removals, build.removal
    code = _digest(source_sha256(("core", "corpus")), to_table(build.config), removals.digest if removals else "")
    units = withheld.units_of(ledger.sources, build.config, removals)
    tasks = []
    for number, (_, unit) in enumerate(units):
        place = storage.join(build.staging, f"read/{number:06d}.parquet")
        tasks.append(work.ReadTask(unit, build.rules, place, _digest(code, unit.fingerprint)))
    size = sum(unit.size_bytes for _, unit in units)
    with progress("corpus: reading", total=size / 1e6, unit="MB") as advance:
        outcomes = build.engine.run(work.read_unit, tasks, size_bytes=size)
        for (source, unit), found in zip(units, outcomes, strict=True):
            build.files += found.rows + len(found.dropped)
            build.dropped += found.dropped
            ledger.add(source, found.read, found.left, found.removed)
            advance(unit.size_bytes / 1e6, unit.label)
    if removal is not None and removal.made_from is not None:
        try:
            ledger.check(removal.made_from)
        except InputError:
            _discard(build)
            raise
    return tasks


def _decide(build: _Build, parts: Sequence[work.ReadTask]) -> _Decision:
    """Exact duplicates by content, near ones by comparison; of equal files the one to be kept most stays."""
    table, keys = ranking.ranked([part.place for part in parts], build.config.duplicates.bands)
    firsts = ranking.first_of_each(table["identity"])
    of = firsts.copy()
    near = _near_duplicates(build, table, keys, firsts == np.arange(len(firsts)), parts)
    for duplicate in near:
        of[duplicate.number] = duplicate.of
    gone = np.flatnonzero(firsts != np.arange(len(firsts)))
    exact = [Duplicate(number, first, 1.0) for number, first in zip(gone.tolist(), firsts[gone].tolist(), strict=True)]
    _drop(build, table, near, NEAR_DUPLICATES)
    _drop(build, table, exact, DUPLICATES)
    of = of[of]  # an exact duplicate of a file that went for another goes for that other
    return _Decision(table, of == np.arange(len(of)), of)


def _drop(build: _Build, table: pa.Table, found: Sequence[Duplicate], stage: str) -> None:
    names = table.select(["repository", "path", "swhid"])
    gone = names.take(pa.array([duplicate.number for duplicate in found], pa.int64())).to_pylist()
    kept = names.take(pa.array([duplicate.of for duplicate in found], pa.int64())).to_pylist()
    for duplicate, one, other in zip(found, gone, kept, strict=True):
        likeness = f", Jaccard {duplicate.similarity:.3f}" if stage == NEAR_DUPLICATES else ""
        detail = f"of {other['repository']}:{other['path']}{likeness}"
        reason = stage.removesuffix("s")
        build.dropped.append(work.Dropped(one["repository"], one["path"], stage, reason, detail, one["swhid"]))


def _near_duplicates(
    build: _Build,
    table: pa.Table,
    keys: NDArray[np.uint64],
    distinct: NDArray[np.bool_],
    parts: Sequence[work.ReadTask],
) -> list[Duplicate]:
    threshold = build.config.duplicates.threshold
    numbers = np.flatnonzero(distinct & keys.any(axis=1))
    if threshold is None or len(numbers) < 2:
        return []
    labels = groups(build.engine.meeting_places(numbers, keys[numbers]), len(table))
    sizes = np.bincount(labels, minlength=len(table))
    members = numbers[sizes[labels[numbers]] > 1]
    if not len(members):
        return []
    buckets = _buckets(labels[members], table["size_bytes"].to_numpy()[members])
    places = _collect(build, table, members, labels, buckets, parts)
    tasks = [work.CompareTask(tuple(found), threshold) for _, found in sorted(places.items())]
    size = int(pc.sum(table["size_bytes"].take(pa.array(members))).as_py())
    with progress("corpus: comparing", total=len(tasks), unit="groups of files") as advance:
        found = []
        for outcome in build.engine.run(work.compare, tasks, size_bytes=size):
            found += outcome
            advance()
    return sorted(found, key=lambda duplicate: duplicate.number)


def _buckets(labels: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) number of the task that compares each file: whole groups, about BUCKET_BYTES together."""
    names, group_of = np.unique(labels, return_inverse=True)
    group_bytes = np.bincount(group_of, sizes, len(names))
    bucket_of_group = (np.cumsum(group_bytes) - group_bytes) // BUCKET_BYTES
    return np.asarray(bucket_of_group, np.int64)[group_of]


def _collect(
    build: _Build,
    table: pa.Table,
    members: NDArray[np.int64],
    labels: NDArray[np.int64],
    buckets: NDArray[np.int64],
    parts: Sequence[work.ReadTask],
) -> dict[int, list[str]]:
    """Bucket -> places of the shingle sets of its files."""
    part_of, row_of = table["part"].to_numpy()[members], table["row"].to_numpy()[members]
    tasks = []
    for part in np.unique(part_of).tolist():
        chosen = np.flatnonzero(part_of == part)
        place = storage.join(build.staging, f"sets/{part:06d}-{{bucket}}.parquet")
        numbers = members[chosen]
        tasks.append(
            work.CollectTask(
                parts[part].place, row_of[chosen], numbers, labels[numbers], buckets[chosen], place,
                build.config.duplicates.words,
            )
        )  # fmt: skip
    places: dict[int, list[str]] = {}
    size = int(pc.sum(table["size_bytes"]).as_py())
    with progress("corpus: shingle sets", total=len(tasks), unit="parts") as advance:
        for written in build.engine.run(work.collect_sets, tasks, size_bytes=size):
            for bucket, place in written:
                places.setdefault(bucket, []).append(place)
            advance()
    return places


def _finish(build: _Build, decision: _Decision, parts: Sequence[work.ReadTask]) -> None:
    """Write the shards: the files that stay, in the order of their sources."""
    table, stays = decision.table, np.flatnonzero(decision.stays)
    shutil.rmtree(build.draft.path / "shards", ignore_errors=True)  # an interrupted build may have had more of them
    place_order = np.lexsort((table["row"].to_numpy()[stays], table["part"].to_numpy()[stays]))
    ordered = stays[place_order]
    sizes = table["size_bytes"].to_numpy()[ordered]
    shard_of = (np.cumsum(sizes) - sizes) // SHARD_BYTES
    common = _common_task(build, decision)
    tasks = [
        _shard_task(common, decision, ordered[shard_of == shard], parts, number)
        for number, shard in enumerate(np.unique(shard_of).tolist())
    ]
    with progress("corpus: finishing", total=len(tasks), unit="shards") as advance:
        outcomes = build.engine.run(work.finish_shard, tasks, size_bytes=int(sizes.sum()))
        for task, outcome in zip(tasks, outcomes, strict=True):
            build.dropped += outcome.dropped
            build.draft.counts.update(outcome.counts)
            build.draft.count("kept", outcome.rows)
            storage.fetch(task.place, build.draft.path / "shards" / Path(task.place.partition("?")[0]).name)
            advance()


def _common_task(build: _Build, decision: _Decision) -> work.ShardTask:
    """What the tasks of all shards have in common; `place` is the folder, `fingerprint` that of what decides."""
    config = build.config
    held_out = _held_out_bound(config, decision)
    weights = language_weights(config.sampling, _bytes_by_language(decision))
    lists = [Path(name).read_bytes() for name in (*config.opt_outs, *config.malware.yara)]
    benchmarks = build.rules.benchmarks and artifact.read(build.rules.benchmarks).id
    code = source_sha256(("core", "corpus"))
    return work.ShardTask(
        parts=(),
        clusters=pa.table({}),
        rules=build.rules,
        held_out=held_out,
        weights=weights,
        place=storage.join(build.staging, "shards"),
        fingerprint=_digest(code, to_table(config), held_out, weights, benchmarks, *lists),
    )


def _shard_task(
    common: work.ShardTask, decision: _Decision, numbers: NDArray[np.int64], parts: Sequence[work.ReadTask], shard: int
) -> work.ShardTask:
    table = decision.table.take(pa.array(numbers))
    part_of, row_of = table["part"].to_numpy(), table["row"].to_numpy()
    chosen = {part: row_of[part_of == part].astype(np.int64) for part in np.unique(part_of).tolist()}
    read = [(parts[part].fingerprint, rows.tobytes()) for part, rows in chosen.items()]
    sizes = decision.sizes[numbers]
    cluster = pa.array(np.where(sizes > 1, table["swhid"].to_numpy(zero_copy_only=False), None), pa.string())
    return replace(
        common,
        parts=tuple((parts[part].place, rows) for part, rows in chosen.items()),
        clusters=pa.table({"cluster": cluster, "cluster_size": pa.array(sizes.astype(np.int32))}),
        place=storage.join(common.place, f"{shard:05d}.parquet"),
        fingerprint=_digest(common.fingerprint, read, cluster.to_pylist(), sizes.tolist()),
    )


def _bytes_by_language(decision: _Decision) -> dict[str, int]:
    kept = decision.table.filter(pa.array(decision.stays))
    totals = kept.group_by("language").aggregate([("size_bytes", "sum")])
    return dict(zip(totals["language"].to_pylist(), totals["size_bytes_sum"].to_pylist(), strict=True))


def _held_out_bound(config: CorpusConfig, decision: _Decision) -> float:
    """The share below which a file is held out; raised to the lowest one where no file would be."""
    if config.held_out == 0 or decision.stays.sum() < 2:
        return config.held_out
    swhids = decision.table["swhid"].filter(pa.array(decision.stays)).to_pylist()
    return max(config.held_out, math.nextafter(min(map(work.share, swhids)), 1.0))


def _account(build: _Build, decision: _Decision) -> None:
    """The counts, the list of what was dropped, the Merkle root and the data card."""
    draft = build.draft
    if not draft.counts["kept"]:
        raise _nothing_left([], build)
    draft.counts.update(Counter(f"dropped_{row.reason}" for row in build.dropped))
    with (draft.run / "dropped.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(
            json.dumps({key: value for key, value in vars(row).items() if value}) + "\n" for row in build.dropped
        )
    write_tree(draft.path)
    card.write_card(
        draft.path,
        card.Account(
            sources=sources_kept(draft.path),
            counts=dict(draft.counts),
            steps=_funnel(build),
            clusters=decision.sizes[decision.sizes > 1].tolist(),
            settings=to_table(build.config),
        ),
    )


def sources_kept(corpus: Path) -> list[tuple[str, str, int, int]]:
    """(repository, commit, files, bytes) of what was kept, by name."""
    columns = ["repository", "commit", "size_bytes"]
    tables = [pq.ParquetFile(shard).read(columns) for shard in sorted((corpus / "shards").glob("*.parquet"))]
    totals = pa.concat_tables(tables).group_by(columns[:2]).aggregate([("size_bytes", "count"), ("size_bytes", "sum")])
    return sorted(zip(*(totals[name].to_pylist() for name in totals.column_names), strict=True))


def _funnel(build: _Build) -> list[tuple[str, int, int]]:
    """(stage, files that came, files that went on) in order."""
    lost = Counter(row.stage for row in build.dropped)
    steps, left = [], build.files
    for name in STAGE_NAMES:
        steps.append((name, left, left - lost[name]))
        left -= lost[name]
    return steps


def _discard(build: _Build) -> None:
    storage.remove(build.staging)
    shutil.rmtree(build.draft.run / "staging", ignore_errors=True)


def _digest(*values: Any) -> str:
    return hashlib.sha256(pickle.dumps(values, protocol=4)).hexdigest()


def _nothing_left(sources: Sequence[Source], build: _Build) -> InputError:
    if build.removal is not None:
        return InputError("no file is left without what the requests name", hint="then a corpus is deleted, not made")
    places = ", ".join(str(source.root) for source in sources[:5]) or "the sources"
    drops = Counter(row.reason for row in build.dropped).most_common()
    account = ", ".join(f"{number} {name}" for name, number in drops)
    hints = {
        "no_license": "add a LICENSE file, or --set corpus.licenses.unlicensed=true to take files without one",
        "not_permissive": "allow the licence by its SPDX id: --set 'corpus.licenses.allow=[\"GPL-3.0-only\"]'",
        "other_language": "add their languages to corpus.languages, or leave that setting out",
    }
    hint = hints.get(drops[0][0] if drops else "", "give sources with code in a known language")
    return InputError(f"no file of {places} can be used; dropped: {account}", hint=hint)
