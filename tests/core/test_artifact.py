"""Artefacts are whole or absent, the same twice, and never written over something else."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from starsmith.core import ancestry, artifact
from starsmith.core.errors import ArtifactError, ConfigError, InputError, StarsmithError
from starsmith.core.statement import canonical

ROOMS = ("core",)


@dataclass(frozen=True, kw_only=True)
class Settings:
    number: int = 1
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")


def make(
    out: Path, text: str = "hello", *, parents: dict[str, Path] | None = None, config: object | None = None
) -> artifact.Manifest:
    kind = "corpus" if parents is None else "tokens"
    with artifact.create(out, kind=kind, config=config or Settings(), rooms=ROOMS, parents=parents) as draft:
        (draft.path / "data").mkdir()
        (draft.path / "data" / "file.txt").write_text(text)
        draft.count("kept", 2)
        draft.count("dropped: binary")
        draft.filters.append("binary")
    return artifact.read(out)


def break_off(out: Path, error: BaseException, *, resume: bool = False) -> None:
    with artifact.create(out, kind="corpus", config=Settings(), rooms=ROOMS, resume=resume) as draft:
        (draft.path / "state.bin").write_bytes(b"half")
        raise error


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_manifest_says_what_was_written_from_what_with_which_settings(tmp_path: Path) -> None:
    corpus = make(tmp_path / "corpus")

    manifest = make(tmp_path / "tokens", parents={"corpus": tmp_path / "corpus"})

    assert manifest.kind == "tokens"
    assert list(manifest.files) == ["data/file.txt"]
    assert manifest.parents == (artifact.Parent("corpus", corpus.id, corpus.seal),)
    assert manifest.config == {"number": 1, "rate": 0.5, "names": ["a", "b"]}
    assert manifest.counts == {"kept": 2, "dropped: binary": 1}
    assert manifest.filters == ("binary",)
    assert manifest.code["rooms"] == "core"


def test_the_manifest_is_an_in_toto_statement(tmp_path: Path) -> None:
    make(tmp_path / "corpus")

    statement = json.loads((tmp_path / "corpus" / "manifest.json").read_bytes())

    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "starsmith/manifest/v1"
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert statement["subject"] == [{"name": "data/file.txt", "digest": {"sha256": digest}}]


def test_the_same_work_gives_the_same_id_twice_and_elsewhere(tmp_path: Path) -> None:
    ids = set()

    for directory in ("a", "b", "deep/down/c", "a"):
        make(tmp_path / directory / "corpus")
        ids.add(make(tmp_path / directory / "tokens", parents={"corpus": tmp_path / directory / "corpus"}).id)

    assert len(ids) == 1


def test_the_id_follows_content_name_kind_and_parents(tmp_path: Path) -> None:
    first, other = make(tmp_path / "first"), make(tmp_path / "other", "other")

    of_first = make(tmp_path / "x", parents={"corpus": tmp_path / "first"})
    of_other = make(tmp_path / "y", parents={"corpus": tmp_path / "other"})
    in_another_role = make(tmp_path / "z", parents={"tokens": tmp_path / "first"})

    assert len({first.id, other.id, of_first.id, of_other.id, in_another_role.id}) == 5


def test_the_seal_follows_the_settings_and_counts(tmp_path: Path) -> None:
    first = make(tmp_path / "first")
    second = make(tmp_path / "second", config=Settings(number=2))

    assert first.id == second.id
    assert first.seal != second.seal


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        break_off(tmp_path / "a", ZeroDivisionError())

    assert names(tmp_path) == []


def test_an_interruption_leaves_the_former_artefact(tmp_path: Path) -> None:
    before = make(tmp_path / "a")

    with pytest.raises(KeyboardInterrupt):
        break_off(tmp_path / "a", KeyboardInterrupt())

    assert names(tmp_path) == ["a"]
    assert artifact.read(tmp_path / "a") == before
    assert artifact.verify(tmp_path / "a") == []


def test_a_new_artefact_takes_the_place_of_the_former_and_no_file_of_it_stays(tmp_path: Path) -> None:
    make(tmp_path / "a")

    with artifact.create(tmp_path / "a", kind="corpus", config=Settings(), rooms=ROOMS) as draft:
        (draft.path / "new.txt").write_text("new")

    assert names(tmp_path) == ["a"]
    assert list(artifact.read(tmp_path / "a").files) == ["new.txt"]
    assert artifact.verify(tmp_path / "a") == []


@pytest.mark.parametrize("mark", artifact.MARKS)
def test_an_artefact_made_again_keeps_its_mark(mark: str, tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / mark).write_text('"REQ-1"')

    make(tmp_path / "a", "other")

    assert (tmp_path / "a" / mark).read_text() == '"REQ-1"'
    assert artifact.verify(tmp_path / "a") == []


def test_what_a_kill_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "a.partial" / "run").mkdir(parents=True)
    (tmp_path / "a.partial" / "half.txt").write_text("half")

    manifest = make(tmp_path / "a")

    assert names(tmp_path) == ["a"]
    assert list(manifest.files) == ["data/file.txt"]


@pytest.mark.parametrize("content", [None, "{}", '{"name": "my web extension", "manifest_version": 3}'])
def test_a_folder_that_is_no_artefact_is_not_written_over(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    if content is not None:
        (tmp_path / "mine" / "manifest.json").write_text(content)

    with pytest.raises(InputError, match="is not an artefact"):
        make(tmp_path / "mine")

    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert names(tmp_path) == ["mine"]


def test_a_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")

    with pytest.raises(InputError, match="is not an artefact"):
        make(tmp_path / "mine")
    with pytest.raises(InputError, match="is not a directory"):
        make(tmp_path / "mine" / "corpus")

    assert (tmp_path / "mine").read_text() == "years of work"


@pytest.mark.parametrize("name", ["a.partial", "a.old"])
def test_a_folder_beside_that_is_not_ours_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years of work")

    if name == "a.partial":
        with pytest.raises(InputError, match=r"a\.partial is in the way"):
            make(tmp_path / "a")
    else:
        make(tmp_path / "a")
        make(tmp_path / "a", "other")

    assert (tmp_path / name / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    assert make(tmp_path / "a").kind == "corpus"


def test_an_artefact_of_another_kind_is_not_written_over(tmp_path: Path) -> None:
    make(tmp_path / "corpus")
    make(tmp_path / "tokens", parents={"corpus": tmp_path / "corpus"})

    with pytest.raises(InputError, match="is an artefact, but not a corpus"):
        make(tmp_path / "tokens")

    assert artifact.read(tmp_path / "tokens").kind == "tokens"


def test_a_damaged_artefact_can_be_made_again(tmp_path: Path) -> None:
    make(tmp_path / "a")
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-10])

    assert make(tmp_path / "a").kind == "corpus"


@pytest.mark.parametrize("inside", ["", "tokens", "data/tokens"])
def test_an_artefact_is_not_written_into_what_it_is_made_from(inside: str, tmp_path: Path) -> None:
    make(tmp_path / "corpus")

    with pytest.raises(InputError, match="lies in the corpus"):
        make(tmp_path / "corpus" / inside, parents={"corpus": tmp_path / "corpus"})

    assert artifact.verify(tmp_path / "corpus") == []


@pytest.mark.parametrize("out", [".", "..", "/", "sub/.."])
def test_a_path_without_a_name_is_refused(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError):
        make(Path(out))

    assert names(tmp_path) == ["sub"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
@pytest.mark.parametrize("out", ["/proc/new", "/proc/new/deep"])
def test_a_place_where_no_folder_can_be_made_is_told(out: str) -> None:
    with pytest.raises(InputError, match="nothing can be written in /proc"):
        make(Path(out))


def test_a_link_to_an_artefact_is_followed(tmp_path: Path) -> None:
    make(tmp_path / "disk" / "a")
    (tmp_path / "a").symlink_to(tmp_path / "disk" / "a")

    make(tmp_path / "a", "new")

    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "disk" / "a" / "data" / "file.txt").read_text() == "new"
    assert names(tmp_path / "disk") == ["a"]


def test_a_missing_parent_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="corpus does not exist"):
        make(tmp_path / "tokens", parents={"corpus": tmp_path / "corpus"})

    assert names(tmp_path) == []


@pytest.mark.parametrize("config", [Settings(rate=float("nan")), Settings(rate=1e20), Settings(number=2**60)])
def test_a_setting_that_json_cannot_hold_is_refused_before_the_work(config: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no JSON form"):
        make(tmp_path / "a", config=config)

    assert names(tmp_path) == []


def test_numbers_of_numpy_are_counted(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "a", kind="x", config=Settings(), rooms=ROOMS) as draft:
        draft.count("bytes", np.int64(5))  # type: ignore[arg-type]

    assert artifact.read(tmp_path / "a").counts == {"bytes": 5}


def test_what_was_decided_during_the_work_replaces_the_setting(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "a", kind="x", config=Settings(), rooms=ROOMS) as draft:
        draft.settings["number"] = 7

    assert artifact.read(tmp_path / "a").config["number"] == 7


def test_logs_are_in_no_digest(tmp_path: Path) -> None:
    ids = set()

    for note in ("monday", "tuesday"):
        with artifact.create(tmp_path / note, kind="x", config=Settings(), rooms=ROOMS) as draft:
            (draft.run / "log.txt").write_text(note)
        (tmp_path / note / "run" / "later.txt").write_text(note)
        ids.add(artifact.read(tmp_path / note).seal)
        assert artifact.verify(tmp_path / note) == []

    assert len(ids) == 1


@pytest.mark.slow
def test_no_byte_of_a_manifest_can_change_unseen(tmp_path: Path) -> None:
    make(tmp_path / "a", config=Settings(rate=1e-21, names=("größe", "line\nend", "\x1f")))
    file = tmp_path / "a" / "manifest.json"
    whole = file.read_bytes()
    assert artifact.verify(tmp_path / "a") == []

    for position in range(len(whole)):
        for bit in (1, 2, 32, 128):
            changed = bytearray(whole)
            changed[position] ^= bit
            file.write_bytes(changed)

            problems = artifact.verify(tmp_path / "a")

            assert len(problems) == 1, bytes(changed)
            assert str(file) in problems[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: text.replace('"kept":2', '"kept":2.0'),
        lambda text: text.replace('"kept":2', '"kept":1,"kept":2'),
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: "",
        lambda text: text.replace('"subject":[', '"subject":[5,'),
    ],
)
def test_another_spelling_of_a_manifest_is_damage(change: object, tmp_path: Path) -> None:
    make(tmp_path / "a")
    file = tmp_path / "a" / "manifest.json"
    file.write_text(change(file.read_text()))  # type: ignore[operator]

    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged"):
        artifact.read(tmp_path / "a")


@pytest.mark.parametrize("options", [["--indent", "2"], ["--no-ensure-ascii"], ["--sort-keys"]])
def test_a_manifest_that_json_tool_indented_is_the_same(options: list[str], tmp_path: Path) -> None:
    made = make(tmp_path / "a", config=Settings(names=("größe",)))
    file = tmp_path / "a" / "manifest.json"
    said = subprocess.run([sys.executable, "-m", "json.tool", *options, file], capture_output=True, check=True).stdout

    file.write_bytes(said)

    assert artifact.read(tmp_path / "a") == made
    file.write_bytes(said + b"\n")
    with pytest.raises(ArtifactError, match="not in canonical form"):
        artifact.read(tmp_path / "a")


def reseal(directory: Path, change: object) -> None:
    """Forge a manifest: change it and give it a fitting seal."""
    statement = json.loads((directory / "manifest.json").read_bytes())
    change(statement)  # type: ignore[operator]
    statement["predicate"]["seal"] = artifact._seal(statement)
    (directory / "manifest.json").write_bytes(canonical(statement))


def test_a_seal_made_anew_does_not_help_an_id_that_is_wrong(tmp_path: Path) -> None:
    make(tmp_path / "a")
    reseal(tmp_path / "a", lambda statement: statement["subject"].clear())

    with pytest.raises(ArtifactError, match="gives id"):
        artifact.read(tmp_path / "a")


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "manifest.json").mkdir(parents=True)

    for path, kind, message in [
        ("none", None, "none does not exist"),
        ("file", None, "file is not a directory"),
        ("empty", None, "empty has no manifest.json"),
        ("odd", None, "odd has no manifest.json"),
        ("a", "model", "a is of kind corpus, wanted: model"),
    ]:
        with pytest.raises(ArtifactError, match=message) as refused:
            artifact.read(tmp_path / path, kind=kind)
        assert refused.value.hint


def test_an_interrupted_run_is_taken_up_when_nothing_changed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        break_off(tmp_path / "a", KeyboardInterrupt(), resume=True)
    assert names(tmp_path) == ["a.partial"]

    with artifact.create(tmp_path / "a", kind="corpus", config=Settings(), rooms=ROOMS, resume=True) as draft:
        resumed, state = draft.resumed, (draft.path / "state.bin").read_text()

    assert (resumed, state) == (True, "half")
    assert names(tmp_path) == ["a"]


def test_a_disk_full_when_a_run_is_taken_up_does_not_lose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        break_off(tmp_path / "a", KeyboardInterrupt(), resume=True)

    def write_text(path: Path, *_: object, **__: object) -> int:
        path.write_bytes(b"")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", write_text)
        with pytest.raises((StarsmithError, KeyboardInterrupt)):
            break_off(tmp_path / "a", KeyboardInterrupt(), resume=True)

    with artifact.create(tmp_path / "a", kind="corpus", config=Settings(), rooms=ROOMS, resume=True) as draft:
        assert draft.resumed


def test_an_interrupted_run_with_other_settings_is_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        break_off(tmp_path / "a", KeyboardInterrupt(), resume=True)

    with artifact.create(tmp_path / "a", kind="corpus", config=Settings(number=2), rooms=ROOMS, resume=True) as draft:
        resumed, left = draft.resumed, (draft.path / "state.bin").exists()

    assert (resumed, left) == (False, False)


def test_a_run_that_fails_before_it_writes_anything_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(StarsmithError),
        artifact.create(tmp_path / "a", kind="model", config=Settings(), rooms=ROOMS, resume=True),
    ):
        raise StarsmithError("no such thing")

    assert names(tmp_path) == []


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    make(tmp_path / "corpus")
    make(tmp_path / "tokens", parents={"corpus": tmp_path / "corpus"})
    return tmp_path


def up_to_date(chain: Path, config: object | None = None) -> bool:
    return artifact.is_up_to_date(chain / "tokens", config=config or Settings(), parents={"corpus": chain / "corpus"})


def test_equal_settings_inputs_and_code_are_up_to_date(chain: Path) -> None:
    assert up_to_date(chain)
    make(chain / "corpus")
    assert up_to_date(chain)


def test_other_settings_are_not_up_to_date(chain: Path) -> None:
    assert not up_to_date(chain, Settings(number=2))


def test_another_parent_is_not_up_to_date(chain: Path) -> None:
    make(chain / "corpus", "other")

    assert not up_to_date(chain)


def test_other_code_is_not_up_to_date(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "source_sha256", lambda rooms: "0" * 64)

    assert not up_to_date(chain)


def test_another_commit_alone_is_up_to_date(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = artifact.read(chain / "corpus").seal
    monkeypatch.setattr(artifact, "commit", lambda: "f" * 40)

    make(chain / "corpus")  # made again at the new commit: all else is equal, so its children still hold

    assert up_to_date(chain)
    assert artifact.read(chain / "corpus").seal == before
    assert artifact.verify(chain / "corpus") == []


@pytest.mark.parametrize("damage", ["data/file.txt", "manifest.json", "run/started.json", ""])
def test_a_damaged_artefact_is_not_up_to_date(damage: str, chain: Path) -> None:
    if damage:
        (chain / "tokens" / damage).write_text("[]")
    else:
        shutil.rmtree(chain / "tokens")

    assert not up_to_date(chain)


def test_a_parent_is_found_where_it_was_or_beside_the_child(tmp_path: Path) -> None:
    make(tmp_path / "far" / "corpus")
    make(tmp_path / "near" / "tokens", parents={"corpus": tmp_path / "far" / "corpus"})
    assert ancestry.parent_directory(tmp_path / "near" / "tokens", "corpus") == tmp_path / "far" / "corpus"

    (tmp_path / "far" / "corpus").rename(tmp_path / "near" / "of-another-name")
    assert ancestry.parent_directory(tmp_path / "near" / "tokens", "corpus").name == "of-another-name"

    shutil.rmtree(tmp_path / "near" / "of-another-name")
    with pytest.raises(ArtifactError, match=r"the corpus that .*tokens was made from"):
        ancestry.parent_directory(tmp_path / "near" / "tokens", "corpus")


def test_a_role_that_an_artefact_does_not_have_is_an_error(chain: Path) -> None:
    with pytest.raises(ArtifactError, match="was not made from a tokenizer"):
        ancestry.parent_directory(chain / "tokens", "tokenizer")


def test_an_ancestor_is_found_by_its_kind(chain: Path) -> None:
    with artifact.create(
        chain / "model", kind="model", config=Settings(), rooms=ROOMS, parents={"tokens": chain / "tokens"}
    ):
        pass

    assert ancestry.ancestor_directory(chain / "model", "corpus") == chain / "corpus"
    with pytest.raises(ArtifactError, match="there is no tokenizer"):
        ancestry.ancestor_directory(chain / "model", "tokenizer")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"SKIPPED: a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill_disk(out: Path, content: str, *, resume: bool = False) -> None:
    with artifact.create(out, kind="corpus", config=Settings(), rooms=ROOMS, resume=resume) as draft:
        (draft.run / "state.pt").write_text("state")
        if content == "file":
            (draft.path / "large.bin").write_bytes(bytes(2**20))
        else:
            numbers = np.random.default_rng(0).random(2**18)
            pq.write_table(pa.table({"numbers": numbers}), draft.path / "large.parquet")


@pytest.mark.parametrize("content", ["file", "parquet"])
def test_a_full_disk_is_two_lines_and_leaves_nothing(content: str, small_disk: Path) -> None:
    with pytest.raises(StarsmithError, match="no space left on the disk of") as refused:
        fill_disk(small_disk / "a", content)

    assert "free some space" in refused.value.hint
    assert names(small_disk) == []


def test_a_full_disk_keeps_the_former_artefact_and_the_state_of_a_long_run(small_disk: Path) -> None:
    make(small_disk / "a")

    with pytest.raises(StarsmithError, match="no space left"):
        fill_disk(small_disk / "a", "file", resume=True)

    assert names(small_disk) == ["a", "a.partial"]
    assert artifact.verify(small_disk / "a") == []
    assert (small_disk / "a.partial" / "run" / "state.pt").read_text() == "state"
