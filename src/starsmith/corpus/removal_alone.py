"""Rows are taken out of a corpus whose sources are gone: less than a removal, and it says what it could not do.

What was dropped as a copy of a file that goes is not in the corpus, so it does not come in; such files are listed.
Shares that a build takes of everything stay as they were: which files are held out, and the weights of languages.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.core import ancestry, artifact
from starsmith.core.config import to_table
from starsmith.core.errors import InputError
from starsmith.core.merkle import write_tree
from starsmith.core.records import HELD_OUT
from starsmith.corpus import card, storage
from starsmith.corpus.build import sources_kept
from starsmith.corpus.origins import read_past
from starsmith.corpus.redaction import CONTROL_TOKENS
from starsmith.corpus.removal import Plan, check_place, settings_of
from starsmith.corpus.secrets import IP_ADDRESS
from starsmith.corpus.stages import STAGE_NAMES

_OF = re.compile(r"of (.*?)(?:, Jaccard [0-9.]{1,9})?", re.DOTALL)  # a path may have line breaks in it


@dataclass(frozen=True)
class NotReadmitted:
    """A copy of a file that went: a build would have it, or another copy."""

    repository: str
    path: str


def run(plan: Plan, *, out: Path) -> list[NotReadmitted]:
    """Write the corpus without the rows of the plan; returns the copies that would have taken their places."""
    check_place(plan.corpus, out)
    manifest = artifact.read(plan.corpus, kind="corpus")
    config = settings_of(plan.corpus)
    if manifest.counts.get("kept", 0) == len(plan.documents):
        raise InputError(f"nothing of {plan.corpus} would be left", hint="delete it, and what was made from it")
    roles = {parent.role for parent in manifest.parents}
    parents = {role: ancestry.parent_directory(plan.corpus, role) for role in sorted(roles)}
    listed = list(_rows(plan.corpus / artifact.RUN / "dropped.jsonl"))
    with artifact.create(out, kind="corpus", config=config, rooms=("core", "corpus"), parents=parents) as draft:
        draft.filters += manifest.filters
        draft.counts.update(manifest.counts)
        _copy_shards(plan, listed, draft)
        dropped, missing = _copy_list(plan, listed, draft)
        for name in [name for name in draft.counts if name.startswith("dropped_")]:
            del draft.counts[name]
        draft.counts.update(Counter(f"dropped_{row['reason']}" for row in dropped))
        for name in [name for name, number in draft.counts.items() if not number]:
            del draft.counts[name]
        write_tree(draft.path)
        card.write_card(draft.path, _account(draft, dropped, to_table(config)))
        read_past(plan.corpus).and_then(plan.corpus, plan.removals.ids).write(draft.run)
    return missing


def _copy_shards(plan: Plan, listed: list[dict[str, Any]], draft: artifact.Draft) -> None:
    """Write the rows that stay, and take the others off the counts."""
    gone = {document.key for document in plan.documents}
    near = {_name(row): other for row in listed if (other := _other(row["reason"], row.get("detail", "")))}
    others = (_other(row.reason, row.detail) for row in plan.left_out)
    lost = Counter(near.get(other, other) for other in others)  # what went for a near-duplicate counts where that does
    number = 0
    for shard in sorted((plan.corpus / "shards").glob("*.parquet")):
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            groups = [_remaining(file.read_row_group(at), gone, lost, draft) for at in range(file.num_row_groups)]
            if not any(len(group) for group in groups):
                continue
            with storage.writing(
                str(draft.path / "shards" / f"{number:05d}.parquet"), file.schema_arrow, storage.KEPT
            ) as write:
                for group in groups:
                    if len(group):
                        write(group)
            number += 1


def _remaining(group: pa.Table, gone: set[tuple[str, str, str]], lost: Counter[str], draft: artifact.Draft) -> pa.Table:
    keys = list(zip(*(group[name].to_pylist() for name in ("repository", "path", "swhid")), strict=True))
    goes = np.array([key in gone for key in keys], bool)
    for row in group.filter(pa.array(goes)).to_pylist():
        draft.counts.subtract(_counts_of(row))
    rest = group.filter(pa.array(~goes))
    names = [f"{key[0]}:{key[1]}" for key, left in zip(keys, ~goes, strict=True) if left]
    if not lost.keys() & set(names):
        return rest
    forms = Counter(names)  # a notebook has a row for each of its forms, and so has its copy
    sizes = [
        max(1, size - lost[name] // forms[name])
        for size, name in zip(rest["cluster_size"].to_pylist(), names, strict=True)
    ]
    clusters = [name if size > 1 else None for name, size in zip(rest["cluster"].to_pylist(), sizes, strict=True)]
    for name, values, kind in (("cluster", clusters, pa.string()), ("cluster_size", sizes, pa.int32())):
        rest = rest.set_column(rest.column_names.index(name), rest.field(name), pa.array(values, kind))
    return rest


def _counts_of(row: dict[str, Any]) -> Counter[str]:
    """What a row adds to the counts of a corpus."""
    found = Counter(kept=1, kept_bytes=len(row["text"].encode()), held_out=int(row["split"] == HELD_OUT))
    text, redactions = row["text"], row["redactions"]
    for at in row["controls"]:
        for kind, token in CONTROL_TOKENS.items():
            if text.startswith(token, at) and redactions:
                found[f"redacted_{kind}"] += 1
                redactions -= 1
    found[f"redacted_{IP_ADDRESS}"] += redactions  # an address becomes another one, and leaves no token
    return found


def _copy_list(
    plan: Plan, listed: list[dict[str, Any]], draft: artifact.Draft
) -> tuple[list[dict[str, Any]], list[NotReadmitted]]:
    """Write the list of what was left out without what goes; the copies of what goes are told."""
    named = {(one.repository, one.path) for one in plan.left_out}
    gone = {f"{one.repository}:{one.path}" for one in plan.documents}
    gone |= {f"{repository}:{path}" for repository, path in named}
    copies = {_name(row): row for row in listed if _name(row) in gone and _other(row["reason"], row.get("detail", ""))}
    rows: list[dict[str, Any]] = []
    missing: list[NotReadmitted] = []
    with (draft.run / "dropped.jsonl").open("w", encoding="utf-8") as written:
        for row in listed:
            if (row["repository"], row["path"]) in named:
                continue
            other = _other(row["reason"], row.get("detail", ""))
            if between := copies.get(other):  # both went for a third, by the one that goes
                row = {**row, **{key: between[key] for key in ("stage", "reason", "detail")}}
                other = _other(row["reason"], row["detail"])
            if other in gone:
                missing.append(NotReadmitted(row["repository"], row["path"]))
                row = {**row, "detail": "of a file that was removed"}
            rows.append(row)
            written.write(json.dumps(row) + "\n")
    return rows, missing


def _name(row: dict[str, Any]) -> str:
    return f"{row['repository']}:{row['path']}"


def _rows(listed: Path) -> Iterator[dict[str, Any]]:
    if not listed.is_file():
        raise InputError(f"{listed} is not there, so what was left out is not known", hint="restore it")
    with listed.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(f"{listed} is damaged", hint="restore it") from None
            if (
                not isinstance(row, dict)
                or not {"repository", "path", "stage", "reason"} <= row.keys()
                or not all(isinstance(value, str) for value in row.values())
            ):
                raise InputError(f"{listed} has a line that lists no file", hint="restore it")
            yield row


def _other(reason: str, detail: str) -> str:
    """The file that a duplicate was left out for, repository:path; "" for any other reason."""
    found = _OF.fullmatch(detail) if reason.endswith("duplicate") else None
    return found[1] if found else ""


def _account(draft: artifact.Draft, dropped: list[dict[str, Any]], settings: dict[str, Any]) -> card.Account:
    lost = Counter(row["stage"] for row in dropped)
    left = draft.counts["kept"] + len(dropped)
    steps = []
    for name in STAGE_NAMES:
        steps.append((name, left, left - lost[name]))
        left -= lost[name]
    sizes: list[int] = []
    for shard in sorted((draft.path / "shards").glob("*.parquet")):
        with pq.ParquetFile(shard) as file:
            sizes += [size for size in file.read(["cluster_size"])["cluster_size"].to_pylist() if size > 1]
    return card.Account(
        sources=sources_kept(draft.path), counts=dict(draft.counts), steps=steps, clusters=sizes, settings=settings
    )
