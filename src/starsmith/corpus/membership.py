"""Membership: whether an owner, a repository, a content or a file is in a corpus, and what stands for one left out.

A look-up is one pass over a column of the shards, so there is no index that could be lost or differ from them; only of
the rows that are shown more is read. Who is meant by a name is decided as for opt-outs.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.records import swhid_of
from starsmith.corpus.optouts import Entry, OptOuts, parse_who

LARGEST_FILE_BYTES = 256 << 20
HINT = "give an owner, owner/repo, a repository's URL, swh:1:cnt:… or the path of a file"

_CHUNK_BYTES = 1 << 18  # of the list of what was left out, at once: larger ones are new memory each, 8 times as slow
_IS_PATH = re.compile(r"\.{1,2}|(?:\.{0,2}|~)/.*", re.DOTALL)  # no name begins so
_COPY = b'duplicate", "detail": '  # in a line of run/dropped.jsonl: the end of both reasons for which another stands
_REPOSITORY = b'{"repository": "'
_PATH = b'", "path": "'
_SWHID = b'"swhid": "'
_SMALL = np.uint8(0x20)  # a capital letter with this bit is a small one
_LIKENESS = re.compile(r", Jaccard ([0-9.]{1,9})$")
_SHARD = re.compile(r"shards/[^/]+\.parquet")
_THREADS = 4  # more shards at once gain nothing: the rest is Python

NAME, CONTENT, FILE = "name", "content", "file"


@dataclass(frozen=True)
class Question:
    """What somebody asks after, in one of the forms NAME (owner or repository), CONTENT and FILE."""

    what: str  # as given
    form: str
    swhid: str = ""  # of a content or file
    names: OptOuts = field(default_factory=OptOuts, repr=False)  # with one entry, where a name is asked after
    file: Path | None = None

    @cached_property
    def last_name(self) -> str:
        """What every repository that is meant has in it, in lower case: of owner/repo, repo."""
        return next(iter(self.names.repositories)).rpartition("/")[2]

    def holds_for(self, repository: str) -> bool:
        """True when the owner or repository that is asked after has this one."""
        if (known := self._known.get(repository)) is None:  # a repository has many files, in many row groups
            # The comparison costs ten times as much as the look, and most are somebody else's.
            may_hold = not repository.isascii() or self._trace.search(repository) is not None
            known = self._known[repository] = may_hold and self.names.match(repository, "", "") is not None
        return known

    def may_hold_in(self, names: bytes) -> bool:
        """False when no repository among these bytes, names one after the other, can be meant."""
        return not (names.isascii() and self.last_name.isascii()) or _folded(self.last_name.encode()) in _folded(names)

    @cached_property
    def _known(self) -> dict[str, bool]:
        return {}

    @cached_property
    def _trace(self) -> re.Pattern[str]:
        return re.compile(rf"(?i)(?<![a-z0-9]){re.escape(self.last_name)}(?![a-z0-9])")


@dataclass(frozen=True)
class Row:
    """A file that the corpus has."""

    repository: str
    commit: str
    path: str
    license: str
    split: str
    swhid: str
    cluster_size: int  # exact and near-duplicates that it stands for, itself among them


_COLUMNS = list(Row.__annotations__)


@dataclass(frozen=True)
class LeftOut:
    """A file that went because another is much the same."""

    repository: str
    path: str
    of: str  # repository:path of the other
    similarity: float  # Jaccard; 1 for the same content
    stands: bool  # the corpus has that other; False when a later stage dropped it


@dataclass(frozen=True)
class Membership:
    """The answer. The first rows of each kind, and how many there are."""

    question: Question
    count: int
    rows: tuple[Row, ...]
    left_out_count: int | None  # None when the list of what was left out is not there, or does not name contents
    left_out: tuple[LeftOut, ...]

    @property
    def is_in(self) -> bool:
        """True when the corpus has a file of it."""
        return self.count > 0

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "what": self.question.what,
            "form": self.question.form,
            "swhid": self.question.swhid or None,
            "is_in": self.is_in,
            "count": self.count,
            "rows": [vars(row) for row in self.rows],
            "left_out_count": self.left_out_count,
            "left_out": [vars(one) for one in self.left_out],
        }


def ask(what: str) -> Question:
    """What `what` means; InputError when it means nothing, or two things.

    What begins with `/`, `./` or `../` is a path; anything else that is written as a name is one, unless there is also
    a file so called.
    """
    if _IS_PATH.fullmatch(what):
        return _ask_for_file(what)
    is_file = os.path.isfile(what)  # noqa: PTH113 Path.is_file raises for a name that is too long
    try:
        target = parse_who(Entry(what, "", "", ""))
    except InputError:
        if is_file:
            return _ask_for_file(what)
        raise InputError(f"{what!r} is no owner, repository, content or file", hint=HINT) from None
    if target.swhid:
        return Question(what, CONTENT, target.swhid)
    if is_file:
        raise InputError(
            f"{what!r} is ambiguous: a file is so called, and an owner or a repository may be",
            hint=f"write ./{what} for the file, or a URL such as https://github.com/{what} for the other",
        )
    if "://" not in what and ":" not in what and what.count("/") > 1:
        raise InputError(
            f"{what!r} is no file that is there, and no owner or owner/repo",
            hint="check the path, or give the URL of a repository in a group: https://gitlab.com/group/sub/repo",
        )
    if target.path:
        raise InputError(f"{what!r} names a path in a repository", hint="give the repository, or a copy of the file")
    return Question(what, NAME, names=OptOuts(repositories={target.repository: Entry(what, "", "", "")}))


def contains(corpus: Path, question: Question, *, most: int) -> Membership:
    """The rows of the corpus that are asked after, `most` at most, and what stands for those left out.

    A file is found by its SWHID, also where the corpus has only a rendered or redacted form of it; in a list of what
    was left out that names no contents, as earlier builds wrote it, by its place.
    """
    manifest = artifact.read(corpus, kind="corpus")
    shards = [corpus / name for name in sorted(manifest.files) if _SHARD.fullmatch(name)]
    with ThreadPoolExecutor(_THREADS) as pool:  # Arrow reads without Python's lock
        reading = pool.map(lambda shard: _matching_rows(shard, question), shards)
        copies = _left_out(corpus / artifact.RUN / "dropped.jsonl", question, most)
        places = list(reading)
    rows: list[Row] = []
    for shard, numbers in zip(shards, places, strict=True):
        rows += _read_rows(shard, numbers[: most - len(rows)])
    return Membership(question, sum(map(len, places)), tuple(rows), *copies)


def _ask_for_file(what: str) -> Question:
    path = Path(what).expanduser()
    try:
        if not path.is_file():
            raise InputError(f"{what} is {'a folder' if path.is_dir() else 'no file'}, wanted is one file", hint=HINT)
        if (size_bytes := path.stat().st_size) > LARGEST_FILE_BYTES:
            raise InputError(
                f"{what} has {size_bytes:,} bytes, at most {LARGEST_FILE_BYTES:,} are read", hint="give its SWHID"
            )
        return Question(what, FILE, swhid_of(path.read_bytes()), file=path.resolve())
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        raise InputError(f"{what!r} cannot be read: {error}", hint=HINT) from None


@contextmanager
def _opened(shard: Path, dictionaries: Sequence[str] = ()) -> Iterator[Any]:
    try:
        with pq.ParquetFile(
            shard, memory_map=True, page_checksum_verification=True, read_dictionary=list(dictionaries)
        ) as file:
            if missing := sorted(set(_COLUMNS) - set(file.schema_arrow.names)):
                raise ArtifactError(
                    f"{shard} has no column {', '.join(missing)}", hint="rebuild it: starsmith corpus build"
                )
            yield file
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{shard} is not readable Parquet: {error}", hint="restore it, or rebuild the corpus"
        ) from None


def _matching_rows(shard: Path, question: Question) -> NDArray[np.int64]:
    """Numbers of the rows of a shard that are asked after."""
    if question.form != NAME:
        with _opened(shard) as file:
            values = file.read(["swhid"], use_threads=False)["swhid"].combine_chunks()
        return _numbers(pc.indices_nonzero(pc.equal(values, _scalar(question.swhid))), np.uint64)
    # The pages have each name once in a row group, and numbers in its place: most are never looked at one by one.
    with _opened(shard, ["repository"]) as file:
        chunks = file.read(["repository"], use_threads=False)["repository"].chunks
    found, first = [np.zeros(0, np.int64)], 0
    for chunk in chunks:
        if (wanted := _codes(chunk.dictionary, question)).any():
            indices = pc.fill_null(chunk.indices, -1) if chunk.null_count else chunk.indices
            found.append(first + np.flatnonzero(wanted[_numbers(indices, np.int32)]))
        first += len(chunk)
    return np.concatenate(found)


def _codes(names: pa.Array, question: Question) -> NDArray[np.bool_]:
    """(N + 1,) true for those names in a dictionary that are asked after; the last is for a row without a name."""
    wanted = np.zeros(len(names) + 1, np.bool_)
    content = names.buffers()[2]
    if content is not None and question.may_hold_in(content.to_pybytes()):
        wanted[:-1] = [name is not None and question.holds_for(name) for name in names.to_pylist()]
    return wanted


# `pa.scalar` and `Array.to_numpy` load pandas the first time: 0.3 s, ten times what a look-up takes.
def _scalar(text: str) -> pa.Scalar:
    raw = text.encode()
    return pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, len(raw)], np.int32)), pa.py_buffer(raw))[0]


def _numbers(array: pa.Array, kind: type[np.integer[Any]]) -> NDArray[np.int64]:
    if not len(array):
        return np.zeros(0, np.int64)
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * np.dtype(kind).itemsize).astype(np.int64)


def _read_rows(shard: Path, rows: NDArray[np.int64]) -> list[Row]:
    """The given rows, by reading the row groups that they lie in."""
    if not len(rows):
        return []
    found: list[Row] = []
    with _opened(shard) as file:
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        for group, (first, end) in enumerate(pairwise([0, *np.cumsum(counts).tolist()])):
            chosen = rows[(rows >= first) & (rows < end)] - first
            if len(chosen):
                table = file.read_row_group(group, _COLUMNS, use_threads=False)
                found += [Row(**table.slice(row, 1).to_pylist()[0]) for row in chosen.tolist()]
    return found


def _left_out(listed: Path, question: Question, most: int) -> tuple[int | None, tuple[LeftOut, ...]]:
    """How many files asked after went for another, and the first of them."""
    if not listed.is_file():
        return None, ()
    needles, before, is_meant = _traces(question)
    lines = _Lines(needles, before)
    copies: list[bytes] = []
    can_tell = question.form != CONTENT
    later: list[bytes] = []  # a build lists drops in the order of its stages: these may be what others stand for
    for chunk in _chunks(listed):
        first, last = chunk.find(_COPY), chunk.rfind(_COPY)
        if first >= 0:
            part = chunk[chunk.rfind(b"\n", 0, first) + 1 : chunk.find(b"\n", last)]
            can_tell = can_tell or _SWHID in part
            copies += (line for line in lines.of(part) if is_meant(line))
            later = [chunk[last:]]
        elif later:
            later.append(chunk)
    if not can_tell:
        return None, ()
    shown = [_left_out_for(row) for row in _rows_of(copies[:most])]
    gone = {f"{row['repository']}:{row['path']}" for row in _rows_of(b"".join(later).splitlines())} if shown else ()
    return len(copies), tuple(LeftOut(*one, stands=one[2] not in gone) for one in shown)


def _left_out_for(row: dict[str, str]) -> tuple[str, str, str, float]:
    other, likeness = row["detail"].removeprefix("of "), 1.0
    if found := _LIKENESS.search(other):
        other, likeness = other[: found.start()], float(found[1])
    return row["repository"], row["path"], other, likeness


def _traces(question: Question) -> tuple[Sequence[bytes], bytes, Callable[[bytes], bool]]:
    """Bytes, one of which is in each line that is asked after, before these others; and what tells if a line is."""
    content = _SWHID + question.swhid.encode()
    if question.form == CONTENT:
        return [content], b"", lambda line: content in line
    if question.file is None:
        if not question.last_name.isascii():  # escaped letters differ by case in other ways: every line is looked at
            return [_COPY], b"", _IsOfName(question)
        return [question.last_name.encode()], _PATH, _IsOfName(question)
    folders = question.file.parts
    in_folder, in_root = _quoted("/".join(folders[-2:])), _quoted(folders[-1])
    places = [in_folder[1:] + b", ", b'"path": ' + in_root]
    return [content, *places], b"", lambda line: content in line or (_SWHID not in line and _is_place(folders, line))


@dataclass
class _IsOfName:
    """True for a line of a repository that is asked after; each repository is looked at once."""

    question: Question
    known: dict[bytes, bool] = field(default_factory=dict)

    def __call__(self, line: bytes) -> bool:
        repository = line[: line.find(_PATH)]
        if (known := self.known.get(repository)) is None:
            named = next(_rows_of([repository + b'"}']), {}) if b"\\" in repository else {}
            name = named.get("repository", "") or repository.removeprefix(_REPOSITORY).decode("utf-8", "replace")
            known = self.known[repository] = self.question.holds_for(name)
        return known


def _quoted(text: str) -> bytes:
    return json.dumps(text).encode()


def _is_place(folders: Sequence[str], line: bytes) -> bool:
    """True for a file that lies at its path in a folder that is called as its repository is."""
    for row in _rows_of([line]):
        names = row["path"].split("/")
        called = row["repository"].rstrip("/").rpartition("/")[2].removesuffix(".git").casefold()
        above = folders[: -len(names)]
        return list(folders[-len(names) :]) == names and bool(above) and above[-1].casefold() == called
    return False


def _chunks(listed: Path) -> Iterator[bytes]:
    """Whole lines, many at once; what ends in no line break is no line, and of one longer than a chunk the end is."""
    with listed.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            end = chunk.rfind(b"\n") + 1
            if end:
                file.seek(end - len(chunk), os.SEEK_CUR)
                yield chunk[:end] if end < len(chunk) else chunk


class _Lines:
    """Finds the lines of copies that have one of the needles, in any case; and perhaps others."""

    def __init__(self, needles: Sequence[bytes], before: bytes) -> None:
        self._needles = [_folded(needle) for needle in needles]
        self._before = before  # a needle must stand before this in its line
        self._folded = bytearray(_CHUNK_BYTES)  # one for all chunks: new memory each time costs more than the search

    def of(self, chunk: bytes) -> Iterator[bytes]:
        """The lines of a chunk, in their order."""
        np.bitwise_or(np.frombuffer(chunk, np.uint8), _SMALL, out=np.frombuffer(self._folded, np.uint8)[: len(chunk)])
        ends = dict(line for needle in self._needles for line in self._having(needle, chunk))
        yield from (chunk[start : ends[start]] for start in sorted(ends))

    def _having(self, needle: bytes, chunk: bytes) -> Iterator[tuple[int, int]]:
        """(start, end) of the lines of copies that have a needle where it must stand."""
        place = self._folded.find(needle, 0, len(chunk))
        while place >= 0:
            start, end = chunk.rfind(b"\n", 0, place) + 1, chunk.find(b"\n", place)
            end = end if end >= 0 else len(chunk)
            before = chunk.find(self._before, start, end) if self._before else end
            if place < before and chunk.find(_COPY, start, end) >= 0:
                yield start, end
            place = self._folded.find(needle, end + 1, len(chunk))  # a line is told once, however often it has it


def _folded(content: bytes) -> bytes:
    """Equal for bytes that differ in the case of letters alone, and for a few others."""
    return (np.frombuffer(content, np.uint8) | _SMALL).tobytes()


def _rows_of(lines: Iterable[bytes]) -> Iterator[dict[str, str]]:
    """The JSON objects among the lines; a damaged line says nothing, as no digest covers `run/`."""
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and all(isinstance(value, str) for value in row.values()):
            yield {**dict.fromkeys(("repository", "path", "detail"), ""), **row}
