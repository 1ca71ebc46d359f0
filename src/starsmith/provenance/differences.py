"""Two corpora become the list of documents that one has and the other has not, or has in another version."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.core import ancestry, artifact
from starsmith.core.errors import ArtifactError


@dataclass(frozen=True)
class Document:
    """A document by its place and content."""

    repository: str
    path: str
    swhid: str


@dataclass(frozen=True)
class Change:
    """A place that both corpora have, with other content; several when a file gave several documents."""

    repository: str
    path: str
    before: tuple[str, ...]  # SWHIDs
    after: tuple[str, ...]


@dataclass
class Differences:
    """What distinguishes a corpus from an earlier one, in the order of repository and path."""

    added: list[Document] = field(default_factory=list)
    removed: list[Document] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    unchanged: int = 0  # documents

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def corpus_of(directory: Path) -> Path:
    """The artefact itself when it is a corpus, else the corpus in the chain above it."""
    if artifact.read(directory).kind == "corpus":
        return directory
    return ancestry.ancestor_directory(directory, "corpus")


def compare(before: Path, after: Path) -> Differences:
    """Documents added, removed and changed on the way from one corpus to another."""
    old, new = _documents(before), _documents(after)
    found = Differences()
    for place in sorted(old.keys() | new.keys()):
        was, now = old.get(place, ()), new.get(place, ())
        if was == now:
            found.unchanged += len(now)
        elif not was:
            found.added += [Document(*place, swhid) for swhid in now]
        elif not now:
            found.removed += [Document(*place, swhid) for swhid in was]
        else:
            found.changed.append(Change(*place, before=was, after=now))
    return found


def _documents(corpus: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """(repository, path) -> SWHIDs: a notebook gives two documents."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for shard in sorted((corpus / "shards").glob("*.parquet")):
        for repository, path, swhid in zip(*_columns(shard, ("repository", "path", "swhid")), strict=True):
            place = (repository, path)
            found[place] = (*found.get(place, ()), swhid)
    return found


def _columns(shard: Path, names: Sequence[str]) -> list[list[str]]:
    try:
        if not shard.is_file():  # a pipe would be waited for
            raise OSError("no regular file")
        table = pq.ParquetFile(shard).read(list(names))
        return [table[name].to_pylist() for name in names]
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{shard} is not readable as a shard of a corpus: {error}", hint="restore it") from None
