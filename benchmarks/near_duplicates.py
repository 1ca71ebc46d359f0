"""The near-duplicate stage against four peers: MB of source text a CPU-second, and which removals are right.

Timed for all: read Parquet, sketch, find what meets, say which file goes for which (ours also verifies each removal).
All have 250 hash values in 25 bands of 10 and five-word shingles. Left out of every figure: imports, and of ours the
compilation of kernels and the start of the engine (a run on a few files before). CPU time of all threads and child
processes counts. Peers are slow, so they get the first files only, once; ours is the median of three runs on all files,
and what is compared is the rate. Where a peer lets us, it splits words as we do, which is faster than its own way.

What is right is decided by exact Jaccard similarity over five-word shingles of lower-cased [A-Za-z0-9_] words, one
definition for all (near_duplicate/truth.py), on all pairs that are alike and on every pair (file removed, file kept).

- recall: of the pairs at 0.75 or more, those of which at least one file was removed
- no twin: of the files removed, those with no file at 0.7 or more in their cluster
- unlike the kept: of the files removed, those below 0.7 to the file that was kept for them
"""

import argparse
import json
import resource
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from near_duplicate import peers
from near_duplicate.truth import Truth, true_pairs
from numpy.typing import NDArray
from real_files import BENCH, gather

from starsmith.core.console import note, table
from starsmith.corpus.duplicates import Member, groups, left_out
from starsmith.corpus.engine import Engine
from starsmith.corpus.sketch import SHINGLE_WORDS, keys_of, shingle_set

THRESHOLD, TRUE_PAIR = 0.7, 0.75
BANDS, ROWS = 25, 10
OTHER_BANDS = ((36, 7), (32, 8), (50, 5))  # for comparison: what more recall costs
SPEED_BAR, RECALL_BAR, NO_TWIN_BAR = 50.0, 0.98, 0.01


@dataclass(frozen=True)
class Outcome:
    """What a tool did."""

    name: str
    megabytes: float
    seconds: float  # of CPU
    labels: NDArray[np.int64]  # (N,) the file that was kept for each: itself where it stays
    bar: float | None = None

    @property
    def rate(self) -> float:
        """MB a CPU-second."""
        return self.megabytes / self.seconds


@dataclass(frozen=True)
class Quality:
    """How right a tool was."""

    removed: int
    pairs: int
    recall: float
    no_twin: float
    unlike_kept: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="120 MB for us and 6 MB for the peers, not 450 and 58")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    arguments = parser.parse_args()
    ours_mb, peers_mb, rounds = (120, 6, 1) if arguments.quick else (None, 58, 3)

    parts = sorted(gather().glob("*.parquet"))
    everything, first = prefix(parts, ours_mb), prefix(parts, peers_mb)
    our_labels(prefix(parts, 2), BANDS, ROWS)  # compiles the kernels, starts the engine
    outcomes = [measured("starsmith", everything, rounds), measured("starsmith", first, rounds)]
    if not arguments.quick:
        for bands, rows in OTHER_BANDS:
            outcomes.append(measured(f"starsmith, {bands} bands of {rows}", everything, 1, bands, rows))
    for peer in peers.PEERS:
        note(peer.name)
        seconds, labels = peers.outcome(peer, first)
        assert len(labels) == len(outcomes[1].labels), f"not the same files: {len(labels)}"
        outcomes.append(Outcome(peer.name, size_mb(first), seconds, np.array(labels), peer.bar))
    truth = true_pairs(content for batch in contents(everything) for content in batch)
    qualities = [quality(outcome.labels, truth) for outcome in outcomes]
    show(outcomes, qualities)
    if arguments.json:
        print(json.dumps(results(outcomes, qualities)))


def show(outcomes: Sequence[Outcome], qualities: Sequence[Quality]) -> None:
    """One row a tool."""
    speeds, rights = [], []
    for outcome, found in zip(outcomes, qualities, strict=True):
        ratio = "" if outcome.name.startswith("starsmith") else f"{outcomes[0].rate / outcome.rate:.1f}x"
        numbers = (f"{outcome.megabytes:.0f}", f"{outcome.seconds:.2f}", f"{outcome.rate:.2f}", ratio)
        speeds.append((outcome.name, *numbers))
        shares = (f"{found.recall:.4f}", f"{found.no_twin:.2%}", f"{found.unlike_kept:.2%}")
        rights.append((outcome.name, f"{outcome.megabytes:.0f}", f"{found.pairs:,}", f"{found.removed:,}", *shares))
    columns = ("", "MB", "CPU s", "MB/CPU-s", "ours is")
    table("Near-duplicates: speed", columns, speeds, right=columns[1:])
    columns = ("", "MB", "pairs", "removed", "recall", "no twin", "unlike kept")
    table("Near-duplicates: of the files removed", columns, rights, right=columns[1:])


