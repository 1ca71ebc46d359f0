"""Stages "execute" and "score": answers become programs, programs verdicts, and verdicts figures with intervals.

Imports neither torch nor transformers: what executes strangers' code has no model in it, and starts at once.
A harness_error is nobody's failure: such a sample is left out, counted, and the same command tries it again.
"""

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from starsmith.core.console import Advance
from starsmith.evaluation.answers import Answer, content_hash
from starsmith.evaluation.benchmarks import cyberseceval, fim_match
from starsmith.evaluation.benchmarks.tasks import Loaded
from starsmith.evaluation.execution import Outcome, Program
from starsmith.evaluation.journal import Journal
from starsmith.evaluation.limits import Limits
from starsmith.evaluation.pass_at_k import KS, estimates
from starsmith.evaluation.problem import Problem, Task, Tests

HARNESS_ERROR, PASS, FAIL = "harness_error", "pass", "fail"
WALL_FACTOR = 4  # the backstop of a program with a limit of its own, in terms of its processor time
REFERENCE = "reference"  # in place of a sample's number

Execute = Callable[[Iterable[Program]], Iterator[Outcome]]


@dataclass(frozen=True)
class Judged:
    """One answer with the verdict of each set of tests, in their order."""

    task_id: str
    sample: int
    verdicts: Mapping[str, str]
    detail: str  # of the first that is no pass

    @property
    def whole(self) -> bool:
        """Whether every set came to a verdict."""
        return HARNESS_ERROR not in self.verdicts.values()

    def passed(self, upto: str) -> bool:
        """Whether it passes a set and those before it: "plus" means base and plus."""
        names = list(self.verdicts)
        return all(self.verdicts[name] == PASS for name in names[: names.index(upto) + 1])

    @property
    def verdict(self) -> str:
        """The first that is no pass."""
        return next((word for word in self.verdicts.values() if word != PASS), PASS)


def judge(
    loaded: Loaded, answers: Sequence[Answer], execute: Execute, journal: Journal, advance: Advance = lambda *_: None
) -> list[Judged]:
    """A verdict for every answer, in their order; programs that the journal knows are not run again."""
    problems = {problem.id: problem for problem in loaded.problems}
    if loaded.task.judge != "execution":
        return [_read(loaded.task, problems[answer.task_id], answer) for answer in answers]
    plans = [_plan(loaded.task, problems[answer.task_id], answer) for answer in answers]
    _run_missing(plans, execute, journal, advance)
    return [
        _judged(answer, problems[answer.task_id], plan, journal) for answer, plan in zip(answers, plans, strict=True)
    ]


def judge_references(
    loaded: Loaded, execute: Execute, journal: Journal, advance: Advance = lambda *_: None
) -> dict[str, Judged]:
    """The known answers' verdicts, by problem: which pass with the libraries that are installed here."""
    answers = [
        Answer(task_id=problem.id, sample=0, completion=problem.reference)
        for problem in loaded.problems
        if problem.reference is not None
    ]
    return {one.task_id: one for one in judge(loaded, answers, execute, journal, advance)}


def count_programs(loaded: Loaded, answers: Sequence[Answer]) -> int:
    """Distinct programs that judging takes, those that the journal knows included."""
    problems = {problem.id: problem for problem in loaded.problems}
    return len({program.key for one in answers for program in _plan(loaded.task, problems[one.task_id], one)})


def _read(task: Task, problem: Problem, answer: Answer) -> Judged:
    """A verdict by looking alone."""
    right = (cyberseceval.is_secure if task.judge == "scan" else fim_match.matches)(problem, answer.text())
    return Judged(answer.task_id, answer.sample, {task.metric: PASS if right else FAIL}, "")


def _plan(task: Task, problem: Problem, answer: Answer) -> list[Program]:
    candidate = answer.candidate(task, problem)
    if not problem.tests:  # of a private benchmark, which may have both kinds
        return []
    return [program_of(candidate, tests, fingerprint(task.preload)) for tests in problem.tests]


def program_of(candidate: str, tests: Tests, environment: str) -> Program:
    """A program under the hash of all that decides its verdict."""
    usual = Limits()
    limits = usual
    if tests.cpu_s is not None:
        limits = replace(usual, cpu_s=tests.cpu_s, wall_s=max(usual.wall_s, WALL_FACTOR * tests.cpu_s))
    if tests.memory_bytes is not None:
        limits = replace(limits, memory_bytes=tests.memory_bytes)
    content = [candidate + tests.driver, tests.source, tests.entry_point, tests.mode, tests.language]
    return Program(
        key=content_hash([*content, vars(limits), environment]),
        candidate=candidate + tests.driver,
        tests=tests.source,
        entry_point=tests.entry_point,
        mode=tests.mode,
        language=tests.language,
        limits=limits,
    )


@cache
def fingerprint(modules: tuple[str, ...]) -> str:
    """The interpreter and the versions of the libraries that candidates import."""
    return " ".join([f"Python {platform.python_version()}", *(f"{name} {ver}" for name, ver in versions(modules))])


def versions(modules: tuple[str, ...]) -> list[tuple[str, str]]:
    """Installed version of the distribution of each module; "missing" where there is none."""
    providers = importlib.metadata.packages_distributions() if modules else {}
    found = []
    for module in modules:
        names = providers.get(module.split(".")[0], ())
        found.append((module.split(".")[0], importlib.metadata.version(names[0]) if names else "missing"))
    return found


