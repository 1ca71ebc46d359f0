"""Exports of weights: the file, its card and the terms that bind whoever gets it."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from gguf import GGUFReader

from starsmith.cli.export import export
from starsmith.cli.imports import import_model
from starsmith.core.errors import CheckpointError, InputError
from starsmith.model import checkpoint
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer

pytestmark = pytest.mark.slow

# No real licence: a text with the shape of one.
RAIL = "BigExample OpenRAIL-M\n\nATTACHMENT A\nUSE RESTRICTIONS\n(a) what this test forbids\n"


@pytest.fixture
def model(tokenizer_directory: Path, tmp_path: Path) -> Path:
    """An imported model under a licence with use restrictions."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=Tokenizer.load(tokenizer_directory).vocab_size, hidden_size=64, intermediate_size=256,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128,
    )  # fmt: skip
    checkpoint.save(Transformer(config), tokenizer_directory / "tokenizer.json", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("---\nlicense: bigcode-openrail-m\n---\n# Theirs\n")
    (tmp_path / "elsewhere" / "LICENSE").write_text(RAIL)
    arguments = [str(tmp_path / "elsewhere"), "--out", str(tmp_path / "model"), "--name", "example/coder"]
    CliRunner().invoke(import_model, arguments, catch_exceptions=False)
    return tmp_path / "model"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments], catch_exceptions=False)


def names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_a_gguf_export_carries_card_licence_and_restrictions(model: Path, tmp_path: Path) -> None:
    done = run(model, "--format", "gguf", "--dtype", "q8_0", "--out", tmp_path / "out")

    assert done.exit_code == 0
    found = names(tmp_path / "out")
    assert {"model-q8_0.gguf", "README.md", "LICENSE", "USE_RESTRICTIONS.md"} <= found
    assert not {name for name in found if name.endswith(".safetensors")} | {"config.json"} & found
    assert "what this test forbids" in (tmp_path / "out" / "USE_RESTRICTIONS.md").read_text()
    fields = GGUFReader(tmp_path / "out" / "model-q8_0.gguf").fields
    assert fields["general.license"].contents() == "bigcode-openrail-m"
    assert fields["general.name"].contents() == "model"


def test_a_safetensors_export_is_a_checkpoint_in_the_asked_type(model: Path, tmp_path: Path) -> None:
    run(model, "--format", "safetensors", "--dtype", "f16", "--out", tmp_path / "out")

    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "LICENSE"} <= names(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"
    exported = checkpoint.load(tmp_path / "out").state_dict()
    for name, tensor in checkpoint.load(model).state_dict().items():
        assert torch.equal(tensor.half().float(), exported[name])


@pytest.mark.parametrize(
    ("form", "dtype", "message"),
    [("safetensors", "q4_0", "safetensors is not written as q4_0"), ("model-card", "f16", "--dtype is for weights")],
)
def test_a_type_that_the_format_does_not_have_is_refused(
    model: Path, form: str, dtype: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run(model, "--format", form, "--dtype", dtype, "--out", tmp_path / "out")


def test_weights_of_what_is_no_model_are_refused(tokenizer_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of kind tokenizer; gguf is of a model"):
        run(tokenizer_directory, "--format", "gguf", "--out", tmp_path / "out")


@pytest.mark.parametrize(("place", "message"), [("there", "there exists"), ("model/gguf", "lies in the artefact")])
def test_nothing_is_written_over(model: Path, place: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    before = names(tmp_path)

    with pytest.raises(InputError, match=message):
        run(model, "--format", "gguf", "--out", tmp_path / place)

    assert names(tmp_path) == before


def test_nothing_stays_of_an_export_that_fails(model: Path, tmp_path: Path) -> None:
    network = checkpoint.load(model)
    network.model.layers[1].mlp.c_proj.weight.data[0, 0] = 1e6
    checkpoint.save(network, model / "tokenizer.json", tmp_path / "elsewhere")
    CliRunner().invoke(import_model, [str(tmp_path / "elsewhere"), "--out", str(tmp_path / "large")])
    before = names(tmp_path)

    for form in ("gguf", "safetensors"):
        with pytest.raises(CheckpointError, match="float16 cannot hold"):
            run(tmp_path / "large", "--format", form, "--dtype", "f16", "--out", tmp_path / "out")

    assert names(tmp_path) == before
