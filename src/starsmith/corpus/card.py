"""The data card of a corpus: what is in it, from where, under which licences, and what was left out and why.

The same facts three times: `card.md` as tables, `card.html` as figures, and `samples.html` with some of the files
themselves. No clock and no host is in them, so that equal corpora have equal cards.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core.errors import ArtifactError
from starsmith.core.records import HELD_OUT
from starsmith.corpus import page
from starsmith.corpus.plots import Band, Histogram, Scale, Tile, funnel, histogram, treemap

CARD, CARD_PAGE, SAMPLES_PAGE = "card.md", "card.html", "samples.html"
TOP = 25  # rows of a table; the rest is one row
TOP_SOURCES = 50
TREEMAP_ASPECT = 2.4
NO_LICENSE, NO_LANGUAGE, NO_OWNER = "none found", "unknown", "folders and archives"

_GROUPS = ("language", "license", "split", "kind")
_MEASURES = ("size_bytes", "weight", "cluster_size", "redactions", "is_test", "date")
_ROWS = 16_384  # in memory at a time, without texts
_SIZES = Scale.named(
    [(0, "0"), *((2**power, f"{2**power} B") for power in range(6, 10))]
    + [(2**power * 1024, f"{2**power} KB") for power in range(10)]
    + [(2**20, "1 MB")],
    label_every=3,
)
_CLUSTERS = Scale.named([(2, "2"), (3, "3"), *((2**power, str(2**power)) for power in range(2, 11))])
_SHARES = Scale.even(1, 20, label_every=5)
_STARS = Scale.named([(0, "0"), (1, "1"), *((10**power, f"{10**power:,}") for power in range(1, 6))])
_YEARS = (1970, 2100)  # of dates that are taken at their word
_MOST_YEARS = 24


@dataclass(frozen=True)
class Account:
    """What a build counted, which the shards do not tell."""

    sources: list[tuple[str, str, int, int]]  # repository, commit, files kept, bytes kept
    counts: Mapping[str, int]  # of the manifest: "read", "kept", "dropped_<reason>", "redacted_<kind>", ...
    steps: list[tuple[str, int, int]]  # in order: name, files that came in, files that went on
    clusters: list[int]  # sizes of near-duplicate clusters
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Signal:
    """A quality signal: a column of the shards, and how its histogram is drawn."""

    column: str
    title: str
    scale: Scale
    form: str = "{:.2f}"  # of its median


SIGNALS = (
    Signal("comment_ratio", "Share of comments", _SHARES),
    Signal("alphabetic_share", "Share of letters", _SHARES),
    Signal("average_line", "Characters per line", Scale.even(100, 25, label_every=5), "{:.0f}"),
    Signal("characters_per_token", "Characters per token", Scale.even(8, 32, label_every=8), "{:.1f}"),
    Signal("stars", "Stars of the repository", _STARS, "{:,.0f}"),
)


@dataclass
class Amount:
    """Files and bytes of one kind."""

    files: int = 0
    size_bytes: int = 0
    weighted: float = 0.0  # bytes times sampling weight
    weights: tuple[float, float] = (1.0, 1.0)  # least and greatest

    def add(self, files: int, size_bytes: int, weighted: float = 0.0, weights: tuple[float, float] = (1, 1)) -> None:
        """Take more files in."""
        low, high = (min(self.weights[0], weights[0]), max(self.weights[1], weights[1])) if self.files else weights
        self.files, self.size_bytes, self.weights = self.files + files, self.size_bytes + size_bytes, (low, high)
        self.weighted += weighted


Amounts = dict[str, Amount]


@dataclass
class Tally:
    """Sums over the shards, which are read once, without their texts."""

    by: dict[str, Amounts] = field(default_factory=lambda: {name: defaultdict(Amount) for name in _GROUPS})
    bins: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    years: Counter[int] = field(default_factory=Counter)
    marked: Counter[str] = field(default_factory=Counter)  # files that are tests, stand for others, were redacted

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch of rows in."""
        self._add_groups(batch)
        for column, scale in (("size_bytes", _SIZES), *((signal.column, signal.scale) for signal in SIGNALS)):
            counts = scale.count(_numbers(batch, column))
            self.bins[column] = self.bins[column] + counts if column in self.bins else counts
        for column, least in (("is_test", 1), ("cluster_size", 2), ("redactions", 1)):
            self.marked[column] += int((_numbers(batch, column) >= least).sum())
        years = pc.value_counts(pc.utf8_slice_codeunits(batch.column("date"), 0, 4)).to_pylist()
        for row in years:
            year = int(row["values"]) if re.fullmatch(r"[0-9]{4}", row["values"] or "") else 0
            if _YEARS[0] <= year <= _YEARS[1]:
                self.years[year] += row["counts"]

    def _add_groups(self, batch: pa.RecordBatch) -> None:
        size = pc.fill_null(batch.column("size_bytes"), 0)
        weight = pc.fill_null(pc.cast(batch.column("weight"), pa.float64()), 1.0)
        groups = {name: pc.fill_null(batch.column(name), "") for name in _GROUPS}
        table = pa.table({**groups, "size": size, "weight": weight, "weighted": pc.multiply(size, weight)})
        sums = [("size", "count"), ("size", "sum"), ("weighted", "sum"), ("weight", "min"), ("weight", "max")]
        for row in table.group_by(list(_GROUPS), use_threads=False).aggregate(sums).to_pylist():
            weights = (row["weight_min"], row["weight_max"])
            for name in _GROUPS:
                self.by[name][row[name]].add(row["size_count"], row["size_sum"], row["weighted_sum"], weights)