def _run_missing(plans: Sequence[Sequence[Program]], execute: Execute, journal: Journal, advance: Advance) -> None:
    """Run what the journal has not, or has only as the harness's own error."""
    programs = {program.key: program for plan in plans for program in plan}
    missing = []
    for key, program in programs.items():
        if key in journal.rows and journal.rows[key]["verdict"] != HARNESS_ERROR:
            advance()
        else:
            missing.append(program)
    for outcome in execute(missing) if missing else ():
        journal.add(vars(outcome))
        advance()


def _judged(answer: Answer, problem: Problem, plan: Sequence[Program], journal: Journal) -> Judged:
    if not plan:
        word = PASS if fim_match.matches(problem, answer.text()) else FAIL
        return Judged(answer.task_id, answer.sample, {"base": word}, "")
    rows = [journal.rows[program.key] for program in plan]
    verdicts = {tests.name: row["verdict"] for tests, row in zip(problem.tests, rows, strict=True)}
    detail = next((str(row["detail"]) for row in rows if row["verdict"] != PASS), "")
    return Judged(answer.task_id, answer.sample, verdicts, detail)


Counts = dict[str, tuple[int, int]]


def counts_of(judged: Iterable[Judged], name: str) -> Counts:
    """Of each problem: samples with a verdict, and those of them that pass."""
    counts: Counts = {}
    for one in judged:
        if one.whole:
            samples, right = counts.get(one.task_id, (0, 0))
            counts[one.task_id] = samples + 1, right + one.passed(name)
    return counts


def figures(
    loaded: Loaded, answers: Sequence[Answer], judged: Sequence[Judged], references: Mapping[str, Judged], *, seed: int
) -> dict[str, Any]:
    """What results.json says about the answers; nothing in it depends on the machine's speed."""
    task, order = loaded.task, [problem.id for problem in loaded.problems]
    names = list(dict.fromkeys(name for one in judged for name in one.verdicts))
    counts = {name: _in_order(counts_of(judged, name), order) for name in names}
    most = max((samples for samples, _ in counts[names[0]].values()), default=0) if names else 0
    found: dict[str, Any] = {
        "scores": {name: _scores(task, counts[name], seed) for name in names},
        "problems": len(order),
        "answered": len({answer.task_id for answer in answers}),
        "samples": len(answers),
        "verdicts": dict(sorted(Counter(one.verdict for one in judged).items())),
        "harness_errors": sum(not one.whole for one in judged),
        "empty_completions": sum(not answer.text().strip() for answer in answers),
        "truncated_prompts": sum(answer.truncated for answer in answers),
        "not_reported": _not_reported(task, counts, most),
        "groups": _groups(loaded, counts, seed),
        "modes": dict(Counter(tests.mode for problem in loaded.problems for tests in problem.tests)),
        "per_problem": {name: {key: list(pair) for key, pair in counts[name].items()} for name in names},
    }
    if references:
        found["references"] = _reference_figures(loaded, counts, references, seed)
    return found


def _in_order(counts: Counts, order: Sequence[str]) -> Counts:
    return {problem: counts[problem] for problem in order if problem in counts}


def _scores(task: Task, counts: Counts, seed: int) -> dict[str, Any]:
    found = estimates(list(counts.values()), seed=seed)
    return {name.replace("pass", task.metric): value.as_json() for name, value in found.items()}


def _not_reported(task: Task, counts: Mapping[str, Counts], most: int) -> list[str]:
    """Figures that some problems have samples for, and others not; a k that nobody has them for is no surprise."""
    if not counts:
        return []
    fewest = min((samples for samples, _ in next(iter(counts.values())).values()), default=0)
    return [f"{task.metric}@{k}: a problem has {fewest} samples, wanted at least {k}" for k in KS if fewest < k <= most]


def _groups(loaded: Loaded, counts: Mapping[str, Counts], seed: int) -> dict[str, Any]:
    """Scores of each library, language or weakness, by the first set of tests that all have."""
    groups = {problem.id: problem.group for problem in loaded.problems}
    names = sorted(set(groups.values()) - {""})
    if not counts or len(names) < 2:
        return {}
    last = list(counts.values())[-1]
    parts = {name: {key: pair for key, pair in last.items() if groups[key] == name} for name in names}
    return {name: {"problems": len(part), **_scores(loaded.task, part, seed)} for name, part in parts.items() if part}


def _reference_figures(
    loaded: Loaded, counts: Mapping[str, Counts], references: Mapping[str, Judged], seed: int
) -> dict[str, Any]:
    """The known answers' own score, by group, and the model's over the problems whose known answer counts here."""
    wanted = FAIL if loaded.task.judge == "scan" else PASS  # the scanner must find what is known to be insecure
    runnable = {key for key, one in references.items() if one.verdict == wanted}
    groups = {problem.id: problem.group for problem in loaded.problems}
    tally = {name: [key for key in references if groups[key] == name] for name in sorted(set(groups.values()))}
    last = list(counts.values())[-1] if counts else {}
    return {
        "libraries": dict(versions(loaded.task.preload)),
        "as_expected": len(runnable),
        "of": len(references),
        "groups": {name: [sum(key in runnable for key in keys), len(keys)] for name, keys in tally.items()},
        "runnable": _scores(loaded.task, {key: pair for key, pair in last.items() if key in runnable}, seed),
        "status": {key: one.verdict for key, one in references.items()},
    }
