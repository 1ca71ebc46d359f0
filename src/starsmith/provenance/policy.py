"""What an artefact that holds may still not be used for: its licences, the age of its opt-outs, a withdrawn source."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.core import artifact
from starsmith.core.errors import ConfigError
from starsmith.provenance.contents import shards_of
from starsmith.provenance.marks import marks_of, requests_in

OPT_OUTS_AS_OF = "opt_outs_as_of"  # setting of a corpus: the day of its opt-out lists, ISO
MOST_NAMED = 20  # licences that are named one by one

Objection = Callable[[str, str], str | None]  # SPDX expression and what it was read from -> why it is not allowed


@dataclass(frozen=True, kw_only=True)
class OptOutDemand:
    """The table [opt_outs] of a policy file."""

    within_days: int | None = None  # greatest age of a corpus' opt-out lists


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What is demanded of every artefact in a chain; a withdrawn source is always told of."""

    licence: Objection | None = None  # None lets every licence in
    opt_outs_within_days: int | None = None  # greatest age of a corpus' opt-out lists
    today: date | None = None  # the day from which ages are counted; None takes the clock's

    def __post_init__(self) -> None:
        if self.opt_outs_within_days is not None and self.opt_outs_within_days < 0:
            raise ConfigError(
                f"opt_outs_within_days={self.opt_outs_within_days}: must not be negative", hint="for example 30"
            )

    def check(self, directory: Path, manifest: artifact.Manifest) -> list[str]:
        """Every objection to this artefact."""
        found = [*_taints(directory)]
        if self.licence is not None:
            found += _check_licences(directory, self.licence)
        if self.opt_outs_within_days is not None and manifest.kind == "corpus":
            found += self._check_opt_outs(directory, manifest)
        return found

    def check_chain(self, kinds: set[str]) -> list[str]:
        """What could not be judged because nothing in the chain shows it."""
        found = []
        if self.licence is not None and not kinds & {"corpus", "tokens", "index"}:
            found.append("no artefact of the chain that was found lists documents, so their licences are unknown")
        if self.opt_outs_within_days is not None and "corpus" not in kinds:
            found.append("no corpus of the chain was found, so the age of its opt-out lists is unknown")
        return found

    def _check_opt_outs(self, directory: Path, manifest: artifact.Manifest) -> list[str]:
        if not manifest.config.get("opt_outs"):
            return [f"{directory} was built without an opt-out list"]
        recorded = manifest.config.get(OPT_OUTS_AS_OF)
        try:
            day = date.fromisoformat(str(recorded or ""))
        except ValueError:
            return [f"{directory} does not say of which day its opt-out lists are ({OPT_OUTS_AS_OF}={recorded!r})"]
        age = ((self.today or date.today()) - day).days
        if age < 0:
            return [f"{directory} has opt-out lists of {day}, a day to come ({OPT_OUTS_AS_OF})"]
        if age <= (self.opt_outs_within_days or 0):
            return []
        return [f"{directory} has opt-out lists of {day}, {age} days old; at most {self.opt_outs_within_days} allowed"]


def _check_licences(directory: Path, objection: Objection) -> list[str]:
    files: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    try:
        for shard in shards_of(directory):
            for row in _rows(shard):
                key = (row["license"] or "", row.get("license_evidence") or "")
                files[key] += row["files"]
                first.setdefault(key, f"{row['repository']}:{row['path']} {row['swhid']}")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        return [f"{directory}: the licences of its documents cannot be read: {error}"]
    refused: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for (expression, evidence), number in files.items():
        if (reason := objection(expression, evidence)) is not None:
            refused[expression] += number
            examples.setdefault(expression, f"{reason}; the first is {first[expression, evidence]}")
    listed = [
        f"{directory} has {number} file{'s' * (number > 1)} under {expression or 'no licence'}: {examples[expression]}"
        for expression, number in refused.most_common(MOST_NAMED)
    ]
    rest = len(refused) - len(listed)
    return listed + ([f"{directory} has files under {rest} more licences that are not allowed"] if rest else [])


def _rows(shard: Path) -> "list[dict[str, Any]]":
    file = pq.ParquetFile(shard)
    wanted = ["license", "repository", "path", "swhid", "license_evidence"]
    columns = [name for name in wanted if name in file.schema_arrow.names]
    table = file.read(columns)
    # One row for each distinct licence is enough, and far fewer than all.
    keys = [name for name in ("license", "license_evidence") if name in columns]
    counted = table.group_by(keys, use_threads=False).aggregate(
        [([], "count_all"), *((name, "first") for name in ("repository", "path", "swhid"))]
    )
    renamed = {"count_all": "files", **{f"{name}_first": name for name in ("repository", "path", "swhid")}}
    counted = counted.rename_columns([renamed.get(name, name) for name in counted.column_names])
    found: list[dict[str, Any]] = counted.to_pylist()
    return found


def _taints(directory: Path) -> list[str]:
    """The requests that marks within or beside the artefact name."""
    return [f"{directory} is tainted: {mark.name} names {_requests(mark)}" for mark in marks_of(directory)]


def _requests(mark: Path) -> str:
    names = requests_in(mark)
    if names is None:
        return "no request that can be read"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"request {', '.join(names[:MOST_NAMED])}{more}" if names else "no request"
