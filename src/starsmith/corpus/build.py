"""Stage: sources become a governed corpus, in which every file is kept, or dropped for a reason that is counted.

The order: read, decode, language, licence, filters, exact duplicates, near-duplicates, split. A file that cannot be
used is a counted drop; a source from which nothing is left is an error that says what went.
"""

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from starsmith.core import artifact
from starsmith.core.console import Advance, progress
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import HELD_OUT, TRAIN, SourceFile, read_files, sha256_of, swhid_of, write_files
from starsmith.corpus import card, licenses
from starsmith.corpus.duplicates import near_duplicates
from starsmith.corpus.filters import FILTERS
from starsmith.corpus.languages import known_languages, language_of
from starsmith.corpus.sources import Entry, Read, Source

_SURVIVORS = "survivors"  # a first copy of the corpus, from which near-duplicates are then left out


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What is let into a corpus."""

    allow: tuple[str, ...] = ()  # SPDX ids let in beside the permissive list
    unlicensed: bool = False  # keep files for which no licence was found, as The Stack v2 does
    largest_bytes: int = 1_000_000  # of a file
    languages: tuple[str, ...] = ()  # only these, by Linguist's names; none means every language
    near_duplicate_threshold: float | None = 0.7  # Jaccard similarity from which a file goes; None keeps all
    held_out: float = 0.03  # share of the files that is never trained on; above 0, one of several files at least

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out={self.held_out}: must be at least 0 and below 1", hint="the default is 0.03")
        if unknown := licenses.unknown_ids(self.allow):
            raise ConfigError(f"allow={unknown}: no SPDX licence ids", hint="names as on https://spdx.org/licenses")
        if unknown := sorted(set(self.languages) - set(known_languages())):
            near = get_close_matches(unknown[0], known_languages(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "names as GitHub Linguist has them, for example 'C++'"
            raise ConfigError(f"languages={unknown}: no languages that Linguist knows", hint=hint)
        threshold = self.near_duplicate_threshold
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(f"near_duplicate_threshold={threshold}: must lie in 0 to 1", hint="the default is 0.7")


@dataclass
class _Build:
    """What one build works with."""

    config: CorpusConfig
    draft: artifact.Draft
    dropped: TextIO  # JSON lines: every dropped file with its reason
    survivors: dict[str, str] = field(default_factory=dict)  # SWHID -> repository and path, of distinct files in order

    def drop(self, repository: str, path: str, reason: str, **details: object) -> None:
        self.draft.count(f"dropped_{reason}")
        row = {"repository": repository, "path": path, "reason": reason, **details}
        self.dropped.write(json.dumps(row) + "\n")


def run(config: CorpusConfig, *, sources: Sequence[Source], out: Path) -> None:
    """Write the corpus of `sources`; the order in which they are given does not matter."""
    ordered = sorted(sources, key=lambda source: (source.repository, source.commit, str(source.root)))
    with artifact.create(out, kind="corpus", config=config, rooms=("core", "corpus")) as draft:
        draft.filters += ["decode", "language", "license", *(rule.__name__ for rule in FILTERS), "duplicate"]
        draft.filters += ["near_duplicate"] if config.near_duplicate_threshold is not None else []
        with (draft.run / "dropped.jsonl").open("w") as dropped:
            build = _Build(config, draft, dropped)
            first = draft.path / _SURVIVORS
            write_files(_distinct(build, _read_all(build, ordered)), first / "shards")
            if not draft.counts["passed"]:
                raise _nothing_left(ordered, draft.counts)
            del draft.counts["passed"]
            write_files(_kept(build, first), draft.path / "shards")
            shutil.rmtree(first)
        card.write(draft.path, ordered, draft.counts)


def _read_all(build: _Build, sources: Sequence[Source]) -> Iterator[SourceFile]:
    for source in sources:
        entries = source.entries()
        if not entries:
            raise InputError(f"{source.root} has no file", hint="give a folder with source code")
        with (
            source.reader() as read,
            progress(f"corpus: {source.repository}", total=len(entries), unit="files") as advance,
        ):
            yield from _read_source(build, source, read, entries, advance)


def _read_source(
    build: _Build, source: Source, read: Read, entries: Sequence[Entry], advance: Advance
) -> Iterator[SourceFile]:
    by_folder = licenses.folder_findings(_license_files(read, entries))
    for entry in entries:
        advance()
        found = _read_file(build.config, read, entry)
        if isinstance(found, str):
            build.drop(source.repository, entry.path, found)
            continue
        text, language, content = found
        finding = licenses.find_license(entry.path, text, by_folder, source.declared_license)
        reason = _license_problem(build.config, finding.expression) or _filtered(entry.path, language, text)
        if reason is not None:
            build.drop(source.repository, entry.path, reason, license=finding.expression, evidence=finding.evidence)
            continue
        yield SourceFile(
            path=entry.path,
            text=text,
            language=language,
            license=finding.expression,
            license_evidence=finding.evidence,
            repository=source.repository,
            commit=source.commit,
            swhid=swhid_of(content),
            sha256=sha256_of(content),
        )


def _read_file(config: CorpusConfig, read: Read, entry: Entry) -> tuple[str, str, bytes] | str:
    """(text, language, content) of a file, or the reason to drop it."""
    if entry.size_bytes > config.largest_bytes:
        return "too_large"
    try:
        content = read(entry)
    except OSError:
        return "unreadable"
    if b"\0" in content:
        return "binary"
    if not content.strip():
        return "empty"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "not_utf8"
    language = language_of(entry.path, text)
    if language is None:
        return "unknown_language"
    if config.languages and language not in config.languages:
        return "other_language"
    return text, language, content


def _license_files(read: Read, entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        if licenses.looks_like_license_file(entry.path) and entry.size_bytes <= licenses.LARGEST_LICENSE_BYTES:
            try:
                yield entry.path, read(entry).decode("utf-8", errors="replace")
            except OSError:
                continue  # the file itself is counted as unreadable when its turn comes


def _license_problem(config: CorpusConfig, expression: str) -> str | None:
    if not expression:
        return None if config.unlicensed else "no_license"
    return None if licenses.is_permissive(expression, allow=config.allow) else "not_permissive"


def _filtered(path: str, language: str, text: str) -> str | None:
    return next((reason for rule in FILTERS if (reason := rule(path, language, text)) is not None), None)


def _distinct(build: _Build, files: Iterator[SourceFile]) -> Iterator[SourceFile]:
    """The first file of each content."""
    for file in files:
        if (first := build.survivors.get(file.swhid)) is not None:
            build.drop(file.repository, file.path, "duplicate", of=first)
            continue
        build.survivors[file.swhid] = f"{file.repository}:{file.path}"
        build.draft.count("passed")
        yield file


def _kept(build: _Build, survivors: Path) -> Iterator[SourceFile]:
    """The survivors but for near-duplicates, each with its split."""
    left_out = _near_duplicates(build, survivors)
    bound = _held_out_bound(build, left_out)
    for number, file in enumerate(read_files(survivors)):
        if number in left_out:
            continue
        split = HELD_OUT if _share(file.swhid) < bound else TRAIN
        build.draft.count("kept")
        build.draft.count("kept_bytes", len(file.text.encode()))
        if split == HELD_OUT:
            build.draft.count("held_out")
        yield replace(file, split=split)


def _near_duplicates(build: _Build, survivors: Path) -> set[int]:
    threshold = build.config.near_duplicate_threshold
    if threshold is None:
        return set()
    names: list[tuple[str, str]] = []

    def contents(advance: Advance) -> Iterator[bytes]:
        for file in read_files(survivors):
            names.append((file.repository, file.path))
            yield file.text.encode()
            advance()

    with progress("corpus: near-duplicates", total=build.draft.counts["passed"], unit="files") as advance:
        found = list(near_duplicates(contents(advance), threshold=threshold))
    for duplicate in found:
        repository, path = names[duplicate.number]
        of = ":".join(names[duplicate.of])
        build.drop(repository, path, "near_duplicate", of=of, similarity=round(duplicate.similarity, 3))
    return {duplicate.number for duplicate in found}


def _held_out_bound(build: _Build, left_out: set[int]) -> float:
    """The share below which a file is held out; raised to the lowest one where no file would be."""
    shares = [_share(swhid) for number, swhid in enumerate(build.survivors) if number not in left_out]
    if build.config.held_out == 0 or len(shares) < 2:
        return build.config.held_out
    return max(build.config.held_out, math.nextafter(min(shares), 1.0))


def _share(swhid: str) -> float:
    """A number in [0, 1) that depends on the content alone, so that a file keeps its split when others come."""
    return int.from_bytes(hashlib.sha256(swhid.encode()).digest()[:8], "big") / 2**64


def _nothing_left(sources: Sequence[Source], counts: Counter[str]) -> InputError:
    places = ", ".join(str(source.root) for source in sources)
    drops = {
        name.removeprefix("dropped_"): number for name, number in counts.most_common() if name.startswith("dropped_")
    }
    account = ", ".join(f"{number} {name}" for name, number in drops.items())
    hints = {
        "no_license": "add a LICENSE file, or --set corpus.unlicensed=true to take files without one",
        "not_permissive": "allow the licence by its SPDX id: --set 'corpus.allow=[\"GPL-3.0-only\"]'",
        "other_language": "add their languages to corpus.languages, or leave that setting out",
    }
    hint = hints.get(next(iter(drops), ""), "give sources with code in a known language")
    return InputError(f"no file of {places} can be used; dropped: {account}", hint=hint)
