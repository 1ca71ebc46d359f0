"""HumanEval+ and MBPP+ (Liu et al. 2023): the same tasks with many more inputs, judged against the reference solution.

All inputs of a set go to the candidate in one call. Outputs whose digest is that of the reference's are right; where it
differs (floats in their last digit, another order of a set), the reference runs beside the tests and the rules decide.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from starsmith.evaluation.benchmarks import differential, humaneval
from starsmith.evaluation.problem import Problem, Protocol, Row, Task, Tests

RUN_ALL = "_starsmith_run_all"  # defined behind the candidate
DRIVER = "\n\ndef {run_all}(inputs):\n    return [{name}(*arguments) for arguments in inputs]\n"
CPU_S = 15.0  # for a set of up to a thousand inputs: four times what all but a few references need
SLOW = {"Mbpp/599": 120.0, "Mbpp/255": 40.0, "Mbpp/392": 30.0, "Mbpp/271": 30.0}  # seconds
# Bytes, for tests in the candidate's process: one of its answers is more than may cross between two.
LARGE = {("Mbpp/255", "plus"): 8 << 30}
MBPP_STOPS = (*humaneval.EVALPLUS_STOPS, '\n"""', "\nassert")


def humaneval_plus(rows: Sequence[Row]) -> list[Problem]:
    """A problem for each row of HumanEvalPlus.jsonl."""
    return [_problem(row, mbpp=False) for row in rows]


def mbpp_plus(rows: Sequence[Row]) -> list[Problem]:
    """A problem for each row of MbppPlus.jsonl."""
    return [_problem(row, mbpp=True) for row in rows]


def _problem(row: Row, *, mbpp: bool) -> Problem:
    prompt = humaneval.prompt_of(row["prompt"])
    return Problem(
        id=row["task_id"],
        prompt=prompt,
        head=prompt,
        tests=tuple(_tests(row, name, mbpp=mbpp) for name in ("base", "plus")),
        reference=row["canonical_solution"],
        chat=humaneval.chat_of(row["prompt"]),
    )


def _tests(row: Row, name: str, *, mbpp: bool) -> Tests:
    """The checker's text, the reference and the inputs of one set."""
    entry_point = row["entry_point"]
    large = LARGE.get((row["task_id"], name))
    lines = [
        _checker(),
        "import json as _json",
        f"_reference = {{}}\nexec({row['prompt'] + row['canonical_solution']!r}, _reference)",
        f"_inputs = _json.loads({json.dumps(row[f'{name}_input'])!r})",
        f"_inputs = [({_restored(row)}) for arguments in _inputs]",
        f"_task = ({entry_point!r}, {row['atol']!r}, {mbpp})",
        f"check_outputs({RUN_ALL}, _reference[{entry_point!r}], _inputs, _task, {_known(row, name)!r})",
    ]
    return Tests(
        name=name,
        source="\n".join(lines) + "\n",
        entry_point=RUN_ALL,
        driver=DRIVER.format(run_all=RUN_ALL, name=entry_point),
        cpu_s=SLOW.get(row["task_id"], CPU_S),
        mode="split" if large is None else "same",
        memory_bytes=large,
    )


def _restored(row: Row) -> str:
    """The expression that makes of JSON's `arguments` those that the function expects."""
    benchmark, _, number = row["task_id"].partition("/")
    return RESTORE.get(int(number), "arguments") if benchmark == "Mbpp" else "arguments"


def reference_outputs(row: Row, name: str, function: Any) -> list[Any]:
    """What a function returns for one set's inputs."""
    restore = eval(f"lambda arguments: {_restored(row)}")  # noqa: S307 an expression of the table below
    return [function(*restore(arguments)) for arguments in row[f"{name}_input"]]


def digest_key(row: Row, name: str) -> str:
    """Names one set of inputs with its reference, as the digests' file has it."""
    content = row["prompt"] + row["canonical_solution"] + json.dumps(row[f"{name}_input"])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _known(row: Row, name: str) -> str | None:
    """Digest of the reference's outputs, made by tools/digest_references.py; None for data that we have not seen."""
    return _digests().get(digest_key(row, name))


@cache
def _digests() -> dict[str, str]:
    found: dict[str, str] = json.loads(Path(__file__).with_name("evalplus_digests.json").read_text())
    return found


@cache
def _checker() -> str:
    return Path(differential.__file__).read_text(encoding="utf-8")


_TUPLES = "[tuple(one) for one in arguments]"
_LISTS_OF_TUPLES = "[[tuple(item) for item in one] for one in arguments]"
_FIRST_OF_TUPLES = "[[tuple(item) for item in arguments[0]], arguments[1]]"
_SECOND = "[arguments[0], tuple(arguments[1])]"
_FIRST = "[tuple(arguments[0]), *arguments[1:]]"
_TUPLES_OF_TUPLES = "[tuple(tuple(item) for item in one) for one in arguments]"
_DEEP = "(lambda deep: [deep(deep, one) for one in arguments])(lambda deep, value: " \
        "tuple(deep(deep, item) for item in value) if isinstance(value, list) else value)"  # fmt: skip
RESTORE: dict[int, str] = {
    **dict.fromkeys((2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740,
                     744, 809), _TUPLES),
    **dict.fromkeys((63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780), _LISTS_OF_TUPLES),
    **dict.fromkeys((75, 413, 444, 753), _FIRST_OF_TUPLES),
    **dict.fromkeys((106, 750), _SECOND),
    **dict.fromkeys((250, 307, 405, 446, 617, 720, 763, 808), _FIRST),
    **dict.fromkeys((259, 401, 445), _TUPLES_OF_TUPLES),
    **dict.fromkeys((580, 615, 791), _DEEP),
    115: "[[set(one) if isinstance(one, list) and one else {} for one in arguments[0]]]",
    124: "[float(arguments[0]), complex(arguments[1])]",
    252: "[complex(arguments[0])]",
    278: "[tuple(tuple(one) if isinstance(one, list) else one for one in arguments[0])]",
    722: "[{key: tuple(value) for key, value in arguments[0].items()}, *arguments[1:]]",
}  # fmt: skip

HUMANEVAL = Task(
    name="humaneval+",
    title="HumanEval+",
    files=("HumanEvalPlus.jsonl",),
    problems=humaneval_plus,
    protocol=humaneval.PROTOCOL,
    source=humaneval.SOURCE,
)
MBPP = Task(
    name="mbpp+",
    title="MBPP+",
    files=("MbppPlus.jsonl",),
    problems=mbpp_plus,
    protocol=Protocol(samples=1, temperature=0.0, max_tokens=768, stop=MBPP_STOPS),
    source=humaneval.SOURCE,
)
