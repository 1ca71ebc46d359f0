"""`starsmith index`, `attribute` and `verify` as a user meets them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from builds import build, modules
from starsmith.cli.provenance import attribute, index, verify
from starsmith.core import artifact
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import read_files
from worlds import Write

SMALL = ["--set", "index.ngram_tokens=6", "--set", "index.window=4"]


def invoke(command: object, *arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], input=stdin)  # type: ignore[arg-type]
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """A run directory with a corpus and its index."""
    root = tmp_path_factory.mktemp("run")
    build(root / "corpus", write(root / "project", modules(6)))
    invoke(index, root / "corpus", "--out", root / "index", *SMALL)
    return root


def test_settings_come_from_the_command_line_and_the_recipe(run: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[index]\nngram_tokens = 7\nwindow = 5\n")

    invoke(
        index, run / "corpus", "--out", tmp_path / "i", "--recipe", tmp_path / "recipe.toml", "--set", "index.window=3"
    )

    assert artifact.read(run / "index").config["ngram_tokens"] == 6
    config = artifact.read(tmp_path / "i", kind="index").config
    assert (config["ngram_tokens"], config["window"], config["max_places"]) == (7, 3, 64)


def test_a_misspelt_setting_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no setting 'widow'") as refused:
        invoke(index, run / "corpus", "--out", tmp_path / "i", "--set", "index.widow=3")

    assert refused.value.hint == "did you mean 'window'?"


def test_attribute_names_lines_kind_file_licence_repository_commit_and_id(run: Path, tmp_path: Path) -> None:
    source = next(read_files(run / "corpus"))
    (tmp_path / "new.py").write_text("# mine\n\n" + source.text.replace("    ", "\t"))

    output = invoke(attribute, tmp_path / "new.py", "--index", run / "index").stdout

    assert f"lines 3-{2 + source.text.count(chr(10))}" in output
    assert "source" in output
    assert f"{source.path}:1-{source.text.count(chr(10))}" in output
    for value in (source.license, source.repository, source.commit, source.swhid):
        assert value in output


def test_attribute_reads_standard_input_and_prints_json(run: Path) -> None:
    source = next(read_files(run / "corpus"))

    result = invoke(attribute, "-", "--index", run / "index", "--json", stdin=source.text)

    found = json.loads(result.stdout)
    assert found["file"] == "-"
    assert found["matches"][0]["first_line"] == 1
    assert found["matches"][0]["sources"][0]["swhid"] == source.swhid


def test_a_file_without_a_match_says_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("completely.different(code)\n")

    result = invoke(attribute, tmp_path / "new.py", "--index", run / "index")

    assert result.exit_code == 0
    assert "no match" in result.stdout
    assert "9 code tokens or more" in result.stdout


@pytest.mark.parametrize(("name", "content"), [("none.py", None), ("latin1.py", b"gr\xf6\xdfe = 1\n")])
def test_a_file_that_cannot_be_read_is_an_error(name: str, content: bytes | None, run: Path, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=name):
        invoke(attribute, tmp_path / name, "--index", run / "index")


def test_verify_exits_0_when_the_chain_holds(run: Path) -> None:
    result = invoke(verify, run / "index")

    assert result.exit_code == 0
    assert result.stdout.endswith("holds\n")
    assert artifact.read(run / "corpus").id[:16] in result.stdout


def test_verify_exits_1_and_names_the_changed_file(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shard = copy / "corpus" / "shards" / "00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"X")

    result = invoke(verify, copy / "index")

    assert result.exit_code == 1
    assert f"changed: {shard} was changed" in result.stdout
    assert "does not hold" in result.stdout


def test_verify_exits_2_when_a_parent_is_missing(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "index", tmp_path / "alone" / "index")

    result = invoke(verify, tmp_path / "alone" / "index")

    assert result.exit_code == 2
    assert "missing: the corpus that" in result.stdout
    assert result.stdout.endswith("incomplete\n")


def test_verify_prints_json_with_the_same_exit_status(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "index", tmp_path / "alone" / "index")

    whole, alone = invoke(verify, run / "index", "--json"), invoke(verify, tmp_path / "alone" / "index", "--json")

    assert (whole.exit_code, json.loads(whole.stdout)["verdict"]) == (0, "holds")
    assert (alone.exit_code, json.loads(alone.stdout)["verdict"]) == (2, "incomplete")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--inclusion", "swh:1:cnt:0", "--key", "k.pub", "--pin", "0"], "--inclusion goes without --key, --pin"),
        (["--inclusion", "swh:1:cnt:0", "--deep"], "--inclusion goes without --deep"),
        (["--diff", "a", "b", "--allow", "MIT"], "--diff goes without --allow"),
        (["--diff", "a", "b", "--inclusion", "swh:1:cnt:0"], "--diff goes without --inclusion"),
        (["--diff", "a", "b", "--policy", "p", "--opt-outs-within", "3"], "goes without --policy, --opt-outs-within"),
    ],
)
def test_what_would_not_be_heeded_is_refused(arguments: list[str], named: str, run: Path) -> None:
    place = [] if "--diff" in arguments else [run / "index"]

    result = invoke(verify, *place, *arguments)

    assert result.exit_code == 2
    assert named in result.stderr


def test_the_help_says_how_an_error_differs_from_a_verdict() -> None:
    said = " ".join(invoke(verify, "--help").stdout.split())

    assert "The verdict is the last line of the output" in said
    assert "with status 1 for what was given" in said


def test_an_index_of_another_kind_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("x = 1\n")

    with pytest.raises(Exception, match="is of kind corpus"):
        invoke(attribute, tmp_path / "new.py", "--index", run / "corpus")


def test_indexing_over_the_corpus_is_refused(run: Path) -> None:
    with pytest.raises(InputError, match="lies in the corpus"):
        invoke(index, run / "corpus", "--out", run / "corpus")

    assert artifact.verify(run / "corpus") == []


def test_every_command_has_a_summary() -> None:
    commands: list[Callable[..., object]] = [index, attribute, verify]

    assert all("Usage" in invoke(command, "--help").stdout for command in commands)
