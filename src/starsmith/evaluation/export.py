"""Stage: the files of public benchmarks become one table of their texts, against which a corpus is decontaminated.

A file is recognised by the columns of its rows, whatever its name is, and a file that is no benchmark we know stops
the stage: a benchmark left out in silence would let its tasks into the corpus. What makes a text too trivial to look
for (`return x + y`) is decided where the texts are used.
"""

import ast
import json
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.errors import ConfigError, InputError

TEXTS = "texts.parquet"
PROMPT, SOLUTION, TESTS, DESCRIPTION = "prompt", "solution", "tests", "description"

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
_MOST_BYTES = 1 << 28  # of one file, unpacked: the largest that we know has 12 MB
# DS-1000 marks where the solution begins; older prompts have it in the code (Insertion), newer ones behind it.
_BEGIN_SOLUTION = re.compile(r"(?:<code>\s*)?#*[ \t]*(?:BEGIN SOLUTION|SOLUTION START)")

Row = Mapping[str, Any]
Parts = Iterator[tuple[str, str]]  # (part, text)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which texts of the benchmarks are written."""

    ignore: tuple[str, ...] = ()  # patterns of files below the data folder that are no benchmarks: "tokenizer/*"
    most_characters: int = 20_000  # of a text; the rest is cut: what copies all of it has its beginning too

    def __post_init__(self) -> None:
        if self.most_characters < 1:
            raise ConfigError(
                f"most_characters={self.most_characters}: must be at least 1", hint="the default is 20000"
            )


@dataclass(frozen=True)
class BenchmarkText:
    """One text of a benchmark's task."""

    benchmark: str
    task_id: str
    part: str  # PROMPT, SOLUTION, TESTS or DESCRIPTION
    text: str


@dataclass(frozen=True)
class _Format:
    """A benchmark's rows: how to tell them, name them and take them apart."""

    columns: frozenset[str]  # a row that has these is of this format
    name: Callable[[Row], tuple[str, str]]  # benchmark and task id
    parts: Callable[[Row], Parts]


def run(config: ExportConfig, *, data: Path, out: Path) -> None:
    """Write the texts of every benchmark file below `data` (or of the one file that it is)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = _find_files(data, config.ignore)
    with artifact.create(out, kind="benchmarks", config=config, rooms=("core", "evaluation")) as draft:
        found = list(_distinct(read_texts(files), config.most_characters))
        for text in found:
            draft.count(f"{text.benchmark}_texts")
        for benchmark, _ in sorted({(text.benchmark, text.task_id) for text in found}):
            draft.count(f"{benchmark}_tasks")
        names = ("benchmark", "task_id", "part", "text")
        table = pa.table({name: [getattr(text, name) for text in found] for name in names})
        pq.write_table(table, draft.path / TEXTS, compression="zstd")


def read_texts(files: list[Path]) -> Iterator[BenchmarkText]:
    """All texts of benchmark files, file after file in the order of the rows."""
    for path in files:
        rows = read_rows(path)
        known = _format_of(rows[0])
        if known is None:
            raise InputError(
                f"{path} is of no benchmark that we know: its rows have {', '.join(map(str, rows[0]))}",
                hint=f"leave it out: --ignore '*{path.name}'",
            )
        for number, row in enumerate(rows, start=1):
            try:
                benchmark, task_id = known.name(row)
                parts = list(known.parts(row))
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{path} row {number} differs from its first row: {error!r}", hint="restore the file"
                ) from None
            yield from (BenchmarkText(benchmark, task_id, part, text) for part, text in parts)


def _distinct(texts: Iterator[BenchmarkText], most_characters: int) -> Iterator[BenchmarkText]:
    """Each text of a benchmark once, under the first task that has it, cut and without what holds no text."""
    seen: set[tuple[str, str, str]] = set()
    for text in texts:
        content = text.text[:most_characters].strip()
        key = (text.benchmark, text.part, content)
        if content and key not in seen:
            seen.add(key)
            yield BenchmarkText(text.benchmark, text.task_id, text.part, content)


def _find_files(data: Path, ignore: tuple[str, ...]) -> list[Path]:
    if not data.exists():
        raise InputError(f"{data} does not exist", hint="give the folder with the benchmarks' .jsonl files")
    if data.is_file():
        return [data]
    files = sorted(path for path in data.rglob("*") if path.name.endswith(_SUFFIXES) and path.is_file())
    names = [path.relative_to(data).as_posix() for path in files]
    chosen = [
        path for path, name in zip(files, names, strict=True) if not any(fnmatch(name, pattern) for pattern in ignore)
    ]
    if not chosen:
        raise InputError(f"{data} holds no benchmark file", hint=f"its files must end in {', '.join(_SUFFIXES)}")
    return chosen


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of JSON lines, or of a JSON list."""
    try:
        text = read_content(path).decode("utf-8-sig")
        if path.name.removesuffix(".gz").endswith(".json"):
            value = json.loads(text)
            rows = value if isinstance(value, list) else [value]
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError, zlib.error) as error:
        raise InputError(f"{path} is not readable JSON: {error}", hint="fetch the file again") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} has no rows: wanted one JSON object for each task", hint="fetch the file again")
    return rows


