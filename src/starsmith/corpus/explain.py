"""What a build would do with one file, and why: each stage's word on it, from the stages that a build runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from starsmith.core.errors import InputError
from starsmith.core.records import swhid_of
from starsmith.corpus import git
from starsmith.corpus.files import Drop, RawFile, Unreadable
from starsmith.corpus.sketch import jaccard, shingle_set
from starsmith.corpus.sources import FolderSource, Source, open_source
from starsmith.corpus.stages import (
    DUPLICATES,
    LATE_STAGES,
    NEAR_DUPLICATES,
    READ_STAGES,
    Examination,
    Rules,
    Stage,
    rendered_forms,
)


@dataclass(frozen=True)
class Word:
    """What one stage said."""

    stage: str
    decision: str  # "passes", "drops" or "changes"
    why: str


def explain(path: Path, rules: Rules, *, corpus: Path | None = None) -> Iterator[Word]:
    """Each stage's word on the file at `path`, in order; a drop is the last.

    corpus  compare with the files of this corpus for the stages that look for duplicates
    """
    file = _find(path, rules)
    for form in _forms(file, rules):
        if isinstance(form, Drop):
            yield Word("read", "drops", f"{form.reason}: {form.detail}")
            continue
        yield Word("read", "passes", _origin(form))
        found = Examination(form, swhid=swhid_of(file.content) if isinstance(file, RawFile) else "")
        yield from _through_stages(found, rules, corpus)


def _through_stages(found: Examination, rules: Rules, corpus: Path | None) -> Iterator[Word]:
    words = _words(found, rules, READ_STAGES)
    for word in words:
        yield word
        if word.decision == "drops":
            return
    for word in _compare(found, rules, corpus):
        yield word
        if word.decision == "drops":
            return
    yield from _words(found, rules, LATE_STAGES)


def _words(found: Examination, rules: Rules, stages: tuple[Stage, ...]) -> Iterator[Word]:
    for stage in stages:
        if (drop := stage.judge(found, rules)) is not None:
            yield Word(stage.name, "drops", f"{drop.reason}: {drop.detail}" if drop.detail else drop.reason)
            return
        changed = stage.name == "redaction" and found.redacted is not None and bool(found.redacted.counts)
        yield Word(stage.name, "changes" if changed else "passes", stage.saw(found, rules))


def _forms(file: RawFile | Unreadable, rules: Rules) -> list[RawFile | Drop]:
    return [file.drop] if isinstance(file, Unreadable) else rendered_forms(file, rules)


def _find(path: Path, rules: Rules) -> RawFile | Unreadable:
    """The file as the source that it lies in gives it, with the licence that holds there."""
    if not path.is_file():
        raise InputError(f"{path} is no file", hint="give one file that a source has")
    path = path.resolve()
    source = _source_of(path)
    root = Path(source.root)
    wanted = path.relative_to(root).as_posix()
    for unit in source.units(largest_bytes=rules.config.largest_bytes):
        for file in unit.files():
            if file.path == wanted:
                return file
    raise InputError(
        f"{root} has no file {wanted} that a build reads", hint="is it committed, and in no folder of installed code?"
    )


def _source_of(path: Path) -> Source:
    """The repository around a file at HEAD, if it is in one, else the folder that it lies in."""
    for folder in path.parents:
        if git.is_repository(folder):
            return open_source(folder)
    return FolderSource(path.parent, path.parent.name)


def _origin(file: RawFile) -> str:
    commit = f" at {file.commit[:12]}" if file.commit else ""
    size = f"{len(file.content):,} bytes as {file.kind}"
    return f"{file.path} of {file.repository}{commit}, {size}, {swhid_of(file.content)}"


def _compare(found: Examination, rules: Rules, corpus: Path | None) -> Iterator[Word]:
    if corpus is None:
        for stage in (DUPLICATES, NEAR_DUPLICATES):
            yield Word(stage, "passes", "compared with nothing: give a corpus to compare with")
        return
    swhid, config = found.swhid, rules.config.duplicates
    own = shingle_set(found.content, config.words)
    best, nearest = 0.0, ""
    for shard in sorted((corpus / "shards").glob("*.parquet")):
        for batch in pq.ParquetFile(shard).iter_batches(columns=["swhid", "repository", "path", "text"]):
            for row in batch.to_pylist():
                name = f"{row['repository']}:{row['path']}"
                if row["swhid"] == swhid:
                    is_itself = (row["repository"], row["path"]) == (found.file.repository, found.file.path)
                    why = "the corpus has this very file" if is_itself else f"the same content as {name}"
                    yield Word(DUPLICATES, "passes" if is_itself else "drops", why)
                    return
                similarity = jaccard(own, shingle_set(row["text"].encode(), config.words))
                best, nearest = max((best, nearest), (similarity, name))
    yield Word(DUPLICATES, "passes", "no file of the corpus has this content")
    drops = config.threshold is not None and best >= config.threshold
    yield Word(NEAR_DUPLICATES, "drops" if drops else "passes", f"Jaccard {best:.3f} to {nearest or 'nothing'}")
