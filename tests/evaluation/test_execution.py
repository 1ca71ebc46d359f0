"""Programs in, verdicts out: every way to end has its word, and every key is run once."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from starsmith.core.errors import ConfigError, InputError
from starsmith.evaluation.execution import Mode, Outcome, Program, execute, key_of
from starsmith.evaluation.limits import Limits
from starsmith.evaluation.modes import called_names, mode_for
from starsmith.evaluation.sandbox.choice import SandboxChoice, choose, kernel_only
from starsmith.evaluation.sandbox.surroundings import find_tools, package_entries

pytestmark = pytest.mark.slow

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MODES: tuple[Mode, ...] = ("split", "same")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SKIPPED: ../shared has no benchmarks")


@pytest.fixture(scope="module")
def sandbox() -> SandboxChoice:
    try:
        return choose()
    except InputError as error:
        pytest.skip(f"SKIPPED: {error}")


def run(sandbox: SandboxChoice, *programs: Program, workers: int = 1) -> dict[str, Outcome]:
    return {outcome.key: outcome for outcome in execute(programs, workers=workers, sandbox=sandbox)}


def split(key: str, candidate: str, tests: str, limits: Limits | None = None) -> Program:
    return Program(key=key, candidate=candidate, tests=tests, entry_point="f", limits=limits or Limits(cpu_s=0.5))


def test_each_way_to_end_has_its_verdict(sandbox: SandboxChoice) -> None:
    right, test = "def f(x): return x + 1", "assert f(1) == 2"
    outcomes = run(
        sandbox,
        split("pass", right, test),
        split("fail", "def f(x): return x", test),
        split("error", "def f(x): return x[0]", test),
        split("syntax", "def f(x:", test),
        split("missing", "def g(x): return x", test),
        split("memory", "def f(x): return [0] * 10**12", test),
        split("violation", "import ctypes\ndef f(x): ctypes.CDLL(None).ptrace(0, 0, 0, 0)", test),
        split("broken tests", right, "assert f(1"),
        split("passes a function", right, "assert f(print) == 2"),
    )

    verdicts = {key: outcome.verdict for key, outcome in outcomes.items()}
    assert verdicts == {
        "pass": "pass",
        "fail": "fail",
        "error": "error",
        "syntax": "error",
        "missing": "error",
        "memory": "memory",
        "violation": "violation",
        "broken tests": "harness_error",
        "passes a function": "harness_error",
    }
    assert outcomes["error"].detail == "TypeError: 'int' object is not subscriptable"
    assert outcomes["missing"].detail == "NameError: name 'f' is not defined"
    assert "'same'" in outcomes["passes a function"].detail


def test_processor_time_decides_a_timeout_and_it_is_run_again_at_the_end(sandbox: SandboxChoice) -> None:
    loop = split("loop", "def f(x):\n    while True: pass", "f(1)")
    sleeps = split("sleeps", "import time\ndef f(x): time.sleep(1.5)", "f(1)")

    outcomes = run(sandbox, loop, sleeps)

    assert list(outcomes) == ["sleeps", "loop"]
    assert outcomes["loop"].verdict == "timeout"
    assert 0.45 < outcomes["loop"].cpu_s < 1.5
    assert outcomes["sleeps"].verdict == "pass"


def test_the_wall_clock_ends_what_only_sleeps(sandbox: SandboxChoice) -> None:
    sleeper = split("sleeper", "import time\ndef f(x): time.sleep(99)", "f(1)", Limits(cpu_s=0.5, wall_s=1.0))

    outcome = run(sandbox, sleeper)["sleeper"]

    assert (outcome.verdict, outcome.detail) == ("timeout", "wall limit")


def test_a_key_is_run_once(sandbox: SandboxChoice) -> None:
    twice = [split("one", "def f(x): return x", "assert f(1) == 1")] * 3

    assert len(list(execute(twice, workers=2, sandbox=sandbox))) == 1


def test_programs_are_taken_as_workers_get_free(sandbox: SandboxChoice) -> None:
    taken = []

    def programs():  # type: ignore[no-untyped-def]
        for number in range(20):
            taken.append(number)
            yield split(str(number), "def f(x): return x", "assert f(1) == 1")

    running = execute(programs(), workers=1, sandbox=sandbox)
    next(running)

    assert len(taken) <= 2
    assert sum(1 for _ in running) == 19


def test_tests_see_the_candidates_own_exceptions_by_their_built_in_base(sandbox: SandboxChoice) -> None:
    candidate = "class Odd(ValueError): pass\ndef f(x): raise Odd('no')"
    tests = "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError"

    assert run(sandbox, split("odd", candidate, tests))["odd"].verdict == "pass"


def test_same_mode_shares_names_and_split_mode_does_not(sandbox: SandboxChoice) -> None:
    candidate, tests = "class Node: pass\ndef f(x): return isinstance(x, Node)", "assert f(Node())"
    programs = [Program(key=mode, candidate=candidate, tests=tests, entry_point="f", mode=mode) for mode in MODES]

    outcomes = run(sandbox, *programs)

    assert outcomes["same"].verdict == "pass"
    assert outcomes["split"].verdict != "pass"


def test_leaving_early_is_no_pass_in_either_mode(sandbox: SandboxChoice) -> None:
    programs = [
        Program(key=mode, candidate="import os\nos._exit(0)", tests="f()", entry_point="f", mode=mode) for mode in MODES
    ]

    assert {outcome.verdict for outcome in run(sandbox, *programs).values()} == {"error"}


def test_preloaded_modules_are_there_and_what_was_not_asked_for_is_not(sandbox: SandboxChoice) -> None:
    candidate = "def f(x):\n    try: __import__(x)\n    except ImportError: return False\n    return True"
    tests = "assert f('click')\nassert not f('pytest')\nassert not f('torch')"

    outcomes = list(execute([split("x", candidate, tests)], workers=1, sandbox=sandbox, preload=("click",)))

    assert (outcomes[0].verdict, outcomes[0].detail) == ("pass", "")


def test_a_module_that_is_not_installed_cannot_be_preloaded(sandbox: SandboxChoice) -> None:
    with pytest.raises(InputError, match="no_such_module"):
        list(execute([split("x", "", "")], workers=1, sandbox=sandbox, preload=("no_such_module",)))


def test_requirements_of_a_package_are_shown_with_it() -> None:
    names = {path.name for path in package_entries(("pandas",))}

    assert {"pandas", "numpy", "dateutil"} <= names
    assert "torch" not in names


def test_an_unsafe_run_says_so() -> None:
    choice = choose(unsafe=True)

    assert choice.kind == "unsafe"
    assert choice.warnings == ("programs ran without a sandbox",)
    assert run(choice, split("x", "def f(x): return x", "assert f(1) == 1"))["x"].verdict == "pass"


def test_the_fallback_names_what_it_lacks_and_gives_the_same_verdicts() -> None:
    choice = kernel_only()
    programs = [
        split("a", "def f(x): return x", "assert f(1) == 1"),
        split("b", "def f(x): return 2", "assert f(1) == 1"),
    ]

    outcomes = run(choice, *programs)

    assert choice.warnings
    assert [outcomes[key].verdict for key in "ab"] == ["pass", "fail"]


def test_without_any_protection_nothing_runs_and_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("starsmith.evaluation.sandbox.inside.landlock.abi", lambda: 0)

    with pytest.raises(InputError, match="no sandbox") as refused:
        choose()

    assert "apt-get install bubblewrap" in refused.value.hint


def test_without_namespaces_the_kernel_alone_is_used_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    choice = choose()

    assert choice.kind == "kernel"
    assert "bubblewrap is not installed" in choice.warnings[0]


@pytest.mark.parametrize("values", [{"cpu_s": 0}, {"cpu_s": 5, "wall_s": 1}, {"memory_bytes": 0}])
def test_limits_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Limits(**values)  # type: ignore[arg-type]


def test_a_key_follows_from_everything_that_is_run() -> None:
    one = split("", "def f(x): return x", "f(1)")

    assert key_of(one) == key_of(split("other", "def f(x): return x", "f(1)"))
    assert key_of(one) != key_of(split("", "def f(x): return x", "f(1)", Limits(cpu_s=9)))


def test_tests_that_use_the_candidates_things_need_its_process() -> None:
    assert mode_for("assert f(1) == max(2, 3)", "f") == ("split", "")
    assert mode_for("def check(c):\n    for a in [1]:\n        assert c(a)\ncheck(f)", "f") == ("split", "")
    assert mode_for("assert f([Pair(1, 2)])", "f")[0] == "same"
    assert mode_for("assert f(2) == sys.maxsize", "f")[0] == "same"
    assert mode_for("assert f(lambda x: x)", "f")[0] == "same"
    assert mode_for("assert f([1], int) == 1", "f")[0] == "same"
    assert mode_for("def g(): pass\nassert f(g) == 1", "f")[0] == "same"


def test_helpers_that_the_tests_call_are_asked_of_the_candidate_too() -> None:
    assert called_names("assert abs(poly([1], f(2))) < 1", "f") == ("f", "poly")


def test_a_missing_tool_is_said_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(InputError, match="go needs go") as refused:
        find_tools("go")

    assert "golang" in refused.value.hint
    with pytest.raises(InputError, match="cobol"):
        find_tools("cobol")


def test_executing_imports_neither_torch_nor_transformers() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, starsmith.evaluation.execution; print({'torch', 'transformers', 'numpy'} & "
         "set(sys.modules))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert said.stdout.strip() == "set()"


@needs_data
def test_every_reference_of_humaneval_passes_in_two_processes_and_in_one(sandbox: SandboxChoice) -> None:
    packed = (DATA / "humaneval" / "HumanEval.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    programs = [
        Program(
            key=f"{row['task_id']} {mode}",
            candidate=row["prompt"] + row["canonical_solution"],
            tests=f"{row['test']}\ncheck({row['entry_point']})\n",
            entry_point=row["entry_point"],
            mode=mode,
            limits=Limits(cpu_s=20.0),
        )
        for row in rows
        for mode in MODES
    ]

    outcomes = run(sandbox, *programs, workers=2)

    assert len(outcomes) == 328
    assert {key: outcome for key, outcome in outcomes.items() if outcome.verdict != "pass"} == {}
    assert all(mode_for(program.tests, program.entry_point)[0] == "split" for program in programs)
