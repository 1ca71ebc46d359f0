"""A checkpoint from elsewhere becomes an artefact that says where it is from."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from starsmith.cli.imports import import_model
from starsmith.core import artifact
from starsmith.core.errors import CheckpointError, InputError, StarsmithError
from starsmith.inference.engine import GenerationRequest, SamplingParams
from starsmith.inference.local import load_engine
from starsmith.model import checkpoint
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.provenance.papers import bases
from starsmith.provenance.papers.about import About
from starsmith.provenance.papers.facts import open_artifact
from starsmith.tokenizer.bpe import Tokenizer

pytestmark = pytest.mark.slow


def architecture(vocab_size: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )


@pytest.fixture
def elsewhere(tokenizer_directory: Path, tmp_path: Path) -> Path:
    """A directory as another tool would leave it: two shards, half precision, a card and a licence."""
    torch.manual_seed(0)
    out = tmp_path / "elsewhere"
    file, entries = tokenizer_directory / "tokenizer.json", Tokenizer.load(tokenizer_directory).vocab_size
    checkpoint.save(Transformer(architecture(entries)), file, out, dtype=torch.bfloat16, shard_bytes=30_000)
    (out / "README.md").write_text("---\nlicense: bigcode-openrail-m\n---\n# A model\n")
    (out / "LICENSE.md").write_text("BigExample OpenRAIL-M\n\nATTACHMENT A\nUSE RESTRICTIONS\n(a) no harm\n")
    (out / "training.log").write_text("not for others")
    return out


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(import_model, [str(argument) for argument in arguments], catch_exceptions=False)


def test_an_imported_model_is_a_whole_artefact_with_the_same_weights(elsewhere: Path, tmp_path: Path) -> None:
    run(elsewhere, "--out", tmp_path / "model", "--name", "example/coder", "--revision", "abc123")

    assert artifact.verify(tmp_path / "model") == []
    manifest = artifact.read(tmp_path / "model", kind="model")
    assert manifest.counts == {"parameters": checkpoint.load_config(elsewhere).parameters}
    original, imported = checkpoint.load(elsewhere), checkpoint.load(tmp_path / "model")
    assert imported.config == original.config
    for one, other in zip(original.parameters(), imported.parameters(), strict=True):
        assert torch.equal(one, other)
    stored = json.loads((tmp_path / "model" / "config.json").read_text())["dtype"]
    assert stored == "bfloat16"  # as it was
    assert not (tmp_path / "model" / "training.log").exists()


def test_the_manifest_names_the_files_that_were_read(elsewhere: Path, tmp_path: Path) -> None:
    run(elsewhere, "--out", tmp_path / "model", "--name", "example/coder", "--revision", "abc123")

    imported = artifact.read(tmp_path / "model").config["imported"]
    assert (imported["name"], imported["revision"]) == ("example/coder", "abc123")
    shards = {file.name for file in elsewhere.glob("*.safetensors")}
    assert len(shards) > 1
    assert set(imported["files"]) == {"config.json", "tokenizer.json", *shards}


def test_its_licence_and_use_restrictions_are_found_as_in_the_original(elsewhere: Path, tmp_path: Path) -> None:
    run(elsewhere, "--out", tmp_path / "model", "--name", "example/coder")

    found = bases.find_bases(open_artifact(tmp_path / "model"), About())

    assert [(base.name, base.licence, base.is_restricted) for base in found] == [
        ("example/coder", "bigcode-openrail-m", True)
    ]
    restrictions = bases.restrictions_of(found, None)
    assert restrictions is not None
    assert "(a) no harm" in restrictions.text


def test_the_same_import_gives_the_same_artefact(elsewhere: Path, tmp_path: Path) -> None:
    run(elsewhere, "--out", tmp_path / "one")
    run(elsewhere, "--out", tmp_path / "two")

    assert artifact.read(tmp_path / "one").id == artifact.read(tmp_path / "two").id


def test_an_imported_model_completes(elsewhere: Path, tmp_path: Path) -> None:
    run(elsewhere, "--out", tmp_path / "model")
    engines = [load_engine(folder) for folder in (tmp_path / "model", elsewhere)]

    request = GenerationRequest(prompt=[50, 60, 70], params=SamplingParams(max_tokens=8))
    found = [[token.id for token in engine.generate(request)] for engine in engines]

    assert found[0] == found[1]
    assert len(found[0]) == 8


def test_an_end_token_outside_the_vocabulary_is_put_right(elsewhere: Path, tmp_path: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        values = json.loads((elsewhere / name).read_text())
        (elsewhere / name).write_text(json.dumps({**values, "eos_token_id": 49_152, "bos_token_id": 49_152}))

    run(elsewhere, "--out", tmp_path / "model")

    for name in ("config.json", "generation_config.json"):
        values = json.loads((tmp_path / "model" / name).read_text())
        assert values["eos_token_id"] == values["bos_token_id"] == 0


def test_a_vocabulary_may_lie_elsewhere(elsewhere: Path, tokenizer_directory: Path, tmp_path: Path) -> None:
    (elsewhere / "tokenizer.json").unlink()

    run(elsewhere, "--out", tmp_path / "model", "--tokenizer", tokenizer_directory)

    copied = (tmp_path / "model" / "tokenizer.json").read_bytes()
    assert copied == (tokenizer_directory / "tokenizer.json").read_bytes()


def test_a_vocabulary_of_another_size_is_refused(tokenizer_directory: Path, tmp_path: Path) -> None:
    larger = Transformer(architecture(512))
    checkpoint.save(larger, tokenizer_directory / "tokenizer.json", tmp_path / "elsewhere")

    with pytest.raises(CheckpointError, match=r"has 3\d\d tokens, .*elsewhere 512 embeddings"):
        run(tmp_path / "elsewhere", "--out", tmp_path / "model")

    assert not list(tmp_path.glob("model*"))


def test_what_is_an_artefact_already_keeps_its_history(elsewhere: Path, tmp_path: Path) -> None:
    run(elsewhere, "--out", tmp_path / "model")

    with pytest.raises(InputError, match="is a model artefact already"):
        run(tmp_path / "model", "--out", tmp_path / "again")


def llama(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def half_a_shard(folder: Path) -> None:
    shard = min(folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])


def no_shard(folder: Path) -> None:
    min(folder.glob("*.safetensors")).unlink()


def no_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def nothing(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (llama, "describes a 'llama' model"),
        (half_a_shard, "is not a readable safetensors file"),
        (no_shard, "does not exist"),
        (no_vocabulary, r"tokenizer\.json does not exist"),
        (nothing, "is no directory"),
    ],
)
def test_what_cannot_be_imported_is_named_and_leaves_nothing(elsewhere: Path, tmp_path: Path, damage, message) -> None:
    damage(elsewhere)

    with pytest.raises(StarsmithError, match=message) as caught:
        run(elsewhere, "--out", tmp_path / "model")

    assert caught.value.hint
    assert not list(tmp_path.glob("model*"))
