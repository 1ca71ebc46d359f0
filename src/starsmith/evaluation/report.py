"""A run directory becomes one static page: what went in, what came out, where it goes back to. No request leaves it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.evaluation import plots
from starsmith.evaluation.run import RESULTS
from starsmith.evaluation.samples import Sample

STAGES = ("corpus", "tokenizer", "tokens", "model", "evaluation", "index")


@dataclass(frozen=True)
class StageRow:
    """One artefact of the run, or its absence."""

    name: str
    id: str  # "" when the stage has not been run
    parents: Sequence[str]
    counts: dict[str, int]
    seconds: float | None = None


def write(run: Path, out: Path, *, samples: Sequence[Sample]) -> Path:
    """Write the page about the artefacts in `run` to the file `out`."""
    from jinja2 import Environment, PackageLoader

    rows = [_stage(run / name) for name in STAGES]
    if not any(row.id for row in rows):
        raise InputError(f"{run} holds no artefact", hint="give the directory of a run: starsmith demo --out DIR")
    results = _read_json(run / "evaluation" / RESULTS)
    reference = results["bits_per_byte"]["baseline"] if results else None
    steps = _read_lines(run / "model" / artifact.RUN / "metrics.jsonl")
    environment = Environment(loader=PackageLoader("starsmith.evaluation"), autoescape=True)
    page = environment.get_template("report.html").render(
        title=run.resolve().name,
        stages=rows,
        counts={row.name: row.counts for row in rows},
        results=results,
        loss_curve=plots.loss_curve(steps, reference) if steps else "",
        bits_bars=_bits_bars(results),
        dropped=_dropped(rows[0].counts),
        samples=samples,
        model=_read_json(run / "model" / "config.json"),
    )
    out.write_text(page, encoding="utf-8")
    return out


def _stage(path: Path) -> StageRow:
    try:
        manifest = artifact.read(path)
    except ArtifactError:
        return StageRow(path.name, "", (), {})
    parents = [f"{parent.role} {parent.id[:12]}" for parent in manifest.parents]
    times = _read_json(path / artifact.RUN / artifact.TIMES) or {}
    return StageRow(path.name, manifest.id, parents, dict(sorted(manifest.counts.items())), times.get("seconds"))


def _bits_bars(results: dict[str, Any] | None) -> str:
    if not results:
        return ""
    bits = results["bits_per_byte"]
    return plots.bars(
        ["this model", "4-gram table"], [bits["model"], bits["baseline"]], unit="bits per byte, less is better"
    )


def _dropped(counts: dict[str, int]) -> list[tuple[str, int]]:
    rows = [(name.removeprefix("dropped_"), count) for name, count in counts.items() if name.startswith("dropped_")]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
