"""Programs in other languages: compiled and run by their own tools, candidate and tests in one file.

A program passes when it ends with status 0 after its tests: a line at their end prints a token, so that a program which
only leaves early does not pass. (One that reads its own source can still print it.)
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from starsmith.evaluation.sandbox.inside import supervision, verdict
from starsmith.evaluation.sandbox.inside.confinement import Bounds, Confinement, confine_tool

COMPILE_CPU_S, COMPILE_WALL_S = 60.0, 240.0
_COMPILE_MEMORY_BYTES = 4 << 30
_LOOK_S = 0.05  # between two looks at what a program has used
_MOST_OUTPUT = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """How one language is run. `{0}` ... in commands are the tools' paths; files are in the working directory."""

    needs: tuple[str, ...]  # executables
    install: str  # what provides them
    file: str
    build: tuple[str, ...] = ()
    run: tuple[str, ...]
    prints: str = ""  # a statement that prints the token `%s`
    closes: int = 0  # braces at the end of the tests that the statement must stay within


TOOLCHAINS = {
    "javascript": Toolchain(
        needs=("node",), install="apt-get install nodejs", file="main.js", run=("{0}", "main.js"),
        prints='\nconsole.log("%s");\n',
    ),
    "typescript": Toolchain(
        needs=("node", "tsc"), install="apt-get install nodejs node-typescript", file="main.ts",
        build=("{1}", "--target", "es2020", "--module", "commonjs", "main.ts"), run=("{0}", "main.js"),
        prints='\nconsole.log("%s");\n',
    ),
    "java": Toolchain(
        needs=("javac", "java"), install="apt-get install default-jdk-headless", file="Problem.java",
        build=("{0}", "-J-Xmx1g", "-encoding", "UTF-8", "Problem.java"),
        run=("{1}", "-ea", "-Xmx1g", "-Xss64m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "Problem"),
        prints='\nSystem.out.println("%s");\n', closes=2,
    ),
    "c++": Toolchain(
        needs=("g++",), install="apt-get install g++", file="main.cpp",
        build=("{0}", "-std=c++17", "main.cpp", "-o", "main"), run=("./main",),
        prints='\n__builtin_puts("%s");\n', closes=1,
    ),
    "rust": Toolchain(
        needs=("rustc",), install="apt-get install rustc", file="main.rs",
        build=("{0}", "main.rs", "-o", "main"), run=("./main",), prints='\nprintln!("%s");\n', closes=1,
    ),
    "go": Toolchain(
        needs=("go",), install="apt-get install golang-go", file="main_test.go",
        build=("{0}", "test", "-c", "-o", "main", "main_test.go"),
        run=("./main", "-test.paniconexit0"),
    ),
    "shell": Toolchain(
        needs=("bash",), install="apt-get install bash", file="main.sh", run=("{0}", "main.sh"), prints="\necho %s\n",
    ),
}  # fmt: skip


def run(program: dict[str, Any], bounds: Bounds, confinement: Confinement, told: int) -> NoReturn:
    """`program`: language, tools (their paths, in the order of `needs`), candidate, tests, token, environment."""
    chain = TOOLCHAINS[program["language"]]
    source = _with_token(chain, program)
    Path(chain.file).write_text(source, encoding="utf-8", errors="surrogatepass")
    if chain.build:
        allowed = replace(
            bounds, cpu_s=COMPILE_CPU_S, wall_s=COMPILE_WALL_S, memory_bytes=_COMPILE_MEMORY_BYTES, threads=256
        )
        word, detail, _ = _execute(chain.build, program, allowed, confinement)
        if word != "pass":
            # A compiler that gives up is the program's fault; one that cannot run at all is ours.
            verdict.tell(told, word if word in ("timeout", "memory") else "error", f"does not compile: {detail}")
        Path(chain.file).unlink()
    word, detail, output = _execute(chain.run, program, bounds, confinement)
    if word == "pass" and _is_marked(chain, program["tests"]) and program["token"].encode() not in output:
        word, detail = "error", "left before its tests were over"
    verdict.tell(told, word, detail)


def _with_token(chain: Toolchain, program: dict[str, Any]) -> str:
    tests = program["tests"]
    if not _is_marked(chain, tests):
        return f"{program['candidate']}\n{tests}"
    cut = len(tests)
    for _ in range(chain.closes):
        cut = tests.rindex("}", 0, cut)
    return f"{program['candidate']}\n{tests[:cut]}{chain.prints.replace('%s', program['token'])}{tests[cut:]}"


def _is_marked(chain: Toolchain, tests: str) -> bool:
    return bool(chain.prints) and (not chain.closes or re.search(rf"(\}}\s*){{{chain.closes}}}\Z", tests) is not None)


def _execute(
    command: tuple[str, ...], program: dict[str, Any], bounds: Bounds, confinement: Confinement
) -> tuple[str, str, bytes]:
    """Verdict, detail and the end of the standard output of one command."""
    with Path(".output").open("w+b") as output, Path(".complaints").open("w+b") as complaints:
        process = subprocess.Popen(  # noqa: S603
            [part.format(*program["tools"]) for part in command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=complaints, env=program["environment"],
            preexec_fn=lambda: confine_tool(confinement, bounds), start_new_session=True,
        )  # fmt: skip
        stopped = _wait(process, bounds)
        if stopped:
            return "timeout", stopped, b""
        return *_judge(process.returncode, _tail(complaints.fileno())), _tail(output.fileno())


def _wait(process: subprocess.Popen[bytes], bounds: Bounds) -> str:
    """Until the end, which says "", or the limit that is named, which ends the whole group."""
    started, before_s = time.monotonic(), supervision.tree_cpu_s()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)
            return ""
        reached = ""
        if supervision.tree_cpu_s() - before_s >= bounds.cpu_s:
            reached = "cpu limit"
        elif time.monotonic() - started >= bounds.wall_s:
            reached = "wall limit"
        if reached:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return reached


def _judge(status: int, complaint: bytes) -> tuple[str, str]:
    detail = verdict.shorten(complaint.decode("utf-8", "replace"))
    if status == 0:
        return "pass", ""
    if status == -signal.SIGSYS:
        return "violation", "a system call that no program needs"
    if b"OutOfMemoryError" in complaint or b"bad_alloc" in complaint or b"heap out of memory" in complaint:
        return "memory", detail
    failed = status > 0 and (re.search(rb"Assertion|panicked at|--- FAIL", complaint) or not complaint)
    aborted = status == -signal.SIGABRT and b"Assertion" in complaint  # assert in C
    return "fail" if failed or aborted else "error", detail or f"status {status}"


def _tail(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _MOST_OUTPUT, max(0, size - _MOST_OUTPUT))