@dataclass(frozen=True)
class Bar:
    """A row of a ranking."""

    name: str
    files: int
    size_bytes: int
    length: float  # percent of the longest
    share: float  # percent of all


@dataclass(frozen=True)
class Sampling:
    """How often a language or kind is drawn in training, beside its natural share of the bytes."""

    name: str
    weight: str
    natural: float  # percent of bytes
    drawn: float  # percent of bytes read


@dataclass(frozen=True)
class Card:
    """The facts, ready to be set as tables or drawn."""

    total: Amount
    held_out: Amount
    read: int
    owner_count: int
    repository_count: int
    language_count: int
    license_count: int
    funnel: list[Band]
    reasons: list[Bar]
    languages: list[Bar]
    tiles: list[tuple[Tile, Bar]]
    licenses: list[Bar]
    kinds: list[Bar]
    splits: list[Bar]
    redactions: list[Bar]
    owners: list[Bar]
    sources: list[tuple[str, str, int, int]]  # the largest
    source_count: int
    sizes: Histogram
    clusters: Histogram | None
    cluster_count: int
    cluster_files: int
    cluster_largest: int
    years: Histogram | None
    signals: list[Histogram]
    quantiles: list[tuple[str, str, str, str]]  # signal, a tenth lies below, half, nine tenths
    sampling: list[Sampling]
    marked: Mapping[str, int]
    settings: list[tuple[str, str]]
    counts: list[tuple[str, int]]

    @property
    def sampling_widest(self) -> float:
        """The largest share in `sampling`, in percent."""
        return max((max(row.natural, row.drawn) for row in self.sampling), default=0.0) or 1.0


def write_card(corpus: Path, account: Account) -> None:
    """Write `card.md`, `card.html` and `samples.html` beside the shards."""
    tally = Tally()
    for batch in _batches(corpus):
        tally.add(batch)
    card = draw_up(tally, account)
    languages = [name for name, _ in _ordered(tally.by["language"])]
    pages = {
        CARD: page.render("card.md", card=card),
        CARD_PAGE: page.render("card.html", card=card, hues=page.hues(languages)),
        SAMPLES_PAGE: page.samples(corpus, languages),
    }
    for name, text in pages.items():
        (corpus / name).write_bytes(text.encode())


