"""A run directory becomes one static page: what went in, what came out, where it goes back to. No request leaves it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.evaluation import plots, training_curves
from starsmith.evaluation.run import RESULTS
from starsmith.evaluation.samples import Sample

METRICS = "metrics.jsonl"  # of a model, in its run/
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
    """Write the page about the artefacts in `run`, or about the model that it is, to the file `out`."""
    from jinja2 import Environment, PackageLoader

    model, finished = _model(run)
    rows = [_stage(run / name if name != "model" else model, name) for name in STAGES]
    training = training_curves.describe(model / artifact.RUN / METRICS, reference=_reference(run), finished=finished)
    if training is None and not any(row.id for row in rows):
        raise InputError(f"{run} holds no artefact", hint="give the directory of a run: starsmith demo --out DIR")
    results = _read_json(run / "evaluation" / RESULTS)
    environment = Environment(loader=PackageLoader("starsmith.evaluation"), autoescape=True)
    page = environment.get_template("report.html").render(
        title=run.resolve().name,
        stages=rows,
        counts={row.name: row.counts for row in rows},
        results=results,
        training=training,
        bits_bars=_bits_bars(results),
        dropped=_dropped(rows[0].counts),
        samples=samples,
    )
    out.write_text(page, encoding="utf-8")
    return out


def is_model(run: Path) -> bool:
    """Whether a directory is a model of its own, finished or in training, and not a run with all its stages."""
    return (run / artifact.RUN / METRICS).is_file()


def _model(run: Path) -> tuple[Path, bool]:
    """Where the model of a run lies, and whether its training has come to an end."""
    if is_model(run):
        return run, (run / artifact.MANIFEST).is_file()
    going_on = run / "model.partial"
    if not (run / "model").exists() and is_model(going_on):
        return going_on, False
    return run / "model", True


def _reference(run: Path) -> float | None:
    results = _read_json(run / "evaluation" / RESULTS)
    return results["bits_per_byte"]["baseline"] if results else None


def _stage(path: Path, name: str) -> StageRow:
    try:
        manifest = artifact.read(path)
    except ArtifactError:
        return StageRow(name, "", (), {})
    parents = [f"{parent.role} {parent.id[:12]}" for parent in manifest.parents]
    times = _read_json(path / artifact.RUN / artifact.TIMES) or {}
    return StageRow(name, manifest.id, parents, dict(sorted(manifest.counts.items())), times.get("seconds"))


def _bits_bars(results: dict[str, Any] | None) -> list[str]:
    """For a wide screen and for a narrow one."""
    if not results:
        return []
    bits, labels = results["bits_per_byte"], ["this model", "4-gram table"]
    values = [bits["model"], bits["baseline"]]
    return [plots.bars(labels, values, unit="bits per byte, less is better", wide=wide) for wide in (True, False)]


def _dropped(counts: dict[str, int]) -> list[tuple[str, int]]:
    rows = [(name.removeprefix("dropped_"), count) for name, count in counts.items() if name.startswith("dropped_")]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
