"""The files of a corpus become windows: a stretch of tokens to be given back, with what stands before and after it.

Every choice is drawn with a stored seed. Strata are drawn each by itself, so that a rare one has its figures too:
"random" over all files; by the number of files that a row stands for; by what the stretch is.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core.console import progress
from starsmith.core.errors import ArtifactError
from starsmith.core.records import TRAIN, SourceFile, read_files
from starsmith.evaluation.content_classes import RARE, ContentClass, header_end, is_data
from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

RANDOM = "random"
BUCKETS = {"1": (1, 1), "2-4": (2, 4), "5-16": (5, 16), "17+": (17, 2**31)}  # name -> least and most
CLASS_FILES = 1_000  # looked through for the rare classes
MOST_OF_A_CLASS = 4  # windows of one file, where there are enough files
MOST_TRIED = 64  # stretches of one file that are looked at for a class
SPARE = 2  # times as many files are read as windows are wanted: some are too short
_FILES_AT_ONCE = 64  # encoded in one call

Lots = dict[str, "_Lot"]
Encoded = Iterator[tuple[int, SourceFile, list[int]]]  # row, file, its tokens


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How long the parts of a window are, in tokens."""

    least_before: int  # a window begins no earlier in its file
    most_before: int
    suffix: int  # to be given back
    most_after: int


@dataclass(frozen=True)
class Window:
    """A stretch of one file."""

    swhid: str
    repository: str
    path: str
    license: str
    cluster_size: int | None  # files that the row stands for; None: the corpus does not say
    token: int  # place of the first token in the file
    start: int  # the same in bytes of the row's text
    end: int
    line: int
    kind: ContentClass
    text: str
    words: tuple[bool, bool]  # whether a word goes on across its start, and across its end
    before: tuple[int, ...]
    ids: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def id(self) -> str:
        """Content and place: equal in every corpus that has the file."""
        return f"{self.swhid}@{self.token}"


@dataclass(frozen=True)
class Drawn:
    """The windows of one side, and of which strata each is."""

    windows: list[Window]
    strata: dict[str, list[int]]  # name -> places in `windows`
    files: int  # that there were to draw from


@dataclass(frozen=True)
class Rows:
    """The light columns of a corpus, in stored order."""

    swhids: pa.ChunkedArray
    training: NDArray[np.bool_]
    cluster_sizes: NDArray[np.int64]  # 0: the corpus does not say


@dataclass
class _Lot:
    """The files of one stratum, in drawn order, and what they gave."""

    wanted: int
    per_file: int
    rank: dict[int, int]  # row -> its turn
    kind: ContentClass | None = None
    found: list[tuple[int, int, Window]] = field(default_factory=list)  # round, turn, window


def bucket_of(number: int | None) -> str | None:
    """The name of the bucket that a number of copies falls in."""
    return next((name for name, (low, high) in BUCKETS.items() if number and low <= number <= high), None)


def read_rows(corpus: Path) -> Rows:
    """Split and cluster size of every row; a table without the latter column says nothing of duplicates."""
    tables = [_light_columns(shard) for shard in sorted((corpus / "shards").glob("*.parquet"))]
    if not tables:
        raise ArtifactError(f"{corpus} has no Parquet shards", hint="build it: starsmith corpus build SOURCE --out DIR")
    table = pa.concat_tables(tables)
    training = pc.equal(table["split"], TRAIN).to_numpy()
    return Rows(table["swhid"], training, table["cluster_size"].fill_null(0).to_numpy().astype(np.int64))


def _light_columns(shard: Path) -> pa.Table:
    try:
        has_sizes = "cluster_size" in pq.read_schema(shard).names
        table = pq.read_table(shard, columns=["swhid", "split", *(["cluster_size"] if has_sizes else [])])
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{shard} is not readable Parquet: {error}", hint="rebuild the corpus") from None
    return table if has_sizes else table.append_column("cluster_size", pa.nulls(len(table), pa.int32()))


@dataclass(frozen=True)
class Pool:
    """The files that windows may be drawn from."""

    corpus: Path
    rows: Rows
    chosen: NDArray[np.int64]  # numbers of the rows


def draw(pool: Pool, tokenizer: Tokenizer, shape: Shape, *, wanted: Mapping[str, int], seed: Sequence[int]) -> Drawn:
    """Windows of the files of a pool, as many of each stratum as `wanted` says, or as there are.

    Windows of one stratum never overlap, and each file gives one before any gives a second.
    """
    lots = _lots(pool, wanted, seed)
    needed = {row for lot in lots.values() for row in lot.rank}
    lengths = _byte_lengths(tokenizer)
    with progress("audit: choosing windows", total=len(needed), unit="files") as advance:
        for row, file, ids in _encoded(pool.corpus, tokenizer, needed):
            size = int(pool.rows.cluster_sizes[row])
            document = _Document(file, np.asarray(ids, np.int64), lengths, size or None, shape)
            for number, lot in enumerate(lots.values()):
                if row in lot.rank:
                    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([*seed, number, row])))
                    lot.found += [(turn, lot.rank[row], one) for turn, one in enumerate(document.windows(lot, random))]
            advance()
    return _gather(lots, len(pool.chosen))