def results(outcomes: Sequence[Outcome], qualities: Sequence[Quality]) -> list[dict[str, object]]:
    """One object a claim."""
    ours, best = outcomes[0], qualities[0]
    unit = "MB per CPU-second"
    claims: list[tuple[str, float, float, str, str, float, bool]] = [
        ("speed", ours.rate, SPEED_BAR, "bar", unit, 1.0, ours.rate >= SPEED_BAR),
        ("recall", best.recall, RECALL_BAR, "bar", "share of true pairs", 1.0, best.recall >= RECALL_BAR),
        ("no_twin", best.no_twin, NO_TWIN_BAR, "bar", "share of removed", 1.0, best.no_twin < NO_TWIN_BAR),
    ]
    for outcome in outcomes:
        if outcome.bar is not None:
            holds = ours.rate / outcome.rate >= outcome.bar
            claims.append(("ratio", ours.rate, outcome.rate, outcome.name, unit, outcome.bar, holds))
    return [
        {"name": f"near_duplicates_{name}", "ours": value, "peer": other, "peer_name": peer, "unit": measure,
         "ratio": value / other, "bar": bar, "holds": holds}
        for name, value, other, peer, measure, bar, holds in claims
    ]  # fmt: skip


def prefix(parts: Sequence[Path], megabytes: int | None) -> Path:
    """One Parquet file with the first files of the parts, so many MB of them; all for None."""
    place = BENCH / "near-duplicates" / f"{'all' if megabytes is None else megabytes}.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    left = None if megabytes is None else megabytes * 1_000_000
    with pq.ParquetWriter(place, pq.read_schema(parts[0]), compression="zstd") as writer:
        for part in parts:
            files = pq.read_table(part)
            sizes = np.cumsum(pc.binary_length(files["content"]).to_numpy())
            count = len(files) if left is None else int(np.searchsorted(sizes, left)) + 1
            writer.write_table(files.slice(0, count), row_group_size=1024)
            if left is not None and (left := left - int(sizes[-1])) <= 0:
                break
    return place


def contents(place: Path) -> Iterator[list[bytes]]:
    """The texts, some at a time."""
    for batch in pq.ParquetFile(place).iter_batches(columns=["content"], batch_size=1024):
        yield batch.column(0).cast(pa.binary()).to_pylist()


def size_mb(place: Path) -> float:
    """Of the texts."""
    return sum(len(content) for batch in contents(place) for content in batch) / 1e6


def cpu_seconds() -> float:
    """Of this process, all threads, and its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measured(name: str, place: Path, rounds: int, bands: int = BANDS, rows: int = ROWS) -> Outcome:
    """Ours, the median of some rounds."""
    times = []
    for _ in range(rounds):
        started = cpu_seconds()
        labels = our_labels(place, bands, rows)
        times.append(cpu_seconds() - started)
    return Outcome(name, size_mb(place), statistics.median(times), labels)


def our_labels(place: Path, bands: int, rows: int) -> NDArray[np.int64]:
    """The stage as the build runs it, in one process: keys, groups that meet, and removals that are verified."""
    found = [
        keys_of(content, words=SHINGLE_WORDS, bands=bands, rows=rows)[0]
        for batch in contents(place)
        for content in batch
    ]
    numbers = np.array([number for number, keys in enumerate(found) if len(keys)])
    keys = np.stack([found[number] for number in numbers])
    group_of = groups(Engine().meeting_places(numbers, keys), len(found))
    members = np.bincount(group_of)[group_of] > 1
    together: dict[int, list[Member]] = {}
    number = 0
    for batch in contents(place):
        for content in batch:
            if members[number]:
                member = Member(number, found[number], shingle_set(content))
                together.setdefault(int(group_of[number]), []).append(member)
            number += 1
    labels = np.arange(number)
    for group in together.values():
        for duplicate in left_out(group, THRESHOLD):
            labels[duplicate.number] = duplicate.of
    return labels


def quality(labels: NDArray[np.int64], truth: Truth) -> Quality:
    """Of the first files, as many as there are labels."""
    inside = truth.pairs.max(axis=1) < len(labels)
    pairs, similarities = truth.pairs[inside], truth.similarities[inside]
    removed = labels != np.arange(len(labels))
    wanted = pairs[similarities >= TRUE_PAIR]
    caught = removed[wanted].any(axis=1)
    has_twin = np.zeros(len(labels), bool)
    has_twin[pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]].reshape(-1)] = True
    gone = np.flatnonzero(removed)
    to_kept = truth.similarities_of(np.stack([gone, labels[gone]], axis=1))
    return Quality(
        removed=len(gone),
        pairs=len(wanted),
        recall=float(caught.mean()),
        no_twin=float((~has_twin[gone]).mean()),
        unlike_kept=float((to_kept < THRESHOLD).mean()),
    )


if __name__ == "__main__":
    main()
