"""Tiny sources, corpora built of them, and what came of it: for the tests that run the whole stage."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.core import artifact
from starsmith.core.config import build as build_config
from starsmith.corpus.build import CorpusConfig, run
from starsmith.corpus.sources import open_sources
from worlds import MIT

SHIPPED = "def total(values):\n    return sum(value * 2 for value in values)\n"
GPL_TAG = "# SPDX-License-Identifier: GPL-3.0-only\n"


def module(number: int) -> str:
    body = "".join(f"    step_{number}_{line} = value_{line} * {number}\n" for line in range(20))
    return f"def work_{number}(value):\n{body}    return value\n"


def config(**settings: Any) -> CorpusConfig:
    return build_config(CorpusConfig, settings, where="here")


def build(out: Path, *places: Path, benchmarks: Path | None = None, **settings: Any) -> artifact.Manifest:
    run(config(**settings), sources=open_sources(places), out=out, benchmarks=benchmarks)
    return artifact.read(out, kind="corpus")


def benchmarks_of(out: Path, text: str) -> Path:
    """An artefact of one benchmark text."""
    with artifact.create(out, kind="benchmarks", config=config(), rooms=("core",)) as draft:
        columns = {"benchmark": ["bench"], "task_id": ["7"], "part": ["solution"], "text": [text]}
        pq.write_table(pa.table(columns), draft.path / "texts.parquet")
    return out


def drops(manifest: artifact.Manifest) -> dict[str, int]:
    names = (name for name in manifest.counts if name.startswith("dropped_"))
    return {name.removeprefix("dropped_"): manifest.counts[name] for name in names}


def dropped(out: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "run" / "dropped.jsonl").read_text().splitlines()]
    return {row["path"]: row for row in rows}


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    shards = sorted((out / "shards").glob("*.parquet"))
    return {row["path"]: row for shard in shards for row in pq.read_table(shard).to_pylist()}


def near_copy(number: int) -> str:
    """`module` with one name changed: Jaccard similarity above 0.7."""
    return module(number).replace("value_7", "other_7")


def modules(count: int = 12) -> dict[str, str]:
    """The files of a project."""
    return {"LICENSE": MIT, **{f"pkg/m{number}.py": module(number) for number in range(count)}}