def _lots(pool: Pool, wanted: Mapping[str, int], seed: Sequence[int]) -> Lots:
    lots: Lots = {}
    for number, (name, count) in enumerate(wanted.items()):
        kind = next((one for one in RARE if one == name), None)
        low, high = BUCKETS.get(name, (0, 2**31))
        sizes = pool.rows.cluster_sizes[pool.chosen]
        members = pool.chosen[(sizes >= low) & (sizes <= high)]
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([*seed, number])))
        order = random.permutation(members)[: CLASS_FILES if kind else SPARE * count].tolist()
        per_file = max(math.ceil(SPARE * count / max(len(order), 1)), MOST_OF_A_CLASS if kind else 1)
        lots[name] = _Lot(count, per_file, {row: turn for turn, row in enumerate(order)}, kind)
    return lots


def _gather(lots: Lots, files: int) -> Drawn:
    """The first windows of each stratum; one that several strata drew is scored once."""
    places: dict[str, int] = {}
    windows: list[Window] = []
    strata: dict[str, list[int]] = defaultdict(list)
    for name, lot in lots.items():
        strata[name] = []
        for _, _, window in sorted(lot.found, key=lambda found: found[:2])[: lot.wanted]:
            place = places.setdefault(window.id, len(windows))
            if place == len(windows):
                windows.append(window)
            if place not in strata[name]:  # two rows may have one content
                strata[name].append(place)
    return Drawn(windows, dict(strata), files)


@dataclass(frozen=True)
class _Document:
    """A file as tokens, with the bytes that each stands for."""

    file: SourceFile
    ids: NDArray[np.int64]  # (T,)
    lengths: NDArray[np.int64]  # (V,) bytes of each token
    cluster_size: int | None
    shape: Shape

    @cached_property
    def content(self) -> bytes:
        return self.file.text.encode()

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(T + 1,) the byte at which each token begins, and the end."""
        return np.concatenate((np.zeros(1, np.int64), np.cumsum(self.lengths[self.ids])))

    @cached_property
    def header(self) -> int:
        """Bytes of the licence header."""
        return len(self.file.text[: header_end(self.file.text)].encode())

    def windows(self, lot: _Lot, random: np.random.Generator) -> Iterator[Window]:
        """At most `lot.per_file` windows, in an order that is drawn."""
        starts = self._starts(lot.kind, random).tolist()
        if lot.kind is None:
            fitting = iter(starts)
        else:
            fitting = (token for token in starts[:MOST_TRIED] if self._kind(token) == lot.kind)
        for token in itertools.islice(fitting, lot.per_file):
            yield self._window(token)

    def _starts(self, kind: ContentClass | None, random: np.random.Generator) -> NDArray[np.int64]:
        """First tokens of stretches that do not overlap, in drawn order; of a header, those within it."""
        size, least = self.shape.suffix, self.shape.least_before
        in_header = int(np.searchsorted(self.offsets, self.header, side="right")) - 1 if kind == "header" else None
        last = len(self.ids) if in_header is None else in_header
        room = last - least - size
        if room < 0:
            return np.zeros(0, np.int64)
        shift = int(random.integers(min(size, room + 1)))
        starts: NDArray[np.int64] = random.permutation(np.arange(least + shift, last - size + 1, size))
        return starts

    def _span(self, token: int) -> tuple[int, int]:
        return int(self.offsets[token]), int(self.offsets[token + self.shape.suffix])

    def _text(self, token: int) -> str:
        start, end = self._span(token)
        return self.content[start:end].decode("utf-8", errors="replace")

    def _kind(self, token: int) -> ContentClass:
        if self._span(token)[1] <= self.header:
            return "header"
        return "data" if is_data(self._text(token)) else "code"

    def _window(self, token: int) -> Window:
        shape, file = self.shape, self.file
        start, end = self._span(token)
        end_token = token + shape.suffix
        return Window(
            **{name: getattr(file, name) for name in ("swhid", "repository", "path", "license")},
            cluster_size=self.cluster_size,
            token=token,
            start=start,
            end=end,
            line=self.content.count(b"\n", 0, start) + 1,
            kind=self._kind(token),
            text=self._text(token),
            words=(_in_word(self.content, start), _in_word(self.content, end)),
            before=tuple(self.ids[max(token - shape.most_before, 0) : token].tolist()),
            ids=tuple(self.ids[token:end_token].tolist()),
            after=tuple(self.ids[end_token : end_token + shape.most_after].tolist()),
        )


def _in_word(content: bytes, place: int) -> bool:
    """Whether a word of the code goes on across a border between two bytes."""
    around = content[max(place - 1, 0) : place + 1]
    return len(around) == 2 and all(byte >= 128 or chr(byte).isalnum() or byte == ord("_") for byte in around)


def _byte_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """(V,) bytes of the row's text that each token stands for; a control token stands in it by its name."""
    special = [len(token) for token in SPECIAL_TOKENS]
    plain = [len(tokenizer.decode_bytes([number])) for number in range(len(special), tokenizer.vocab_size)]
    return np.array(special + plain, np.int64)


def _encoded(corpus: Path, tokenizer: Tokenizer, needed: set[int]) -> Encoded:
    batch: list[tuple[int, SourceFile]] = []
    for row, file in enumerate(read_files(corpus)):
        if row in needed:
            batch.append((row, file))
        if len(batch) == _FILES_AT_ONCE:
            yield from _encode(batch, tokenizer)
            batch = []
    yield from _encode(batch, tokenizer)


def _encode(batch: Iterable[tuple[int, SourceFile]], tokenizer: Tokenizer) -> Encoded:
    files = list(batch)
    plain = iter(tokenizer.encode_batch([file.text for _, file in files if not file.controls]))
    for row, file in files:
        yield row, file, tokenizer.encode_marked(file.text, file.controls) if file.controls else next(plain)
