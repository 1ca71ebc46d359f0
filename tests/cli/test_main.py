"""The command itself: quick to start, and two lines for what a user can mend."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

STARSMITH = [sys.executable, "-m", "starsmith.cli.main"]


def starsmith(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*STARSMITH, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_help_lists_every_command_with_its_own_summary() -> None:
    from starsmith.cli.main import COMMANDS

    output = starsmith("--help").stdout

    for name in COMMANDS:
        assert f"  {name} " in output


def test_every_command_of_the_list_can_be_loaded() -> None:
    import click

    from starsmith.cli.main import COMMANDS, cli

    context = click.Context(cli)
    for name in COMMANDS:
        assert isinstance(cli.get_command(context, name), click.Command)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['starsmith', '--help']\n"
        "from starsmith.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'rich', 'fastapi', 'tokenizers'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.strip()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        starsmith("--help")
        times.append(time.perf_counter() - started)

    assert loaded == "[]"
    assert min(times) < 0.15


def test_an_unknown_command_is_a_usage_error() -> None:
    result = starsmith("trian")

    assert result.returncode == 2
    assert "No such command 'trian'" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("run", "nowhere.toml", "--out", "x"), "error: recipe nowhere.toml does not exist", "ls recipes/"),
        (("tokenizer", "train", "nowhere", "--out", "x"), "error: nowhere does not exist", "directory"),
        (
            ("pretrain", "nowhere", "--tokenizer", "nowhere", "--out", "x", "--set", "pretrain.model.layerz=3"),
            "has no setting 'layerz'",
            "did you mean 'layers'?",
        ),
        (("pretrain", "nowhere", "--out", "x", "--set", "pretrain.steps=many"), "'many' is of type str, not int", ""),
        (("corpus", "build", "nowhere", "--out", "x"), "error: nowhere does not exist", "archive"),
        (("corpus", "build", ".", "--out", "x"), "x lies in ", "another --out"),
        (("corpus", "build", ".", "--out", "../x"), "has no file", "source code"),
        (
            ("corpus", "build", ".", "--out", "x", "--set", 'corpus.licenses.allow=["Apache2"]'),
            "no SPDX licence ids",
            "Apache-2.0",
        ),
        (
            ("corpus", "build", ".", "--out", "x", "--set", "corpus.filters.longest_lin=5"),
            "has no setting 'longest_lin'",
            "did you mean 'longest_line",
        ),
        (("corpus", "build", ".", "--out", "x", "--revision", "main"), "is no git repository", "git repositories"),
        (("corpus", "build", ".", "--out", "../x", "--benchmarks", "nowhere"), "nowhere does not exist", "directory"),
        (("corpus", "explain", "nowhere.py"), "nowhere.py is no file", "one file"),
        (("corpus", "card", "."), "has no manifest.json", "again"),
        (("evaluate", "export", "nowhere", "--out", "x"), "nowhere", ""),
        (("tokens", ".", "--tokenizer", ".", "--out", "x"), "has no manifest.json", "again"),
    ],
)
def test_what_a_user_can_mend_is_two_lines_and_status_one(
    arguments: tuple[str, ...], message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = starsmith(*arguments)

    lines = result.stderr.strip().splitlines()
    assert result.returncode == 1
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert lines[1].startswith(" hint: ")
    assert hint in lines[1]
    assert not list(tmp_path.iterdir())


def test_a_date_that_is_none_is_a_usage_error() -> None:
    result = starsmith("corpus", "build", ".", "--out", "x", "--since", "yesterday")

    assert result.returncode == 2
    assert "yesterday" in result.stderr
