"""A piece of code becomes the list of corpus places it is equal to, with file, lines and licence.

Fingerprints propose, the text decides: each candidate is compared token by token with the corpus and extended as far
as it is equal (`provenance.matching`), so nothing unequal is reported. What this can say is that text stands in the
corpus, not that the model wrote it because of that.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError
from starsmith.core.winnowing import Scan, scan
from starsmith.provenance import licence_texts, matching
from starsmith.provenance.fingerprints import COMMON_SAMPLES, FingerprintTable
from starsmith.provenance.links import url_of
from starsmith.provenance.tombstones import Tombstones

Kind = Literal["source", "common", "licence", "low-information"]

MAX_SOURCES = 5  # files named for one match
DISTINCT_WORDS = 8  # fewer in a match of 24 tokens or more say nothing: separators, tables of numbers
LICENCE_SHARE = 0.5  # of a match's words that are a licence's wording, from which on it may be nothing else


@dataclass(frozen=True)
class Source:
    """A file of the corpus, and the lines of it that a match is equal to."""

    swhid: str
    repository: str
    commit: str
    path: str
    first_line: int
    last_line: int
    license: str
    url: str  # of these lines at the repository's host; "" where that is not known


@dataclass(frozen=True)
class Match:
    """A stretch of the text that stands in the corpus, as far as it is equal."""

    start: int  # character offset in the text
    end: int
    tokens: int  # code tokens in it
    kind: Kind
    count: int  # places in the corpus; of common code, those of its rarest fingerprint
    sources: tuple[Source, ...]  # the first files in the order of the corpus

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "sources": [asdict(source) for source in self.sources]}


@dataclass(frozen=True)
class Stretch:
    """Tokens [start, end) of a query and the places in the text store that are equal to them, or to some of them."""

    start: int
    end: int
    common: bool
    count: int  # places in the corpus
    places: tuple[tuple[int, int, int], ...]  # first byte, byte after the last, document; ascending


class Attributor:
    """An opened index. Reading only, so several threads may share it."""

    def __init__(self, table: FingerprintTable, *, max_places: int, tombstones: Tombstones | None = None) -> None:
        self._table = table
        self._tombstones = tombstones or Tombstones(None, len(table.documents))
        self._known = licence_texts.shipped()
        self._index = matching.Index(
            table.directory,
            table.remainders,
            table.positions,
            table.common,
            table.counts,
            table.text,
            table.offsets,
            self._tombstones.removed(),
            table.grams.k,
            table.grams.window,
            max_places,
            min(COMMON_SAMPLES, max_places),
        )
        self.shortest_tokens = table.grams.k  # shorter copies are not reported ...
        self.guaranteed_tokens = table.grams.guarantee  # ... and none of this length or more is missed
        self._warm_up()

    @classmethod
    def open(cls, index_dir: Path) -> "Attributor":
        """Open an index, every byte of which is checked first (about a second for a gigabyte)."""
        manifest = artifact.read(index_dir, kind="index")
        if problems := artifact.verify(index_dir):
            raise ArtifactError(problems[0], hint="rebuild it: starsmith index CORPUS --out DIR")
        table = FingerprintTable(index_dir)
        tombstones = Tombstones(index_dir, len(table.documents))
        return cls(table, max_places=manifest.config["max_places"], tombstones=tombstones)

    def _warm_up(self) -> None:
        """Load the compiled code, which takes longer than a query, by a query that takes every way through it."""
        _, high = self._table.bounds(0) if len(self._table.documents) else (0, 0)
        content = self._table.text[: min(high, 2_000)].tobytes().decode(errors="ignore").encode()
        self.attribute(content.decode())
        samples = np.zeros((0, matching.SAMPLES + 2 * self._index.samples), np.int64)
        matching.joined(_query(self.scan(content), content), self._index, samples)

    def attribute(self, text: str, *, start: int = 0, nested_tokens: int | None = None) -> list[Match]:
        """Matches in `text` that reach beyond character `start`, by where they begin.

        None lies inside another; two may overlap when they come from different places. So a file that has less of a
        stretch than another one is not named, unless `nested_tokens` asks for stretches of so many tokens or more that
        do lie inside others: who judges the licence of a stretch must see all that have a large part of it.
        """
        content = text.encode("utf-8", "surrogatepass")
        tokens = self.scan(content)
        stretches = self.find(tokens, content, nested_tokens=nested_tokens)
        if not stretches:
            return []
        characters = characters_of(content) if len(content) > len(text) else None
        return self.describe(tokens, content, stretches, characters, start)

    def scan(self, content: bytes) -> Scan:
        """Tokens and fingerprints of a text."""
        return scan(content, self._table.grams.k, self._table.grams.window)

    def find(self, tokens: Scan, content: bytes, *, nested_tokens: int | None = None) -> list[Stretch]:
        """The stretches that stand in the corpus, by start; inside another only those of `nested_tokens` or more."""
        index, query = self._current(), _query(tokens, content)
        alignments, grams = matching.find(query, index)
        if not len(alignments) and not len(grams):
            return []
        grouped = _grouped(alignments.tolist())
        if len(grouped) == 1 and not len(grams):  # as it is for most copies, and this is on the way to the editor
            return grouped
        found = _maximal(grouped)
        common = [
            Stretch(start, end, True, count, places)
            for start, end, count, places in (self._common(query, index, grams) if len(grams) else ())
        ]
        shown = [one for one in common if not _lies_inside(found, one.start, one.end)]
        if nested_tokens is not None:
            kept = {id(one) for one in (*found, *shown)}
            shown += [
                one for one in (*grouped, *common) if one.end - one.start >= nested_tokens and id(one) not in kept
            ]
        return sorted([*found, *shown], key=lambda stretch: (stretch.start, stretch.end))

    def describe(
        self,
        tokens: Scan,
        content: bytes,
        stretches: Sequence[Stretch],
        characters: NDArray[np.int64] | None,
        start: int,
    ) -> list[Match]:
        """Stretches as matches, at character offsets; those that end before character `start` left out.

        characters   (B + 1,) how many characters begin before each byte; None when each has one byte
        """

        def character(byte: int) -> int:
            return int(characters[byte]) if characters is not None else byte

        sources: dict[tuple[int, int, int], Source] = {}  # repetitive text goes back to the same few places

        def source(place: tuple[int, int, int]) -> Source:
            if place not in sources:
                sources[place] = self._source(*place)
            return sources[place]

        kinds: dict[Kind, list[Stretch]] = defaultdict(list)
        for stretch in stretches:
            if character(int(tokens.ends[stretch.end - 1])) > start:
                kinds[self.kind(tokens, content, stretch)].append(stretch)
        # Repetitive text equals itself at every shift: of those overlapping stretches, as few as cover the same.
        kept = {
            kind: found if kind == "source" or len(found) == 1 else _thin(_maximal(found))
            for kind, found in kinds.items()
        }
        matches = [
            Match(
                start=character(int(tokens.starts[stretch.start])),
                end=character(int(tokens.ends[stretch.end - 1])),
                tokens=stretch.end - stretch.start,
                kind=kind,
                count=stretch.count,
                sources=tuple(map(source, _first_files(stretch))),
            )
            for kind, found in kept.items()
            for stretch in found
        ]
        return sorted(matches, key=lambda match: (match.start, match.end))

    def kind(self, tokens: Scan, content: bytes, stretch: Stretch) -> Kind:
        """What a stretch is: the wording of a licence, common, hardly any words, or a source."""
        data, within = np.frombuffer(content, np.uint8), slice(stretch.start, stretch.end)
        few = min(DISTINCT_WORDS, self.shortest_tokens // 3)
        rest = self.guaranteed_tokens
        found = licence_texts.wording(data, tokens.starts[within], tokens.ends[within], self._known, few, rest)
        if found.share >= LICENCE_SHARE and found.longest_rest < rest:
            return "licence"
        if stretch.common and stretch.count > self._index.max_places:
            return "common"
        if found.distinct < few:
            return "low-information"
        return "common" if stretch.common else "source"  # common: in the query itself

    def source_text(self, swhid: str, first_line: int, last_line: int) -> str | None:
        """These lines of a training file, counted from 1; None when the index has no such file, or it is withdrawn."""
        removed = self._tombstones.removed()
        for document in self._table.find_documents(swhid):
            if not removed[document]:
                low, high = self._table.bounds(document)
                lines = self._table.text[low:high].tobytes().decode().split("\n")
                return "\n".join(lines[max(first_line - 1, 0) : last_line])
        return None

    def _current(self) -> matching.Index:
        """The index, without what was withdrawn since it was opened."""
        removed = self._tombstones.removed()
        if removed is not self._index.removed:
            self._index = self._index._replace(removed=removed)
        return self._index

    def _common(
        self, query: matching.Query, index: matching.Index, grams: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, int, tuple[tuple[int, int, int], ...]]]:
        """Start, end, count and places of each run of common fingerprints; the places are those of the rarest."""
        for start, end, count, rarest in matching.joined(query, index, grams).tolist():
            samples = grams[rarest, matching.SAMPLES :].reshape(-1, 2).tolist()
            places = [(place, last, self._table.document_at(place)) for place, last in samples if place >= 0]
            yield start, end, count, tuple(places)

    def _source(self, first: int, last: int, document: int) -> Source:
        """A document, and its lines that hold bytes [first, last) of the text store."""
        origin = self._table.origin(document)
        line, last_line = matching.lines_of(self._table.text, self._table.bounds(document)[0], first, last)
        url = url_of(origin["repository"], origin["commit"], origin["path"], line, last_line)
        return Source(**origin, first_line=line, last_line=last_line, url=url)


def _query(tokens: Scan, content: bytes) -> matching.Query:
    data = np.frombuffer(content, np.uint8)
    return matching.Query(data, tokens.starts, tokens.ends, tokens.chosen, tokens.hashes)


def characters_of(content: bytes) -> NDArray[np.int64]:
    """(B + 1,) characters of a UTF-8 text that begin before each byte; tokens begin and end between characters."""
    begins = (np.frombuffer(content, np.uint8) & 0xC0) != 0x80
    return np.concatenate(([0], np.cumsum(begins)))


def _grouped(alignments: Sequence[Sequence[int]]) -> list[Stretch]:
    if len(alignments) == 1:
        ((start, end, place, last, document, _),) = alignments
        return [Stretch(start, end, False, 1, ((place, last, document),))]
    groups: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    for start, end, place, last, document, _ in alignments:
        groups[start, end].append((place, last, document))
    return [Stretch(start, end, False, len(found), tuple(found)) for (start, end), found in groups.items()]


def _maximal(stretches: Sequence[Stretch]) -> list[Stretch]:
    """Those inside no other, by start (and so by end)."""
    kept: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda stretch: (stretch.start, -stretch.end)):
        if not kept or stretch.end > kept[-1].end:
            kept.append(stretch)
    return kept


def _first_files(stretch: Stretch) -> list[tuple[int, int, int]]:
    """The first place in each of the first files."""
    files: dict[int, tuple[int, int, int]] = {}
    for place in stretch.places:
        files.setdefault(place[2], place)
        if len(files) == MAX_SOURCES:
            break
    return list(files.values())


def _lies_inside(maximal: Sequence[Stretch], start: int, end: int) -> bool:
    """Whether one of some maximal stretches, whose ends so ascend as their starts do, holds tokens [start, end)."""
    before = bisect_right(maximal, start, key=lambda stretch: stretch.start)
    return before > 0 and maximal[before - 1].end >= end


def _thin(stretches: Sequence[Stretch]) -> list[Stretch]:
    """The fewest of some maximal stretches that cover as many tokens."""
    kept: list[Stretch] = []
    for stretch in stretches:
        while len(kept) > 1 and kept[-2].end >= stretch.start:
            kept.pop()
        kept.append(stretch)
    return kept