def draw_up(tally: Tally, account: Account) -> Card:
    """The facts of the card, from what the shards hold and what the build counted."""
    total, held_out = _total(tally.by["split"].values()), tally.by["split"].get(HELD_OUT, Amount())
    repositories, owners = _origins(account.sources)
    languages = ranked(_named(tally.by["language"], NO_LANGUAGE))
    licenses = _named(tally.by["license"], NO_LICENSE)
    tiles = treemap([bar.size_bytes or 1 for bar in languages], TREEMAP_ASPECT) if languages else []
    return Card(
        total=total,
        held_out=held_out,
        read=account.counts.get("read", max((came for _, came, _ in account.steps), default=total.files)),
        owner_count=sum(amount.files > 0 for name, amount in owners.items() if name != NO_OWNER),
        repository_count=sum(amount.files > 0 for amount in repositories.values()),
        language_count=len(tally.by["language"]),
        license_count=len(licenses.keys() - {NO_LICENSE}),
        funnel=funnel(account.steps),
        reasons=_counted(account.counts, "dropped_"),
        languages=languages,
        tiles=list(zip(tiles, languages, strict=True)),
        licenses=ranked(licenses, by_files=True),
        kinds=ranked(tally.by["kind"]),
        splits=ranked(tally.by["split"]),
        redactions=_counted(account.counts, "redacted_"),
        owners=ranked(owners),
        sources=sorted(account.sources, key=lambda source: (-source[3], *source[:2]))[:TOP_SOURCES],
        source_count=len(account.sources),
        sizes=histogram("File size", _SIZES, _bins(tally, "size_bytes", _SIZES)),
        clusters=_clusters(account.clusters),
        cluster_count=len(account.clusters),
        cluster_files=sum(account.clusters),
        cluster_largest=max(account.clusters, default=0),
        years=_years(tally.years),
        signals=list(_signals(tally)),
        quantiles=list(_quantiles(tally)),
        sampling=[*_sampling(tally.by["language"]), *_sampling(tally.by["kind"])],
        marked=tally.marked,
        settings=sorted(_flat("", account.settings)),
        counts=sorted(account.counts.items()),
    )


def ranked(amounts: Mapping[str, Amount], top: int = TOP, *, by_files: bool = False) -> list[Bar]:
    """The largest by bytes or by files, equal ones by name; beyond `top` they are one row."""
    order = _ordered(amounts, by_files=by_files)
    rows = order[:top]
    if rest := order[top:]:
        rows.append((f"{len(rest):,} more", _total(amount for _, amount in rest)))
    measures = [amount.files if by_files else amount.size_bytes for _, amount in rows]
    longest, whole = max(measures, default=0) or 1, sum(measures) or 1
    return [
        Bar(name, amount.files, amount.size_bytes, round(100 * measure / longest, 2), 100 * measure / whole)
        for (name, amount), measure in zip(rows, measures, strict=True)
    ]


def owner_of(repository: str) -> str:
    """Who owns a repository: `python` of https://github.com/python/cpython; "" for a folder or an archive."""
    match = re.match(r"(?:[a-z+]+://(?:[^/@]*@)?[^/]+/|[^/@:]+@[^/:]+:)?([^/:]+)/[^/]", repository)
    return match.group(1) if match else ""


def _ordered(amounts: Mapping[str, Amount], *, by_files: bool = False) -> list[tuple[str, Amount]]:
    return sorted(amounts.items(), key=lambda item: (-(item[1].files if by_files else item[1].size_bytes), item[0]))


def _total(amounts: Iterable[Amount]) -> Amount:
    total = Amount()
    for amount in amounts:
        total.add(amount.files, amount.size_bytes, amount.weighted, amount.weights)
    return total


def _named(amounts: Mapping[str, Amount], nameless: str) -> Amounts:
    return {name or nameless: amount for name, amount in amounts.items()}


