"""MultiPL-E (Cassano et al. 2022): HumanEval in other languages. Prompt, completion and tests make one program."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from starsmith.evaluation.benchmarks.python_tests import checked_by
from starsmith.evaluation.problem import Problem, Protocol, Row, Task, Tests

PROTOCOL = Protocol(samples=50, temperature=0.2, top_p=0.95, max_tokens=512, stop=("<file_sep>",))
SOURCE = "Lozhkov et al. 2024, table 10: 50 samples, temperature 0.2, top-p 0.95"
CPU_S = 15.0  # of the program; compilers are timed apart
LANGUAGES = {  # short name in the file's name -> language as the execution knows it
    "js": "javascript",
    "ts": "typescript",
    "java": "java",
    "cpp": "c++",
    "rs": "rust",
    "go": "go",
    "sh": "shell",
}

# Java's prompts import a library of tuples, of which 8 of the 158 programs use `Pair`: here it is, in the class itself.
TUPLES = "import org.javatuples.*;\n"
JAVA_CLASS = "class Problem {\n"
PAIR = """    static class Pair<A, B> {
        private final A first; private final B second;
        Pair(A first, B second) { this.first = first; this.second = second; }
        static <A, B> Pair<A, B> with(A first, B second) { return new Pair<>(first, second); }
        A getValue0() { return first; }
        B getValue1() { return second; }
        <X> Pair<X, B> setAt0(X value) { return with(value, second); }
        <X> Pair<A, X> setAt1(X value) { return with(first, value); }
        @Override public boolean equals(Object other) {
            return other instanceof Pair<?, ?> pair && java.util.Objects.equals(first, pair.first)
                && java.util.Objects.equals(second, pair.second);
        }
        @Override public int hashCode() { return java.util.Objects.hash(first, second); }
        @Override public String toString() { return "[" + first + ", " + second + "]"; }
    }
"""


def problems_in(language: str) -> Callable[[Sequence[Row]], list[Problem]]:
    """How the rows of one language's file are read."""

    def problems(rows: Sequence[Row]) -> list[Problem]:
        return [_problem(row, language) for row in rows]

    return problems


def _problem(row: Row, language: str) -> Problem:
    return Problem(
        id=row["name"],
        prompt=row["prompt"],
        head=row["prompt"].replace(TUPLES, "").replace(JAVA_CLASS, JAVA_CLASS + PAIR, 1),
        tests=(Tests(source="\n" + row["tests"], mode="same", language=language, cpu_s=CPU_S),),
        stop=tuple(row["stop_tokens"]),
    )


def python_problems(rows: Sequence[Row]) -> list[Problem]:
    """The file for Python has other columns, those of HumanEval-X."""
    return [_python_problem(row) for row in rows]


def _python_problem(row: Row) -> Problem:
    name = row["test"].rpartition("check(")[2].partition(")")[0].strip()
    return Problem(
        id=row["task_id"],
        prompt=row["prompt"],
        head=row["prompt"],
        tests=(checked_by(row["test"] + "\n", name, around=row["prompt"]),),
        stop=("\ndef", "\n#", "\nif", "\nclass", "\nprint"),
        reference=row["canonical_solution"],
    )


PYTHON = Task(
    name="multipl-e-python",
    title="MultiPL-E, Python",
    files=("humaneval-python.jsonl",),
    problems=python_problems,
    protocol=PROTOCOL,
    source=SOURCE,
)
TASKS = (
    PYTHON,
    *(
        replace(
            PYTHON,
            name=f"multipl-e-{short}",
            title=f"MultiPL-E, {language}",
            files=(f"humaneval-{short}.jsonl",),
            problems=problems_in(language),
        )
        for short, language in LANGUAGES.items()
    ),
)
