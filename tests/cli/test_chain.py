"""The main job by its commands: from source files to a completion with its sources, in a chain that holds."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from worlds import Commit

pytestmark = pytest.mark.slow

STAGES = ("corpus", "tokenizer", "tokens", "model", "evaluation", "index")
TINY = {
    "corpus.held_out": "0.1",
    "tokenizer.vocab_size": "600",
    "pretrain.model.hidden_size": "32",
    "pretrain.model.layers": "2",
    "pretrain.data.context_tokens": "128",
    "pretrain.batch_tokens": "1024",
    "pretrain.micro_batch_tokens": "1024",
    "pretrain.minutes": "none",
    "pretrain.steps": "12",
    "evaluation.infills": "6",
    "evaluation.held_out_bytes": "4000",
}
SETTINGS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]

# The command, in a process that may open no connection.
OFFLINE = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(f"{event} {arguments}: a connection that nobody asked for")

sys.addaudithook(refuse)
from starsmith.cli.main import main
main()
"""


def starsmith(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OFFLINE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, commit: Commit) -> Path:
    """A git repository of real source: twenty modules of the standard library, with a licence tag each."""
    folder = tmp_path_factory.mktemp("code") / "project"
    library = Path(sysconfig.get_path("stdlib"))
    modules = sorted(path for path in library.glob("*.py") if 2_000 < path.stat().st_size < 20_000)[:20]
    tag = "# SPDX-License-Identifier: PSF-2.0\n"
    commit(folder, {f"lib/{path.name}": tag + path.read_text(encoding="utf-8") for path in modules})
    return folder


