"""A piece of code becomes the list of corpus places it is equal to, with file, lines and licence.

Fingerprints propose, the text decides: each candidate is compared token by token with the corpus and extended as far
as it is equal, so nothing unequal is reported. Every shingle of the query is looked up, not only the winnowed ones:
then each stored fingerprint that falls into a copy finds it, and what is found does not depend on the text around.
What this can say is that text stands in the corpus, not that the model wrote it because of that.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError
from starsmith.core.hashing import TOKEN, code_tokens, shingles
from starsmith.provenance.fingerprints import FingerprintTable

Kind = Literal["source", "common", "low-information"]

MAX_SOURCES = 5  # files named for one match
COMMON_SAMPLES = 8  # places compared when a fingerprint has too many to compare all
DISTINCT_WORDS = 8  # fewer in a match of 24 tokens or more say nothing: separators, tables of numbers
_WORD = re.compile(rb"[A-Za-z_\x80-\xff]")  # begins with one of these: neither number nor punctuation
_STRETCH_BYTES = 512  # of corpus text split into tokens at a time, going backwards


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
        return {**asdict(self), "sources": [asdict(source) for source in self.sources]}


class Attributor:
    """An opened index. Reading only, so several threads may share it."""

    def __init__(self, table: FingerprintTable, *, max_places: int) -> None:
        self._table = table
        self._max_places = max_places
        self.shortest_tokens = table.grams.k  # shorter copies are not reported ...
        self.guaranteed_tokens = table.grams.guarantee  # ... and none of this length or more is missed

    @classmethod
    def open(cls, index_dir: Path) -> "Attributor":
        """Open an index, every byte of which is checked first (about a second for a gigabyte)."""
        manifest = artifact.read(index_dir, kind="index")
        if problems := artifact.verify(index_dir):
            raise ArtifactError(problems[0], hint="rebuild it: starsmith index CORPUS --out DIR")
        return cls(FingerprintTable(index_dir), max_places=manifest.config["max_places"])

    def attribute(self, text: str, *, start: int = 0) -> list[Match]:
        """Matches in `text` that reach beyond character `start`, by where they begin.

        None lies inside another; two may overlap when they come from different places.
        """
        query = _Query(text)
        spans = [span for span in _spans(self._align(query)) if query.ends[span.end - 1] > start]
        kinds: dict[Kind, list[_Span]] = defaultdict(list)
        for span in _maximal(spans):
            kinds[self._kind(query, span)].append(span)
        # Repetitive text equals itself at every shift: of those overlapping stretches, as few as cover the same.
        kept = {kind: found if kind == "source" else _thin(found) for kind, found in kinds.items()}
        matches = [self._match(query, span, kind) for kind, found in kept.items() for span in found]
        return sorted(matches, key=lambda match: match.start)

    def _align(self, query: "_Query") -> Iterator["_Alignment"]:
        """Every place that shares a fingerprint with the query, compared and extended, each once."""
        table, k = self._table, self._table.grams.k
        firsts, lasts = table.lookup(shingles(query.hashes, k))
        open_in: dict[int, list[_Alignment]] = defaultdict(list)  # document -> what may still cover a later token
        for token in np.flatnonzero(lasts > firsts).tolist():
            first, last = int(firsts[token]), int(lasts[token])
            common = last - first > self._max_places
            for place in table.positions[first : min(last, first + COMMON_SAMPLES) if common else last].tolist():
                document = table.document_at(place)
                near = open_in[document] = [found for found in open_in[document] if found.end > token]
                found = next((found for found in near if found.covers(token, place)), None)
                if found is None:
                    found = self._extend(query, token, place, document)
                    if found is None:
                        continue
                    near.append(found)
                    yield found
                found.fingerprint_places.append(last - first)

    def _extend(self, query: "_Query", token: int, place: int, document: int) -> "_Alignment | None":
        """The longest equal stretch through `token` and `place`; None when not even a fingerprint's length is equal."""
        text, words = self._table.text, query.words
        low, high = self._table.bounds(document)
        places: list[int] = []
        last = place
        for number, found in enumerate(TOKEN.finditer(text, place, high), start=token):
            if number == len(words) or found.group() != words[number]:
                break
            places.append(found.start())
            last = found.end()
        if len(places) < self._table.grams.k:
            return None
        before: list[int] = []
        for number, (begin, end) in enumerate(_tokens_before(text, low, place), start=1):
            if number > token or text[begin:end] != words[token - number]:
                break
            before.append(begin)
        return _Alignment(token - len(before), [*reversed(before), *places], last, document)

    def _kind(self, query: "_Query", span: "_Span") -> Kind:
        if span.fewest_places > self._max_places:
            return "common"
        words = {word for word in query.words[span.start : span.end] if _WORD.match(word)}
        return "source" if len(words) >= min(DISTINCT_WORDS, self._table.grams.k // 3) else "low-information"

    def _match(self, query: "_Query", span: "_Span", kind: Kind) -> Match:
        files: dict[int, _Alignment] = {}
        for alignment in sorted(span.alignments, key=lambda alignment: alignment.places[0]):
            files.setdefault(alignment.document, alignment)
        return Match(
            start=int(query.starts[span.start]),
            end=int(query.ends[span.end - 1]),
            tokens=span.end - span.start,
            kind=kind,
            count=span.fewest_places if kind == "common" else len(span.alignments),
            sources=tuple(self._source(alignment) for alignment in list(files.values())[:MAX_SOURCES]),
        )

    def _source(self, alignment: "_Alignment") -> Source:
        origin = self._table.origin(alignment.document)
        first = bytes(self._table.text[origin.pop("offset") : alignment.places[0]]).count(b"\n") + 1
        within = bytes(self._table.text[alignment.places[0] : alignment.last]).count(b"\n")
        return Source(**origin, first_line=first, last_line=first + within)


class _Query:
    """The text that is asked about, as code tokens."""

    def __init__(self, text: str) -> None:
        content = text.encode("utf-8", "surrogatepass")
        tokens = code_tokens(content)
        self.hashes = tokens.hashes
        self.words = [content[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True)]
        # Characters that begin before each byte; tokens begin and end between characters.
        begins = (np.frombuffer(content, np.uint8) & 0xC0) != 0x80
        characters = np.concatenate(([0], np.cumsum(begins)))
        self.starts = characters[tokens.starts]
        self.ends = characters[tokens.ends]


@dataclass
class _Alignment:
    """Query tokens from `start` on that are equal, one by one, to the corpus tokens at `places`."""

    start: int
    places: list[int]  # byte offset in the text store of each token
    last: int  # byte offset after the last token
    document: int

    def __post_init__(self) -> None:
        self.fingerprint_places: list[int] = []  # of each fingerprint in it: in how many places that is

    @property
    def end(self) -> int:
        return self.start + len(self.places)

    def covers(self, token: int, place: int) -> bool:
        return self.start <= token < self.end and self.places[token - self.start] == place


@dataclass
class _Span:
    """Query tokens [start, end) and all the places that are equal to just these."""

    start: int
    end: int
    alignments: list[_Alignment]

    @cached_property
    def fewest_places(self) -> int:
        """Places of its rarest fingerprint: more than that, the whole cannot have."""
        return min(min(alignment.fingerprint_places) for alignment in self.alignments)


def _spans(alignments: Iterable[_Alignment]) -> list[_Span]:
    groups: dict[tuple[int, int], list[_Alignment]] = defaultdict(list)
    for alignment in list(alignments):
        groups[alignment.start, alignment.end].append(alignment)
    return [_Span(start, end, group) for (start, end), group in groups.items()]


def _maximal(spans: Sequence[_Span]) -> list[_Span]:
    """Those inside no other, by start (and so by end)."""
    kept: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return kept


def _thin(spans: Sequence[_Span]) -> list[_Span]:
    """The fewest of some maximal spans that cover as many tokens."""
    kept: list[_Span] = []
    for span in spans:
        while len(kept) > 1 and kept[-2].end >= span.start:
            kept.pop()
        kept.append(span)
    return kept


def _tokens_before(text: memoryview, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Where the code tokens of text[low:high] begin and end, the last one first."""
    size = _STRETCH_BYTES
    while high > low:
        first = max(high - size, low)
        spans = [found.span() for found in TOKEN.finditer(text, first, high)]
        high = first
        if first > low and spans and spans[0][0] == first:  # perhaps the end of a longer token
            _, high = spans.pop(0)
            size *= 2
        yield from reversed(spans)
