"""Stage: a corpus becomes the corpus that a build without some files gives, bit for bit.

What was dropped as a copy is not in a corpus, so where the file that stood for others goes, only the sources can say
which of them stands now. The recorded build is therefore run again, from the same commits and with the same settings,
on sources that seem never to have had the files; sources that have changed since are refused. `plan` says before, from
the corpus alone, what would go.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.core import ancestry, artifact
from starsmith.core.config import NONE
from starsmith.core.config import build as build_config
from starsmith.core.console import progress
from starsmith.core.errors import ArtifactError, InputError
from starsmith.corpus import build, origins
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.origins import Origins, Removal, Removed
from starsmith.corpus.removal_requests import Removals, Request
from starsmith.corpus.sources import Source

_COLUMNS = ("repository", "path", "swhid", "split", "cluster_size")
_ROWS_AT_ONCE = 512  # with their texts


@dataclass(frozen=True)
class Document:
    """A row of the corpus that goes."""

    repository: str
    path: str
    swhid: str
    split: str
    cluster_size: int  # files that it stands for, itself among them
    ids: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by in an index."""
        return self.repository, self.path, self.swhid


@dataclass(frozen=True)
class LeftOut:
    """A file that the corpus has not, whose name goes from the list of what was left out."""

    repository: str
    path: str
    reason: str
    detail: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What requests hold for, as far as the corpus shows it."""

    corpus: Path
    removals: Removals
    documents: tuple[Document, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def clusters(self) -> list[Document]:
        """Those that stand for other files, of which others may come in."""
        return [document for document in self.documents if document.cluster_size > 1]

    @property
    def ids(self) -> list[str]:
        """Of the requests that hold for a document of the corpus."""
        held = {one for document in self.documents for one in document.ids}
        return [one for one in self.removals.ids if one in held]

    @property
    def documents_by_request(self) -> Counter[str]:
        """How many documents each request holds for."""
        return Counter(one for document in self.documents for one in document.ids)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "corpus": str(self.corpus),
            "requests": self.removals.ids,
            "documents": [vars(document) for document in self.documents],
            "clusters": [document.swhid for document in self.clusters],
            "left_out": [vars(one) for one in self.left_out],
        }


@dataclass(frozen=True)
class Prepared:
    """A removal of which everything that it needs is there."""

    plan: Plan
    config: CorpusConfig
    sources: Sequence[Source]
    made_from: Origins
    benchmarks: Path | None
    out: Path


def plan(corpus: Path, requests: Sequence[Request]) -> Plan:
    """What `requests` hold for in a corpus, in one pass over it."""
    total = artifact.read(corpus, kind="corpus").counts.get("kept")
    removals = Removals(tuple(requests))
    with progress("corpus: looking for what goes", total=total, unit="files") as advance:
        documents = [
            Document(**{name: row[name] for name in _COLUMNS}, ids=ids)
            for row in _rows(corpus, advance, removals)
            if (ids := removals.holding(row["repository"], row["path"], row["swhid"], row["content"]))
        ]
    return Plan(corpus, removals, tuple(documents), tuple(_left_out(corpus, removals)))


def prepare(plan: Plan, places: Sequence[Path | str] = (), *, out: Path) -> Prepared:
    """Open what the corpus was made from, by its own record or at `places`; raises for what is not as it must be."""
    check_place(plan.corpus, out)
    manifest = artifact.read(plan.corpus, kind="corpus")
    config = settings_of(plan.corpus)
    made_from = origins.read(plan.corpus)
    roles = {parent.role for parent in manifest.parents}
    benchmarks = ancestry.parent_directory(plan.corpus, "benchmarks") if "benchmarks" in roles else None
    earlier = frozenset(made_from.past.fulfilled) & set(plan.removals.ids)
    prepared = replace(plan, removals=replace(plan.removals, earlier=earlier))
    sources = origins.reopen(made_from, config, places)
    build.check_place(out, sources)
    return Prepared(prepared, config, sources, made_from, benchmarks, out)


def run(prepared: Prepared) -> list[Removed]:
    """Write the corpus without what the requests hold for; returns the files of the sources that were left out."""
    return build.run(
        prepared.config,
        sources=prepared.sources,
        out=prepared.out,
        benchmarks=prepared.benchmarks,
        removal=Removal(prepared.plan.removals, prepared.made_from),
    )


def settings_of(corpus: Path) -> CorpusConfig:
    """The settings that a corpus was built with."""
    table = _with_nones(artifact.read(corpus, kind="corpus").config)
    return build_config(CorpusConfig, table, where=f"{corpus / artifact.MANIFEST} config")


def check_place(corpus: Path, out: Path) -> None:
    """The old corpus is not written over: it is what the marks downstream speak of."""
    if out.resolve() == corpus.resolve():
        raise InputError(f"{out} is the corpus itself, which stays until you delete it", hint="give another --out")
    if out.resolve().is_relative_to(corpus.resolve()):
        raise InputError(f"{out} lies in the corpus that it is to be made from", hint="give another --out")


def came_in(before: Path, after: Path) -> list[tuple[str, str]]:
    """(repository, path) of what a corpus has and the one before it had not: there it was left out for another."""
    known = set(identities(before))
    return sorted({row[:2] for row in identities(after) if row not in known})


def is_other_code(corpus: Path) -> bool:
    """Whether a corpus was built by other code than this, which may decide otherwise about the files that stay."""
    from starsmith.core.version import source_sha256

    return artifact.read(corpus).code.get("source_sha256") != source_sha256(("core", "corpus"))


def _with_nones(value: Any) -> Any:
    """A manifest's settings as a recipe has them: TOML has no null."""
    if isinstance(value, dict):
        return {key: _with_nones(inner) for key, inner in value.items()}
    return NONE if value is None else value


def _rows(corpus: Path, advance: Any, removals: Removals) -> Iterator[dict[str, Any]]:
    """The rows of the shards, with their texts where requests ask for these."""
    columns = [*_COLUMNS, *(("text",) if removals.has_copies else ())]
    for shard in sorted((corpus / "shards").glob("*.parquet")):
        try:
            with pq.ParquetFile(shard, page_checksum_verification=True) as file:
                if missing := sorted(set(columns) - set(file.schema_arrow.names)):
                    raise ArtifactError(f"{shard} has no column {missing[0]}", hint="build the corpus again")
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                    for row in batch.to_pylist():
                        yield {**row, "content": row["text"].encode() if removals.has_copies else None}
                    advance(len(batch))
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise ArtifactError(f"{shard} is not readable Parquet: {error}", hint="restore it") from None


def identities(corpus: Path) -> Iterator[tuple[str, str, str]]:
    """Repository, path and SWHID of every row."""
    columns = ("repository", "path", "swhid")
    for shard in sorted((corpus / "shards").glob("*.parquet")):
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(columns=list(columns)):
                repositories, paths, swhids = (batch.column(name).to_pylist() for name in columns)
                yield from zip(repositories, paths, swhids, strict=True)


def _left_out(corpus: Path, removals: Removals) -> Iterator[LeftOut]:
    """Of the list of what was left out, those that requests hold for by name or SWHID."""
    listed = corpus / artifact.RUN / "dropped.jsonl"
    if not listed.is_file():
        return
    with listed.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
                name, path, swhid = str(row["repository"]), str(row["path"]), str(row.get("swhid", ""))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # no digest covers this list
                continue
            if ids := removals.holding(name, path, swhid):
                yield LeftOut(name, path, str(row.get("reason", "")), str(row.get("detail", "")), ids)