@pytest.fixture(scope="module")
def demo(project: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder in which the demo was run, and what it said."""
    return project.parent, starsmith("demo", "project", "--out", "run", *SETTINGS, cwd=project.parent)


Demo = tuple[Path, subprocess.CompletedProcess[str]]


def test_the_demo_leaves_every_artefact_and_says_what_came_of_it(demo: Demo) -> None:
    folder, done = demo

    assert done.returncode == 0, done.stderr
    assert all((folder / "run" / stage / "manifest.json").is_file() for stage in STAGES)
    assert not list((folder / "run").glob("*.partial"))
    results = json.loads((folder / "run" / "evaluation" / "results.json").read_text())
    assert f"{results['bits_per_byte']['model']:.2f} bits per byte" in done.stdout
    assert f"{results['infilling']['exact']} of 6 infills exact" in done.stdout
    assert len(re.findall(r"^── lib/\w+\.py:\d+$", done.stdout, re.MULTILINE)) == 3
    assert re.search(r"^serve   \S+ serve run/model$", done.stdout, re.MULTILINE)
    assert (folder / "run" / "report.html").is_file()


def test_the_guard_against_connections_works(tmp_path: Path) -> None:
    code = f"{OFFLINE.partition('from starsmith')[0]}\nimport socket; socket.create_connection(('127.0.0.1', 9))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "a connection that nobody asked for" in done.stderr


def test_progress_goes_to_stderr_and_results_to_stdout(demo: Demo) -> None:
    _, done = demo

    for stage in ("corpus", "tokenizer", "tokens", "pretrain", "evaluation", "index"):
        assert f"  {stage}: " in done.stderr or f"  {stage}" in done.stderr
        assert f"  {stage}: " not in done.stdout


def test_again_nothing_is_done_twice(demo: Demo) -> None:
    folder, _ = demo
    before = {stage: (folder / "run" / stage / "manifest.json").read_bytes() for stage in STAGES}

    again = starsmith("demo", "project", "--out", "run", *SETTINGS, cwd=folder)

    assert again.returncode == 0, again.stderr
    assert again.stderr.count("up to date") == 5  # all but the corpus: its sources may have changed
    assert {stage: (folder / "run" / stage / "manifest.json").read_bytes() for stage in STAGES} == before


def test_a_file_is_explained_stage_by_stage(demo: Demo) -> None:
    folder, _ = demo
    file = sorted((folder / "project" / "lib").glob("*.py"))[0]

    alone = starsmith("corpus", "explain", file, "--json", cwd=folder)
    beside = starsmith("corpus", "explain", file, "--corpus", "run/corpus", "--json", cwd=folder)
    shown = starsmith("corpus", "explain", file, "--set", "corpus.filters.longest_line=5", cwd=folder)

    words = [json.loads(line) for line in alone.stdout.splitlines()]
    assert [word["stage"] for word in words][:3] == ["read", "encoding", "language"]
    assert words[-1]["stage"] == "opt_out"
    assert all(word["decision"] in ("passes", "changes") for word in words)
    assert "PSF-2.0" in next(word["why"] for word in words if word["stage"] == "license")
    compared = [json.loads(line) for line in beside.stdout.splitlines()]
    assert "the corpus has this very file" in [word["why"] for word in compared]
    assert "drops" in shown.stdout
    assert "long_line" in shown.stdout


def test_a_corpus_without_the_files_that_contain_a_benchmark(demo: Demo) -> None:
    folder, _ = demo
    texts = [path.read_text() for path in sorted((folder / "project" / "lib").glob("*.py"))]
    source = max(texts, key=len).splitlines()[40:80]
    task = {"code": "\n".join(source), "input": "1", "output": "1", "id": "sample_0"}
    (folder / "bench").mkdir()
    (folder / "bench" / "cruxeval.jsonl").write_text(json.dumps(task) + "\n")

    exported = starsmith("evaluate", "export", "bench", "--out", "parts/benchmarks", cwd=folder)
    built = starsmith(
        "corpus", "build", "project", "--out", "parts/clean", "--benchmarks", "parts/benchmarks", cwd=folder
    )
    card = starsmith("corpus", "card", "parts/clean", cwd=folder)
    verified = starsmith("verify", "parts/clean", cwd=folder)

    assert exported.returncode == built.returncode == card.returncode == 0, exported.stderr + built.stderr
    counts = json.loads((folder / "parts/clean/manifest.json").read_text())["predicate"]["counts"]
    assert counts["dropped_contaminated"] == 1
    assert "contaminated" in built.stdout
    assert card.stdout == built.stdout
    assert verified.returncode == 0, verified.stdout


def test_one_completion_in_the_terminal_names_its_sources(demo: Demo) -> None:
    folder, _ = demo
    copied = (folder / "project" / "lib").glob("*.py")
    lines = sorted(copied)[3].read_text().splitlines()[:40]
    (folder / "mine.py").write_text("\n".join(lines))

    done = starsmith(
        "complete", "run/model", "--file", "mine.py", "--line", 40, "--column", len(lines[39]) + 1, "--json", cwd=folder
    )

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {"text", "finish_reason", "starsmith"} <= set(answer)
    assert isinstance(answer["starsmith"]["attribution"], list)
    manifest = json.loads((folder / "run/model/manifest.json").read_text())
    assert answer["starsmith"]["model"]["artefact"] == manifest["predicate"]["id"]


def test_the_parts_can_be_made_one_by_one_and_are_the_same(demo: Demo) -> None:
    folder, _ = demo

    def settings(table: str) -> list[str]:
        pairs = [f"{key}={value}" for key, value in TINY.items() if key.startswith(table + ".")]
        return [part for pair in pairs for part in ("--set", pair)]

    recipe = ("--recipe", Path(__file__).resolve().parents[2] / "recipes" / "quickstart.toml")
    commands = [
        ("corpus", "build", "project", "--out", "parts/corpus", *settings("corpus")),
        ("tokenizer", "train", "parts/corpus", "--out", "parts/tokenizer", *settings("tokenizer")),
        ("tokens", "parts/corpus", "--tokenizer", "parts/tokenizer", "--out", "parts/tokens"),
        ("pretrain", "parts/tokens", "--out", "parts/model", *settings("pretrain")),
        ("evaluate", "parts/model", "--out", "parts/evaluation", *settings("evaluation")),
        ("index", "parts/corpus", "--out", "parts/index"),
    ]
    for command in commands:
        done = starsmith(*command, *recipe, cwd=folder)
        assert done.returncode == 0, done.stderr

    def ids(root: str) -> dict[str, str]:
        read = {stage: json.loads((folder / root / stage / "manifest.json").read_text()) for stage in STAGES}
        return {stage: statement["predicate"]["id"] for stage, statement in read.items()}

    assert ids("parts") == ids("run")


@pytest.mark.parametrize("stage", ["corpus", "tokenizer", "tokens", "model"])
def test_one_changed_byte_anywhere_in_the_chain_is_found_and_named(demo: Demo, stage: str, tmp_path: Path) -> None:
    folder, _ = demo
    shutil.copytree(folder / "run", tmp_path / "run")
    whole = starsmith("verify", "run/model", cwd=tmp_path)
    files = [
        path for path in (tmp_path / "run" / stage).rglob("*") if path.is_file() and "run" not in path.parts[-2:-1]
    ]
    file = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    changed = starsmith("verify", "run/model", cwd=tmp_path)

    assert whole.returncode == 0, whole.stdout
    assert changed.returncode == 1
    assert str(file.relative_to(tmp_path)) in changed.stdout.replace("\n", "")


def test_the_report_can_be_written_again(demo: Demo) -> None:
    folder, _ = demo

    done = starsmith("report", "run", "--out", "page.html", "--samples", "1", cwd=folder)

    assert done.returncode == 0, done.stderr
    assert "bits per byte" in (folder / "page.html").read_text()
