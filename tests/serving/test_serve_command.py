import itertools
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from starsmith.cli.serve import WEIGHTS, complete, listen, permissive, serve, split_at
from starsmith.core import artifact
from starsmith.core.errors import ConfigError, InputError, StarsmithError
from starsmith.provenance.completion_log import FIRST
from upstreams import TEXT as UPSTREAMS_TEXT
from upstreams import upstream

TEXT = "def f():\r\n    return 1\n\nπ = 3"


def run_complete(*arguments: Any) -> Result:
    return CliRunner().invoke(complete, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("line", "column", "before"),
    [
        (1, 1, ""),
        (1, 9, "def f():"),
        (2, 5, "def f():\r\n    "),
        (3, 1, "def f():\r\n    return 1\n"),
        (4, 3, "def f():\r\n    return 1\n\nπ "),
        (4, 6, TEXT),
    ],
)
def test_a_cursor_splits_the_text_by_lines_and_characters_from_one(line: int, column: int, before: str) -> None:
    assert split_at(TEXT, line, column, where="f.py") == (before, TEXT.removeprefix(before))


@pytest.mark.parametrize(
    ("line", "column", "told"),
    [(5, 1, "f.py has 4 lines, not 5"), (1, 10, "line 1 of f.py has 8 characters"), (3, 2, "has 0 characters")],
)
def test_a_cursor_outside_the_file_is_an_error_that_gives_the_bounds(line: int, column: int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        split_at(TEXT, line, column, where="f.py")


@pytest.mark.slow
def test_a_completion_is_printed_with_its_sources(model_directory: Path, index_directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("def eta_1(value):\n    eta_0 = \n")
    place = [model_directory, "--file", file, "--line", 2, "--column", 13, "--max-tokens", 5]

    shown, machine = run_complete(*place), run_complete(*place, "--json")

    assert shown.exit_code == 0, shown.output
    answer = json.loads(machine.stdout)
    assert answer["text"] in shown.stdout
    assert "5 tokens" in shown.stdout
    assert "sources" in shown.stdout
    assert (answer["completion_tokens"], answer["finish_reason"]) == (5, "length")
    assert isinstance(answer["starsmith"]["attribution"], list)
    assert "index" in machine.stderr


@pytest.mark.parametrize(
    ("expression", "is_permissive"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only", False),
        ("MPL-2.0", False),
        ("", False),
        ("no licence at all", False),
    ],
)
def test_what_is_permissive_is_what_a_corpus_lets_in_by_default(expression: str, is_permissive: bool) -> None:
    assert permissive(expression) == is_permissive


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--token", " "], "--token is empty"),
        (["--tokens", "missing.toml"], "missing.toml does not exist"),
        (["--log", "missing/log"], "missing does not exist"),
        (["--attribution", "block", "--index", "missing"], "missing does not exist"),
    ],
)
def test_options_that_cannot_be_kept_are_told_before_a_model_is_loaded(options: list[str], told: str) -> None:
    result = CliRunner().invoke(serve, ["no-model", "--port", "0", *options])

    assert isinstance(result.exception, StarsmithError)
    assert told in result.exception.message


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["http://gpu1:8000/v1", "--weights", "int8"], "--weights are for a model's directory"),
        (["a.gguf", "--kv-tokens", "100"], "--kv-tokens are for a model's directory"),
        (["http://gpu1/v1", "--repository", "src", "--kv-tokens", "9"], "--kv-tokens and --repository are for"),
        (["runs/model", "http://gpu1:8000/v1"], "must be .gguf files or addresses"),
        (["runs/model", "runs/other"], "must be .gguf files or addresses"),
        (["gpu1:8000"], "write http://gpu1:8000"),
        (["gpu1:8000/v1"], "write http://gpu1:8000/v1"),
        (["runs/model", "--weights", "int3"], "is not one of"),
        (["runs/model", "--kv-tokens", "0"], "is not in the range"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(serve, [*arguments, "--port", "0"])

    assert result.exit_code == 2
    assert told in " ".join(result.output.split())


def test_a_setting_behind_the_address_that_does_not_exist_is_an_error_that_names_one() -> None:
    result = CliRunner().invoke(serve, ["http://127.0.0.1:1/v1#modle=x", "--port", "0"])

    assert isinstance(result.exception, ConfigError)
    assert "'model'" in result.exception.hint


def test_the_forms_of_weights_in_the_help_are_those_that_there_are() -> None:
    from starsmith.inference import loading

    assert WEIGHTS == loading.WEIGHTS


def test_a_completion_by_an_upstream_is_printed_without_figures_that_nobody_told(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = \n")

    with upstream() as server:
        place = [server.url, "--file", file, "--line", 1, "--column", 5]
        shown, machine = run_complete(*place), run_complete(*place, "--json")

    assert shown.exit_code == 0, shown.output
    answer = json.loads(machine.stdout)
    assert shown.stdout.startswith("".join(UPSTREAMS_TEXT))
    assert "\n\nended by stop\n" in shown.stdout
    assert (answer["text"], answer["prompt_tokens"], answer["completion_tokens"]) == (
        "".join(UPSTREAMS_TEXT),
        None,
        None,
    )


def test_texts_are_kept_only_in_a_log() -> None:
    result = CliRunner().invoke(serve, ["no-model", "--log-text"])

    assert result.exit_code == 2
    assert "--log FILE" in result.output


@pytest.mark.parametrize(
    ("content", "told"), [(None, "does not exist"), (b"caf\xe9", "not UTF-8 at byte 3"), (b"x", "has 1 lines, not 7")]
)
def test_a_file_that_cannot_be_completed_is_told_before_a_model_is_loaded(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    file = tmp_path / "a.py"
    if content is not None:
        file.write_bytes(content)

    result = run_complete(tmp_path / "no-model", "--file", file, "--line", 7, "--column", 1)

    assert isinstance(result.exception, InputError)
    assert told in result.exception.message


def test_a_port_in_use_is_an_error_that_names_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: address already in use") as caught:
            listen("127.0.0.1", port)

    assert "--port" in caught.value.hint


@pytest.mark.parametrize("host", ["256.0.0.1", "203.0.113.1", "no-such-host.invalid"])
def test_an_address_that_is_not_of_this_machine_is_an_error(host: str) -> None:
    with pytest.raises(StarsmithError, match=f"cannot listen on {host}"):
        listen(host, 0)


def test_the_command_line_loads_no_torch_for_its_help() -> None:
    code = (
        "import sys, starsmith.cli.serve; sys.exit(any(m in sys.modules for m in ('torch', 'fastapi', 'tokenizers')))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_serve_says_where_it_is_and_ends_on_interrupt(
    model_directory: Path, index_directory: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "starsmith.cli.main", "serve", str(model_directory), "--port", "0"]
    command += ["--attribution", "block", "--log", str(log)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = list(itertools.takewhile(lambda line: not line.startswith("press"), process.stderr))
            url = next(line.split()[-1] for line in lines if "page for people" in line)
            with urllib.request.urlopen(f"{url}v1/models", timeout=20) as response:
                listed = json.load(response)
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
        finally:
            process.kill()

    assert listed["data"][0]["id"] == "starsmith-tiny"
    assert f"attribution block by index {artifact.read(index_directory).id[:16]}" in "".join(lines)
    assert rest == f"{log}: 0 lines, the last has sha256 {FIRST}\n"
    assert process.returncode == 0
