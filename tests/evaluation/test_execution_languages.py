"""Programs in other languages, for the toolchains that are installed here."""

import pytest

from starsmith.core.errors import InputError
from starsmith.evaluation.execution import Program, execute
from starsmith.evaluation.limits import Limits
from starsmith.evaluation.sandbox.choice import SandboxChoice, choose, kernel_only
from starsmith.evaluation.sandbox.surroundings import find_tools

pytestmark = pytest.mark.slow

LIMITS = Limits(cpu_s=1.0, wall_s=60.0)

# language: (program with %s for the body of a function that adds one, tests, right, wrong, leaves, loops)
PROGRAMS = {
    "javascript": (
        "function f(x) { %s }", "const assert = require('node:assert');\nassert.deepEqual(f(1), 2);",
        "return x + 1;", "return x;", "process.exit(0);", "for (;;) {}",
    ),
    "typescript": (
        "function f(x: number): number { %s }",
        "declare var require: any;\nconst assert = require('node:assert');\nassert.deepEqual(f(1), 2);",
        "return x + 1;", "return x;", "return (Function('process', 'process.exit(0)') as any)(eval('process'));",
        "for (;;) {}",
    ),
    "java": (
        "class Problem {\n    public static long f(long x) { %s ",
        "    }\n    public static void main(String[] args) {\n    assert(f(1l) == (2l));\n    }\n\n}\n",
        "return x + 1;", "return x;", "System.exit(0); return 0;", "while (x < 9) { x = x & 3; } return x;",
    ),
    "c++": (
        "#include <cassert>\n#include <cstdlib>\nlong f(long x) { %s",
        "}\nint main() {\n    auto candidate = f;\n    assert(candidate(1) == 2);\n}\n",
        "return x + 1;", "return x;", "std::exit(0);", "for (volatile int i = 0;; i = 1); return x;",
    ),
    "rust": (
        "fn f(x: isize) -> isize { %s", "}\n\nfn main() {\n    assert_eq!(f(1), 2);\n}\n",
        "x + 1", "x", "std::process::exit(0)", "loop {}",
    ),
    "go": (
        'package f_test\n\nimport "testing"\nimport "os"\n\nfunc f(x int) int { _ = os.Args; %s }\n',
        'func TestF(t *testing.T) {\n\tif f(1) != 2 { t.Errorf("no") }\n}\n',
        "return x + 1", "return x", "os.Exit(0); return 0", "for { x = x & 3 }",
    ),
    "shell": (
        "#!/bin/bash\nf() {\n    %s\n",
        '}\ncandidate() {\n    f "$@"\n}\nset -e\nrun_test() {\n    [[ $(candidate 1) = "2" ]]\n}\nrun_test\n',
        "echo $(($1 + 1))", "echo $1", "echo 2\n}\nexit 0\ng() {", "while :; do :; done",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def sandbox() -> SandboxChoice:
    choice = choose()
    if choice.kind != "namespaces":
        pytest.skip(f"SKIPPED: {choice.warnings}")
    return choice


@pytest.mark.parametrize("language", PROGRAMS)
def test_right_passes_and_nothing_else_does(language: str, sandbox: SandboxChoice) -> None:
    try:
        find_tools(language)
    except InputError as error:
        pytest.skip(f"SKIPPED: {error}")
    shape, tests, *bodies = PROGRAMS[language]
    names = ("right", "wrong", "leaves", "loops")
    programs = [
        Program(
            key=name, candidate=shape.replace("%s", body), tests=tests, mode="same", language=language, limits=LIMITS
        )
        for name, body in zip(names, bodies, strict=True)
    ]
    programs.append(Program(key="broken", candidate="((", tests=tests, mode="same", language=language))

    outcomes = {outcome.key: outcome for outcome in execute(programs, workers=2, sandbox=sandbox)}

    assert outcomes["right"].verdict == "pass", outcomes["right"]
    assert outcomes["wrong"].verdict == "fail", outcomes["wrong"]
    assert outcomes["leaves"].verdict in ("error", "fail"), outcomes["leaves"]
    assert outcomes["broken"].verdict == "error", outcomes["broken"]
    assert outcomes["loops"].verdict == "timeout", outcomes["loops"]


def test_a_bomb_of_processes_is_bounded_and_its_files_are_gone(sandbox: SandboxChoice) -> None:
    bomb = "f() {\n    bomb() { bomb | bomb & }; bomb; sleep 1; for i in $(seq 9999); do : > /tmp/$i; done; echo 2\n"
    after = "f() {\n    ls /tmp | grep -v main.sh | wc -l\n"
    tests = '}\nset -e\n[[ $(f) = "0" ]]\n'
    limits = Limits(cpu_s=1.0, wall_s=4.0)
    programs = [
        Program(key=key, candidate=source, tests=tests, mode="same", language="shell", limits=limits)
        for key, source in (("bomb", bomb), ("after", after))
    ]

    outcomes = {outcome.key: outcome for outcome in execute(programs, workers=1, sandbox=sandbox)}

    assert outcomes["bomb"].verdict in ("fail", "error", "timeout")
    assert outcomes["after"].verdict == "pass", outcomes["after"]


def test_a_shell_reaches_no_file_network_or_process_outside(sandbox: SandboxChoice) -> None:
    spy = (
        "f() {\n    cat /etc/passwd /etc/shadow ~/.bashrc /proc/1/environ 2>/dev/null; echo x > /usr/x 2>/dev/null;\n"
        "    (exec 3<>/dev/tcp/127.0.0.1/22) 2>/dev/null && echo net; kill -9 -1 2>/dev/null\n"
    )
    tests = '}\n[[ "$(f | head -c 100)" != *root:* ]]\n'

    outcome = next(
        execute(
            [Program(key="spy", candidate=spy, tests=tests, mode="same", language="shell", limits=LIMITS)],
            workers=1,
            sandbox=sandbox,
        )
    )

    assert outcome.verdict in ("pass", "error", "fail")
    assert "root:" not in outcome.detail


def test_other_languages_need_namespaces() -> None:
    program = Program(key="x", candidate="", tests="", language="shell")

    with pytest.raises(InputError, match="namespaces"):
        list(execute([program], workers=1, sandbox=kernel_only()))
