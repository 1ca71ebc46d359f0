"""lm-evaluation-harness: its results file, {"results": {task: {"pass@1,filter": value, ...}}}."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.evaluation.statistics import Z_95

FILTER = "create_test"  # as its code tasks name their one filter


def results_json(results: Mapping[str, Any]) -> dict[str, Any]:
    """Our results as one of its files; the standard error is the interval's half over 1.96."""
    task = results["task"]
    entries: dict[str, Any] = {"alias": task}
    for name, figure in list(results["scores"].values())[-1].items():
        entries[f"{name},{FILTER}"] = figure["value"]
        entries[f"{name}_stderr,{FILTER}"] = (figure["high"] - figure["low"]) / (2 * Z_95)
    return {
        "results": {task: entries},
        "configs": {task: {"task": task, "metadata": results["protocol"]}},
        "versions": {task: 1},
        "n-shot": {task: 0},
        "n-samples": {task: {"original": results["problems"], "effective": results["answered"]}},
        "config": {"model": results["model"]},
    }


def read_results(path: Path) -> dict[str, dict[str, float]]:
    """task -> metric -> value, whatever its filters are called; standard errors are left out."""
    try:
        tasks = json.loads(path.read_bytes())["results"]
        return {task: dict(_metrics(entries)) for task, entries in tasks.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is no results file of lm-eval: {error!r}", hint="give its results_*.json") from None


def _metrics(entries: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = []
    for name, value in entries.items():
        metric = name.partition(",")[0]
        if isinstance(value, int | float) and not isinstance(value, bool) and not metric.endswith("_stderr"):
            found.append((metric, float(value)))
    return found
