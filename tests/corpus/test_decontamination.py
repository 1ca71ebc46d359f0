"""Benchmark texts are found in files, as they are or rewritten, and files without them are left alone."""

import ast
import pickle
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError
from starsmith.corpus.decontamination import EXACT, NEAR, DecontaminationConfig, Decontaminator
from starsmith.corpus.decontamination_near import ngram_hashes
from starsmith.corpus.decontamination_text import read

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SKIPPED: ../shared has no benchmarks")

SOLUTION = """\
def largest_gap(numbers):
    ordered = sorted(numbers)
    best = 0
    for place in range(len(ordered) - 1):
        gap = ordered[place + 1] - ordered[place]
        if gap > best and gap % 3 != 1:
            best = gap * 2 - ordered[0]
    return best / max(len(ordered), 1)
"""
QUESTION = "Write a function to find the largest gap between two numbers of a list that is no multiple of seven."
BEFORE, AFTER = "import os\n\nprint(os.name)\n\n", "\n\nclass Other:\n    pass\n"

plain_texts = st.text(alphabet="ab1_ .(=\n\té", max_size=80)


def row(text: str, task_id: str = "0", part: str = "solution") -> tuple[str, str, str, str]:
    return ("bench", task_id, part, text)


def index(*texts: str, **settings: Any) -> Decontaminator:
    rows = [row(text, str(number)) for number, text in enumerate(texts)]
    return Decontaminator(rows, DecontaminationConfig(**settings))


def write_benchmarks(out: Path, rows: Sequence[tuple[str, str, str, str]]) -> Path:
    with artifact.create(out, kind="benchmarks", config=DecontaminationConfig(), rooms=("core",)) as draft:
        columns = dict(zip(("benchmark", "task_id", "part", "text"), zip(*rows, strict=True), strict=True))
        pq.write_table(pa.table(columns), draft.path / "texts.parquet")
    return out


def squeezed(text: str) -> bytes:
    """What is compared: no white space, lower case of the Latin letters."""
    return bytes(byte for byte in text.encode().lower() if byte > 32 and byte != 127)


def test_a_copy_is_found_and_its_place_is_given() -> None:
    text = BEFORE + SOLUTION + AFTER

    match = index(QUESTION, SOLUTION).check(text)

    assert match is not None
    assert (match.benchmark, match.task_id, match.part, match.kind, match.share) == ("bench", "1", "solution", EXACT, 1)
    assert text[match.start : match.end] == SOLUTION.rstrip()


@pytest.mark.parametrize(
    "rewrite",
    [
        str.upper,
        lambda text: text.replace("    ", "\t").replace("\n", "\r\n"),
        lambda text: re.sub(r"\s+", "", text),
        lambda text: "".join(f"{character} " for character in text),
        lambda text: "\n".join(f"            {line}" for line in text.split("\n")),
    ],
    ids=["upper case", "tabs and CRLF", "no space", "a space between all", "indented"],
)
def test_case_and_white_space_make_no_difference(rewrite: Any) -> None:
    match = index(SOLUTION).check(BEFORE + rewrite(SOLUTION) + AFTER)

    assert match is not None
    assert match.kind == EXACT


def test_offsets_count_characters_and_not_bytes() -> None:
    text = "# größer als ñ 語\n" + QUESTION

    match = index(QUESTION).check(text)

    assert match is not None
    assert text[match.start : match.end] == QUESTION


@pytest.mark.parametrize("text", ["return x + y", "return len(string)", "return n**2", "return ''.join(strings)"])
def test_a_trivial_text_is_not_looked_for(text: str) -> None:
    assert index(text).check(f"def f(x, y):\n    {text}\n") is None


def test_other_names_spacing_and_a_changed_line_are_a_near_copy() -> None:
    names = {"numbers": "xs", "ordered": "tmp", "best": "answer", "place": "i", "gap": "d", "largest_gap": "solve"}
    renamed = re.sub(r"\w+", lambda found: names.get(found[0], found[0]), SOLUTION)
    changed = renamed.replace(" - 1):", "-1):  # pairs").replace("return answer /", "return 1 + answer /")

    match = index(QUESTION, SOLUTION).check(BEFORE + changed + AFTER)

    assert match is not None
    assert (match.task_id, match.kind) == ("1", NEAR)
    assert 0.65 <= match.share < 1


def test_half_of_a_text_is_no_copy() -> None:
    half = "".join(SOLUTION.splitlines(keepends=True)[:4])

    assert index(SOLUTION).check(BEFORE + half + AFTER) is None


def test_the_n_grams_of_a_copy_must_stand_close_together() -> None:
    filler = "".join(f"\nother_{number}.call({number})\n" for number in range(200))
    apart = "\n".join(line + filler for line in SOLUTION.splitlines())

    assert index(SOLUTION, ngram=4).check(apart) is None


def test_what_many_tasks_share_is_boilerplate() -> None:
    tasks = [
        SOLUTION + f"\nassert check_{number}(data_{number * 7}, [{number}, {number + 9}])\n" for number in range(9)
    ]

    assert index(*tasks, most_tasks=5).check(SOLUTION.replace("gap", "step")) is None
    assert index(*tasks, most_tasks=9).check(SOLUTION.replace("gap", "step")) is not None


def test_the_drop_names_the_task_the_lines_and_the_copy() -> None:
    drop = index(SOLUTION).judge(BEFORE + SOLUTION + AFTER)

    assert drop is not None
    assert drop.reason == "contaminated"
    assert drop.detail.startswith("lines 5-12 have a copy of the solution of bench 0: 'def largest_gap(numbers):")


@pytest.mark.parametrize("text", ["", " \n", "x", "\x00" * 100, "é" * 100, "\ud800" * 50])
def test_a_file_with_nothing_in_it_is_clean(text: str) -> None:
    assert index(SOLUTION, QUESTION).check(text) is None