def read_content(path: Path) -> bytes:
    """A file's content, unpacked if it is a gzip file, and bounded then."""
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    unpacker = zlib.decompressobj(wbits=31)
    unpacked = unpacker.decompress(content, _MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise InputError(f"{path} unpacks to more than {_MOST_BYTES:,} bytes", hint="this is no benchmark")
    if not unpacker.eof:
        raise InputError(f"{path} ends in the middle of its gzip stream", hint="fetch the file again")
    return unpacked


def _format_of(row: Row) -> _Format | None:
    return next((known for known in _FORMATS if known.columns <= set(row)), None)


def _humaneval_parts(row: Row) -> Parts:
    yield PROMPT, row["prompt"]
    yield DESCRIPTION, _description(row["prompt"])
    yield SOLUTION, row["canonical_solution"]
    for column in ("test", "contract", "assertion", "example_test"):
        yield TESTS, row.get(column, "")


def _infilling_parts(row: Row) -> Parts:
    """The function as a whole: the thousands of holes in it are its parts."""
    yield SOLUTION, row["prompt"] + row["canonical_solution"] + row["suffix"]


def _mbpp_parts(row: Row) -> Parts:
    yield DESCRIPTION, row["text"] if "text" in row else row["prompt"]
    yield SOLUTION, row["code"]
    for column in ("test_list", "challenge_test_list"):
        yield TESTS, "\n".join(row.get(column, ()))
    yield TESTS, row.get("test", "")


def _ds1000_parts(row: Row) -> Parts:
    prompt = _BEGIN_SOLUTION.split(row["prompt"], maxsplit=1)[0]
    yield PROMPT, prompt
    problem, marked, _ = prompt.removeprefix("Problem:").partition("\nA:\n")
    yield DESCRIPTION, problem if marked else ""
    yield SOLUTION, row["reference_code"]
    yield TESTS, row["code_context"]


def _multipl_e_parts(row: Row) -> Parts:
    yield PROMPT, row["prompt"]
    yield TESTS, row["tests"]


def _cruxeval_parts(row: Row) -> Parts:
    yield SOLUTION, row["code"]
    yield TESTS, f"assert f({row['input']}) == {row['output']}"


def _cyberseceval_parts(row: Row) -> Parts:
    yield PROMPT, row["test_case_prompt"]
    yield SOLUTION, row["origin_code"]


def _description(prompt: str) -> str:
    """The docstring, as it is written, of the last function of a Python prompt, or of the module."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a benchmark's odd escapes are not the user's concern
            tree = ast.parse(prompt)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    body = functions[-1].body if functions else tree.body
    if not body or not isinstance(body[0], ast.Expr) or not isinstance(body[0].value, ast.Constant):
        return ""
    written = ast.get_source_segment(prompt, body[0].value) or ""
    return written.lstrip("rRuU").strip("\"'")


def _under(benchmark: str, column: str = "task_id") -> Callable[[Row], tuple[str, str]]:
    return lambda row: (benchmark, str(row[column]))


# The first that fits, so those with more columns stand first. HumanEval+ and MBPP+ are also given out in the formats
# of the originals, from which their columns do not differ: their texts are then counted under the originals.
_FORMATS: tuple[_Format, ...] = (
    _Format(
        frozenset({"task_id", "prompt", "suffix", "canonical_solution"}),
        _under("humaneval-infilling"),
        _infilling_parts,
    ),
    _Format(frozenset({"task_id", "prompt", "canonical_solution", "declaration", "example_test"}),
            _under("humaneval-x"), _humaneval_parts),
    _Format(frozenset({"task_id", "prompt", "canonical_solution", "base_input", "assertion"}),
            _under("mbpp+"), _humaneval_parts),
    _Format(frozenset({"task_id", "prompt", "canonical_solution", "base_input"}),
            _under("humaneval+"), _humaneval_parts),
    _Format(frozenset({"task_id", "prompt", "canonical_solution", "test"}), _under("humaneval"), _humaneval_parts),
    _Format(frozenset({"task_id", "text", "code", "test_list"}), _under("mbpp"), _mbpp_parts),
    _Format(frozenset({"task_id", "prompt", "code", "test_list"}), _under("mbpp"), _mbpp_parts),
    _Format(frozenset({"prompt", "reference_code", "code_context", "metadata"}),
            lambda row: ("ds-1000", str(row["metadata"]["problem_id"])), _ds1000_parts),
    _Format(frozenset({"name", "language", "prompt", "tests", "stop_tokens"}),
            lambda row: (f"multipl-e-{row['language'].split('_')[0]}", row["name"]), _multipl_e_parts),
    _Format(frozenset({"id", "code", "input", "output"}), _under("cruxeval", "id"), _cruxeval_parts),
    _Format(frozenset({"prompt_id", "variant", "test_case_prompt", "origin_code"}),
            lambda row: (f"cyberseceval-{row['variant']}", str(row["prompt_id"])), _cyberseceval_parts),
)  # fmt: skip
