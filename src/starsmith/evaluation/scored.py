"""Scores that are there already, ours or EvalPlus's, read to be compared and drawn."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.evaluation import comparison
from starsmith.evaluation.formats.evalplus import read_eval_results

RESULTS, EVAL_RESULTS = "results.json", "eval_results.json"
Counts = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Scored:
    """One model's counts on one benchmark."""

    label: str
    counts: Mapping[str, Counts]  # set of tests -> problem -> samples, right ones
    results: Mapping[str, Any] | None  # ours; None: EvalPlus's file, which has no more

    @property
    def task(self) -> str | None:
        """The benchmark's name, where it is known."""
        return None if self.results is None else str(self.results["task"])


def read(path: Path) -> Scored:
    """A scores directory, or an eval_results.json."""
    if path.is_dir():
        results, _ = read_directory(path)
        counts = {
            name: {problem: (int(samples), int(right)) for problem, (samples, right) in problems.items()}
            for name, problems in results["per_problem"].items()
        }
        return Scored(path.resolve().name, counts, results)
    if not path.is_file():
        raise InputError(f"{path} does not exist", hint="give a directory that starsmith evaluate wrote")
    return Scored(path.name, read_eval_results(path), None)


def read_directory(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """results.json and eval_results.json of a scores directory."""
    try:
        results = json.loads((path / RESULTS).read_bytes())
        solutions = json.loads((path / EVAL_RESULTS).read_bytes())
        if not results["per_problem"] or not isinstance(solutions["eval"], dict):
            raise ValueError("no problem has a verdict")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} holds no scores: {error!r}", hint="give a directory that starsmith evaluate --task wrote"
        ) from None
    return results, solutions


def compare(first: Scored, second: Scored, tests: str | None = None) -> comparison.Comparison:
    """Paired, on one set of tests: the last that both have, or the one that is named."""
    if first.task != second.task and None not in (first.task, second.task):
        raise InputError(
            f"{first.label} is of {first.task}, {second.label} of {second.task}",
            hint="compare two scores of one task",
        )
    shared = [name for name in first.counts if name in second.counts]
    if not shared or (tests is not None and tests not in shared):
        raise InputError(
            f"{first.label} and {second.label} share no tests {tests or ''}".rstrip(),
            hint=f"they share: {', '.join(shared) or 'none'}",
        )
    name = tests or shared[-1]
    return comparison.compare(first.counts[name], second.counts[name])