def test_an_index_of_nothing_finds_nothing() -> None:
    assert index().check(SOLUTION) is None
    assert index("short").check(SOLUTION) is None


def test_an_index_is_read_from_its_artefact_and_can_be_pickled(tmp_path: Path) -> None:
    directory = write_benchmarks(tmp_path / "benchmarks", [row(SOLUTION, "7"), row(QUESTION, "8", "description")])

    found = pickle.loads(pickle.dumps(Decontaminator.load(directory, DecontaminationConfig())))

    assert found.check(QUESTION).task_id == "8"
    assert found.check(SOLUTION).task_id == "7"


def test_another_artefact_or_a_damaged_table_is_refused(tmp_path: Path) -> None:
    directory = write_benchmarks(tmp_path / "benchmarks", [row(SOLUTION)])
    (directory / "texts.parquet").write_bytes(b"nothing")
    with artifact.create(tmp_path / "corpus", kind="corpus", config=DecontaminationConfig(), rooms=("core",)):
        pass

    with pytest.raises(ArtifactError, match="not a readable table"):
        Decontaminator.load(directory, DecontaminationConfig())
    with pytest.raises(ArtifactError, match="of kind corpus, wanted: benchmarks"):
        Decontaminator.load(tmp_path / "corpus", DecontaminationConfig())


@pytest.mark.parametrize(
    "setting",
    [{"least_characters": 23}, {"ngram": 0}, {"least_ngrams": 0}, {"most_tasks": 0}, {"least_share": 0.0}],
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        DecontaminationConfig(**setting)


def test_the_longest_copy_is_named() -> None:
    whole = f"{SOLUTION}\n# {QUESTION}\n"

    match = index(SOLUTION, whole, QUESTION).check(BEFORE + whole + AFTER)

    assert match is not None
    assert match.task_id == "1"


@pytest.mark.parametrize("least", [24, 31, 40, 150])
def test_a_copy_is_found_wherever_it_stands(least: int) -> None:
    found = index(SOLUTION, least_characters=least)

    matches = [found.check("x" * place + SOLUTION + AFTER) for place in range(40)]

    assert all(match is not None and match.kind == EXACT for match in matches)
    assert [match.start for match in matches if match is not None] == list(range(40))


@pytest.mark.slow
@given(st.lists(plain_texts, max_size=6), plain_texts, st.integers(24, 45), st.data())
def test_the_exact_search_is_the_plain_containment(
    texts: list[str], around: str, least: int, data: st.DataObject
) -> None:
    planted = data.draw(st.sampled_from([*texts, ""]))
    file = around + data.draw(st.sampled_from([planted, planted[:-1], planted.upper(), f" {planted}\n"])) + around

    match = index(*texts, least_characters=least, least_ngrams=1000).check(file)

    wanted = [text for text in texts if len(squeezed(text)) >= least and squeezed(text) in squeezed(file)]
    assert (match is not None) == bool(wanted)
    if match is not None:
        assert squeezed(file[match.start : match.end]) in map(squeezed, wanted)


Tasks = dict[tuple[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def tasks() -> Tasks:
    """The texts of the real tasks, by benchmark and task and by part."""
    from starsmith.evaluation import export

    folders = ("humaneval", "mbpp", "ds1000", "multipl-e")
    paths = [path for folder in folders for path in sorted((DATA / folder).glob("*.json*"))]
    found: Tasks = {}
    for text in export.read_texts(paths):
        found.setdefault((text.benchmark, text.task_id), {}).setdefault(text.part, text.text)
    return found


@pytest.fixture(scope="module")
def real(tasks: Tasks) -> Decontaminator:
    rows = [(*task, part, text) for task, parts in tasks.items() for part, text in parts.items()]
    return Decontaminator(rows, DecontaminationConfig())


def renamed(code: str) -> str | None:
    """Python code with all names that it gives itself changed, wherever they stand; None if it is not Python 3."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return None
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    names = {name: f"renamed_{number}" for number, name in enumerate(sorted(own))}
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda found: names.get(found[0], found[0]), code)


def library() -> Iterator[tuple[str, str]]:
    """The files of the standard library, tests and all."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.parts:
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8", errors="replace")


@needs_data
@pytest.mark.slow
def test_every_real_task_is_found_indented_and_in_upper_case(tasks: Tasks, real: Decontaminator) -> None:
    missed = []
    for task, parts in tasks.items():
        text = "\n".join(parts.values()).upper().replace("\n", "\n\t ")
        if real.check(f"{BEFORE}{text}{AFTER}") is None:
            missed.append(task)

    assert len(tasks) > 4900
    assert missed == []


@needs_data
@pytest.mark.slow
def test_long_real_solutions_with_all_names_changed_are_found(tasks: Tasks, real: Decontaminator) -> None:
    found = []
    for (benchmark, _), parts in tasks.items():
        if benchmark not in ("humaneval", "mbpp"):
            continue
        head = parts["prompt"].rstrip() + "\n    " if benchmark == "humaneval" else ""
        code = renamed(head + parts["solution"].replace("\r", ""))
        _, values, _ = read(np.frombuffer(parts["solution"].encode(), np.uint8))
        if code is not None and len(np.unique(ngram_hashes(values, 10))) >= 20:
            found.append(real.check(BEFORE + code + AFTER) is not None)

    assert len(found) > 600
    assert sum(found) / len(found) > 0.8


@needs_data
@pytest.mark.slow
def test_hardly_a_file_of_the_standard_library_is_taken_for_contaminated(real: Decontaminator) -> None:
    drops = [(path, drop.detail) for path, text in library() if (drop := real.judge(text)) is not None]

    assert len(drops) <= 3, drops