def _counted(counts: Mapping[str, int], prefix: str) -> list[Bar]:
    """What is counted under names with this prefix, all of it: every reason has its row."""
    amounts = {name.removeprefix(prefix): Amount(count) for name, count in counts.items() if name.startswith(prefix)}
    return ranked(amounts, len(amounts), by_files=True)


def _origins(sources: Iterable[tuple[str, str, int, int]]) -> tuple[Amounts, Amounts]:
    """Amounts by repository and by owner; a repository that was read at several commits is one."""
    repositories: Amounts = defaultdict(Amount)
    owners: Amounts = defaultdict(Amount)
    for repository, _, files, size_bytes in sources:
        repositories[repository].add(files, size_bytes)
        owners[owner_of(repository) or NO_OWNER].add(files, size_bytes)
    return repositories, owners


def _bins(tally: Tally, column: str, scale: Scale) -> NDArray[np.int64]:
    return tally.bins.get(column, np.zeros(len(scale.names), np.int64))


def _clusters(sizes: Sequence[int]) -> Histogram | None:
    counts = _CLUSTERS.count(np.array(sizes, np.float64))
    return histogram("Files in a cluster", _CLUSTERS, counts) if sizes else None


def _years(years: Mapping[int, int]) -> Histogram | None:
    if not years:
        return None
    last = max(years)
    first = max(min(years), last - _MOST_YEARS + 1)
    scale = Scale.named([(year, str(year)) for year in range(first, last + 1)], label_every=4)
    counts = np.zeros(len(scale.names), np.int64)
    for year, count in years.items():
        counts[max(year - first, 0)] += count
    return histogram("Year of the revision", scale, counts)


def _signals(tally: Tally) -> Iterator[Histogram]:
    for signal in SIGNALS:
        counts = _bins(tally, signal.column, signal.scale)
        median = signal.scale.quantile(counts, 0.5)
        if median is not None:
            note = f"median about {signal.form.format(median)}, {int(counts.sum()):,} files"
            yield histogram(signal.title, signal.scale, counts, note=note)


def _quantiles(tally: Tally) -> Iterator[tuple[str, str, str, str]]:
    for signal in (Signal("size_bytes", "File size in bytes", _SIZES, "{:,.0f}"), *SIGNALS):
        counts = _bins(tally, signal.column, signal.scale)
        found = [signal.scale.quantile(counts, share) for share in (0.1, 0.5, 0.9)]
        low, middle, high = ("-" if value is None else signal.form.format(value) for value in found)
        if middle != "-":
            yield signal.title, low, middle, high


def _sampling(amounts: Mapping[str, Amount]) -> Iterator[Sampling]:
    """Those that are not drawn at their natural share; nothing where no weight differs from 1."""
    total = _total(amounts.values())
    for name, amount in _ordered(amounts):
        low, high = amount.weights
        if (low, high) != (1.0, 1.0):
            weight = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            natural, drawn = amount.size_bytes / (total.size_bytes or 1), amount.weighted / (total.weighted or 1)
            yield Sampling(name, weight, 100 * natural, 100 * drawn)


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Settings under dotted names, each value as JSON."""
    if isinstance(value, Mapping) and (value or not name):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    else:
        yield name, json.dumps(value, ensure_ascii=False, default=str)


def _numbers(batch: pa.RecordBatch, column: str) -> NDArray[np.float64]:
    """A column as floats, NaN where it is null."""
    values: NDArray[np.float64] = pc.cast(batch.column(column), pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _batches(corpus: Path) -> Iterator[pa.RecordBatch]:
    columns = [*_GROUPS, *_MEASURES, *(signal.column for signal in SIGNALS)]
    for shard in page.shards(corpus):
        with pq.ParquetFile(shard) as file:
            if missing := sorted(set(columns) - set(file.schema_arrow.names)):
                raise ArtifactError(f"{shard} has no column {', '.join(missing)}", hint="rebuild it")
            yield from file.iter_batches(batch_size=_ROWS, columns=columns)
