"""The chain of artefacts: whole, tampered with in every file, and with parts missing."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError
from starsmith.core.statement import canonical
from starsmith.provenance.lineage import verify_chain
from worlds import source_file

pytestmark = pytest.mark.slow

Fill = Callable[..., None]

KINDS = ("corpus", "tokenizer", "tokens", "model")


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float = 1e-7
    names: tuple[str, ...] = ("größe", "line\nend")


def make(
    out: Path, files: dict[str, str], parents: dict[str, Path] | None = None, config: Settings | None = None
) -> Path:
    with artifact.create(
        out, kind=out.name, config=config or Settings(), rooms=("core",), parents=parents or {}
    ) as draft:
        for name, content in files.items():
            (draft.path / name).parent.mkdir(parents=True, exist_ok=True)
            (draft.path / name).write_text(content)
        draft.count("files", len(files))
    return out


def make_chain(root: Path, fill: Fill, text: str = "x = 1\n") -> Path:
    corpus, tokens = root / "corpus", root / "tokens"
    with artifact.create(corpus, kind="corpus", config=Settings(), rooms=("core",)) as draft:
        fill(draft, [source_file("x.py", text), source_file("y.py", "y = 2\n")])
        (draft.path / "card.md").write_text("#")
    tokenizer = make(root / "tokenizer", {"tokenizer.json": "{}"}, {"corpus": corpus})
    parents = {"corpus": corpus, "tokenizer": tokenizer}
    with artifact.create(tokens, kind="tokens", config=Settings(), rooms=("core",), parents=parents) as draft:
        write_tokens(draft, text)
    files = {"config.json": "{}", "model.safetensors": "weights"}
    return make(root / "model", files, {"tokens": tokens, "tokenizer": tokenizer})


def write_tokens(draft: artifact.Draft, text: str) -> None:
    """Two bytes of a document for each token; the tokenizer beside is none that could tell."""
    (draft.path / "shards").mkdir()
    (draft.path / "shards" / "00000.bin").write_text(text)
    row = {"shard": 0, "start": 0, "end": len(text) // 2, "bytes": len(text), "split": "train"}
    pq.write_table(pa.Table.from_pylist([row]), draft.path / "documents.parquet")
    draft.counts.update(train_documents=1, train_tokens=len(text) // 2, train_bytes=len(text))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, fill: Fill) -> Path:
    root = tmp_path_factory.mktemp("run")
    make_chain(root, fill)
    return root


@pytest.fixture
def copy(chain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chain, tmp_path / "copy"))


def messages(run: Path) -> list[str]:
    return [problem.message for problem in verify_chain(run / "model").problems]


def flip(file: Path, position: int, bit: int = 1) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= bit
    file.write_bytes(content)


def files_of(run: Path) -> list[Path]:
    return [file for file in sorted(run.rglob("*")) if file.is_file() and artifact.RUN not in file.parts]


def test_a_whole_chain_holds_and_every_artefact_is_walked_once(chain: Path) -> None:
    found = verify_chain(chain / "model")

    assert found.verdict == "holds"
    assert [checked.kind for checked in found.artifacts] == ["model", "tokenizer", "tokens", "corpus"]
    assert all(checked.id == artifact.read(checked.path).id for checked in found.artifacts)


def test_a_changed_byte_in_any_file_is_found_and_the_file_named(chain: Path, copy: Path) -> None:
    names = [file.relative_to(copy) for file in files_of(copy)]
    assert len(names) == 9 + len(KINDS)

    for name in names:
        flip(copy / name, (copy / name).stat().st_size // 2)

        found = verify_chain(copy / "model")

        assert found.verdict == "tampered", name
        assert any(str(copy / name) in problem.message for problem in found.problems), name
        shutil.copyfile(chain / name, copy / name)
    assert messages(copy) == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_part_of_a_manifest_can_change_unseen(kind: str, chain: Path, copy: Path) -> None:
    manifest = copy / kind / artifact.MANIFEST

    for position in range(0, manifest.stat().st_size, 23):
        flip(manifest, position, bit=32)  # changes the case of letters

        assert any(str(manifest) in message for message in messages(copy)), position
        shutil.copyfile(chain / kind / artifact.MANIFEST, manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_a_removed_file_is_named(kind: str, copy: Path) -> None:
    for file in files_of(copy / kind):
        content = file.read_bytes()
        file.unlink()

        assert any(file.name in message and str(file.parent) in message for message in messages(copy)), file
        file.write_bytes(content)
    assert messages(copy) == []


@pytest.mark.parametrize("name", ["extra.txt", "shards/00002.parquet", ".hidden"])
def test_an_added_file_is_named(name: str, copy: Path) -> None:
    (copy / "corpus" / name).write_text("extra")

    assert messages(copy) == [f"{copy / 'corpus' / name} is not in the manifest"]


def test_an_added_file_in_run_is_no_matter(copy: Path) -> None:
    (copy / "corpus" / "run" / "notes.txt").write_text("extra")

    assert messages(copy) == []


@pytest.mark.parametrize("name", ["card.md", "shards", "manifest.json"])
def test_a_link_to_the_same_content_is_named(name: str, copy: Path) -> None:
    place = copy / "corpus" / name
    place.rename(copy / "elsewhere")
    place.symlink_to(copy / "elsewhere")

    assert any(str(place) in message for message in messages(copy))


def test_a_device_in_the_place_of_a_file_is_named_and_not_read(copy: Path) -> None:
    (copy / "corpus" / "card.md").unlink()
    os.mkfifo(copy / "corpus" / "card.md")

    assert messages(copy) == [f"{copy / 'corpus' / 'card.md'} is a link or device, not a file"]


def test_a_parent_swapped_for_another_artefact_is_named(copy: Path, tmp_path: Path, fill: Fill) -> None:
    make_chain(tmp_path / "other", fill, text="x = 2\n")
    shutil.rmtree(copy / "corpus")
    shutil.copytree(tmp_path / "other" / "corpus", copy / "corpus")

    found = verify_chain(copy / "model")

    assert found.verdict == "tampered"
    assert {problem.path for problem in found.problems} == {copy / "corpus"}
    assert f"{copy / 'corpus' / 'manifest.json'} has id" in found.problems[0].message


def test_two_parents_that_changed_places_are_found_by_their_ids(copy: Path) -> None:
    (copy / "tokens").rename(copy / "third")
    (copy / "tokenizer").rename(copy / "tokens")
    (copy / "third").rename(copy / "tokenizer")

    found = verify_chain(copy / "model")

    assert found.verdict == "holds"
    assert {checked.path.name: checked.kind for checked in found.artifacts}["tokens"] == "tokenizer"


def test_a_parent_of_the_same_content_made_with_other_settings_is_named(copy: Path) -> None:
    content = {name: (copy / "tokenizer" / name).read_text() for name in ["tokenizer.json"]}
    before = artifact.read(copy / "tokenizer")
    make(copy / "tokenizer", content, {"corpus": copy / "corpus"}, Settings(rate=0.5))
    assert artifact.read(copy / "tokenizer").id == before.id

    found = verify_chain(copy / "model")

    assert found.verdict == "tampered"
    assert all("tokenizer/manifest.json" in problem.message for problem in found.problems)
    assert all("seal differs" in problem.message for problem in found.problems)


@pytest.mark.parametrize("kind", ["corpus", "tokenizer", "tokens"])
def test_a_parent_that_is_gone_makes_the_chain_incomplete(kind: str, copy: Path) -> None:
    shutil.rmtree(copy / kind)

    found = verify_chain(copy / "model")

    assert (found.verdict, found.problems) == ("incomplete", [])
    assert {parent.role for parent in found.missing} == {kind}


def test_a_change_outweighs_an_absence(copy: Path) -> None:
    shutil.rmtree(copy / "corpus")
    flip(copy / "tokens" / "shards" / "00000.bin", 0)

    assert verify_chain(copy / "model").verdict == "tampered"


def test_a_run_directory_can_be_moved_as_a_whole(copy: Path, tmp_path: Path) -> None:
    copy.rename(tmp_path / "elsewhere")

    assert verify_chain(tmp_path / "elsewhere" / "model").verdict == "holds"


def test_an_artefact_is_found_through_a_link_and_from_inside(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "latest").symlink_to(chain / "model")
    assert verify_chain(tmp_path / "latest").verdict == "holds"

    monkeypatch.chdir(chain / "model")
    assert verify_chain(Path()).verdict == "holds"
    monkeypatch.chdir(chain)
    assert [str(checked.path) for checked in verify_chain(Path("model")).artifacts] == [
        "model",
        "tokenizer",
        "tokens",
        "corpus",
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"tokens": 5, "tokenizer": "\\u0000"}',
        '{"tokens": "../nowhere"}',
        "[" * 50_000,
        f'{{"tokens": "{"x" * 300}"}}',
    ],
)
def test_parents_are_found_beside_the_child_when_the_links_are_damaged(content: str, copy: Path) -> None:
    (copy / "model" / "run" / "parents.json").write_text(content)

    assert verify_chain(copy / "model").verdict == "holds"


def test_a_pipe_in_place_of_the_links_is_not_waited_for(copy: Path) -> None:
    (copy / "model" / "run" / "parents.json").unlink()
    os.mkfifo(copy / "model" / "run" / "parents.json")

    assert verify_chain(copy / "model").verdict == "holds"


def test_a_manifest_that_is_a_link_to_itself_is_damaged(copy: Path) -> None:
    manifest = copy / "tokens" / artifact.MANIFEST
    manifest.unlink()
    manifest.symlink_to(manifest)

    assert any(f"{manifest} is damaged" in message and "link to itself" in message for message in messages(copy))


def test_a_role_that_is_no_file_name_is_a_parent_that_is_missing(copy: Path) -> None:
    file = copy / "tokenizer" / artifact.MANIFEST
    statement = json.loads(file.read_bytes())
    predicate = statement["predicate"]
    predicate["parents"][0].update(role="r" * 300, id="0" * 64)
    files = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    predicate["id"] = artifact._id("tokenizer", files, [artifact.Parent(**predicate["parents"][0])])
    predicate["seal"] = artifact._seal(statement)
    file.write_bytes(canonical(statement))

    found = verify_chain(copy / "tokenizer")

    assert (found.verdict, found.missing[0].role) == ("incomplete", "r" * 300)


@pytest.mark.parametrize("rooms", [5, ["core"], "/", "../..", "core  core"])
def test_the_code_of_a_manifest_is_of_packages(rooms: object, copy: Path) -> None:
    file = copy / "corpus" / artifact.MANIFEST
    statement = json.loads(file.read_bytes())
    statement["predicate"]["code"]["rooms"] = rooms
    statement["predicate"]["seal"] = artifact._seal(statement)
    file.write_bytes(canonical(statement))

    assert any(f"{file} is damaged" in message for message in messages(copy))


def test_parents_are_found_beside_the_child_without_its_run_directory(copy: Path) -> None:
    for kind in KINDS:
        shutil.rmtree(copy / kind / "run")
    (copy / "corpus").rename(copy / "a-corpus")

    assert verify_chain(copy / "model").verdict == "holds"


def test_a_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        verify_chain(tmp_path / "none")


def test_an_unfinished_artefact_does_not_hold(copy: Path) -> None:
    (copy / "model" / "manifest.json").unlink()

    found = verify_chain(copy / "model")

    assert (found.verdict, found.artifacts[0].kind) == ("tampered", "?")
    assert "has no manifest.json" in found.problems[0].message


def test_the_verdict_is_plain_json(copy: Path, make_index: Callable[..., Path]) -> None:
    flip(copy / "corpus" / "card.md", 0)
    shutil.rmtree(copy / "tokenizer")

    found = json.loads(json.dumps(verify_chain(copy / "model").to_json()))

    assert found["verdict"] == "tampered"
    assert found["artifacts"][0] == {
        "path": str(copy / "model"),
        "kind": "model",
        "id": artifact.read(copy / "model").id,
        "files": 2,
    }
    assert found["problems"][0]["path"] == str(copy / "corpus")
    assert {parent["role"] for parent in found["missing"]} == {"tokenizer"}
