"""BigCode's harness: generations.json, a list of programs for each problem, without ids; and its scores.

The only order is that of the benchmark, so a file fits when it has as many lists as the benchmark has problems, or as
many as were asked for with --limit.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.evaluation.answers import Answer
from starsmith.evaluation.benchmarks.tasks import Loaded


def read_generations(path: Path, loaded: Loaded) -> list[Answer]:
    """Programs by their places."""
    try:
        lists = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}", hint="give a generations.json of BigCode's harness") from None
    if not isinstance(lists, list) or not all(isinstance(one, list) for one in lists):
        raise InputError(f"{path} is no list of lists of programs", hint="give a generations.json of BigCode's harness")
    if len(lists) != len(loaded.problems):
        raise InputError(
            f"{path} has programs for {len(lists)} problems, {loaded.task.name} has {len(loaded.problems)}",
            hint="give the task that they were written for, or --limit for its first problems",
        )
    answers = []
    for problem, programs in zip(loaded.problems, lists, strict=True):
        for sample, program in enumerate(programs):
            if not isinstance(program, str):
                raise InputError(f"{path}: a program of {problem.id} is no text", hint="wanted: a list of lists of str")
            answers.append(Answer(task_id=problem.id, sample=sample, solution=program))
    return answers


def generations(eval_results: Mapping[str, Any]) -> list[list[str]]:
    """The programs of an eval_results.json, in the order of the benchmark."""
    return [[row["solution"] for row in rows] for rows in eval_results["eval"].values()]


def evaluation_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Our results as its evaluation_results.json."""
    last = list(results["scores"].values())[-1]
    scores = {name: figure["value"] for name, figure in last.items()}
    return {results["task"]: scores, "config": {"model": results["model"], **results["protocol"]}}
