"""Quantised checkpoints: kept, loaded again, and refused where they are not what they say."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from starsmith.core.errors import CheckpointError, ConfigError
from starsmith.model import checkpoint, quantized
from starsmith.model.quantization import KINDS, Kind
from tiny_models import of_kind, random_model

pytestmark = pytest.mark.slow

IDS = torch.tensor([[1, 5, 2, 9, 3, 3, 7]])


def plain(path: Path, **settings: object) -> Path:
    checkpoint.save(random_model(**settings), None, path)
    return path


def kept(tmp_path: Path, kind: Kind = "w8a8", **settings: object) -> Path:
    model = quantized.quantize(plain(tmp_path / "plain", **settings), kind)
    quantized.save(model, kind, None, tmp_path / "kept")
    return tmp_path / "kept"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_and_loaded_has_the_same_logits(kind: Kind, tied: bool, tmp_path: Path) -> None:
    made = quantized.quantize(plain(tmp_path / "plain", tie_word_embeddings=tied), kind)
    quantized.save(made, kind, None, tmp_path / "kept")

    loaded = quantized.load(tmp_path / "kept")

    assert quantized.kind_of(tmp_path / "kept") == kind
    assert torch.equal(loaded(IDS), made(IDS))
    assert {name: one.dtype for name, one in loaded.state_dict().items()} == {
        name: one.dtype for name, one in made.state_dict().items()
    }


@pytest.mark.parametrize(("kind", "most"), [("w8a8", 0.05), ("int8", 0.03), ("int4", 0.4)])
def test_a_quantised_model_is_near_the_plain_one(kind: Kind, most: float, tmp_path: Path) -> None:
    model, _ = of_kind(kind, tmp_path)
    wanted = random_model()(IDS)

    error = ((model(IDS) - wanted).norm() / wanted.norm()).item()

    assert 0 < error < most


def test_a_tied_head_is_kept_once_and_is_the_embedding(tmp_path: Path) -> None:
    path = kept(tmp_path)

    model = quantized.load(path)

    assert not [name for name in load_file(path / checkpoint.WEIGHTS) if name.startswith("lm_head")]
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_it_is_smaller(tmp_path: Path) -> None:
    sizes = {}
    for kind in KINDS:
        path = kept(tmp_path / kind, kind, hidden_size=256, intermediate_size=1024, num_attention_heads=4)
        sizes[kind] = (path / checkpoint.WEIGHTS).stat().st_size
    whole = (tmp_path / "int8" / "plain" / checkpoint.WEIGHTS).stat().st_size

    assert sizes["w8a8"] < 0.27 * whole
    assert sizes["int8"] <= sizes["w8a8"]
    assert sizes["int4"] < 0.18 * whole


@pytest.mark.parametrize("name", ["hidden_size", "intermediate_size"])
def test_int4_wants_whole_groups(name: str, tmp_path: Path) -> None:
    path = plain(tmp_path, **{name: 96})

    with pytest.raises(ConfigError, match=f"{name}=96 is no multiple of 64") as refused:
        quantized.quantize(path, "int4")

    assert "w8a8" in refused.value.hint
    quantized.quantize(path, "int8")


def test_a_plain_checkpoint_is_of_no_kind_and_not_loaded(tmp_path: Path) -> None:
    path = plain(tmp_path)

    assert quantized.kind_of(path) is None
    with pytest.raises(CheckpointError, match="not quantised"):
        quantized.load(path)


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    path = kept(tmp_path)
    config = json.loads((path / checkpoint.CONFIG).read_text())
    config["quantization_config"]["weights"] = "int3"
    (path / checkpoint.CONFIG).write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match="'int3', wanted: w8a8, int8, int4"):
        quantized.load(path)


def without_one(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.layers.1.mlp.c_fc.weight_scale"]


def with_one_more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.9.weight"] = torch.zeros(1)


def of_another_shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.c_fc.weight"] = torch.zeros(4, 4, dtype=torch.int8)


def of_another_type(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.c_fc.weight"] = tensors["model.layers.1.mlp.c_fc.weight"].float()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_one, r"differ in model\.layers\.1\.mlp\.c_fc\.weight_scale"),
        (with_one_more, r"differ in model\.layers\.9\.weight"),
        (of_another_shape, r"c_fc\.weight of \(4, 4\).* wanted: \(192, 64\)"),
        (of_another_type, r"torch\.float32, wanted: .*torch\.int8"),
    ],
)
def test_tensors_that_are_not_the_models_are_named(
    change: Callable[[dict[str, torch.Tensor]], None], told: str, tmp_path: Path
) -> None:
    path = kept(tmp_path)
    tensors = load_file(path / checkpoint.WEIGHTS)
    change(tensors)
    save_file(tensors, path / checkpoint.WEIGHTS)

    with pytest.raises(CheckpointError, match=told) as refused:
        quantized.load(path)

    assert "starsmith quantize" in refused.value.hint


@pytest.mark.parametrize("size", [0, 5, 1000, -1])
def test_a_truncated_file_is_refused(size: int, tmp_path: Path) -> None:
    path = kept(tmp_path)
    whole = (path / checkpoint.WEIGHTS).read_bytes()
    (path / checkpoint.WEIGHTS).write_bytes(whole[:size])

    with pytest.raises(CheckpointError, match=checkpoint.WEIGHTS):
        quantized.load(path)


def test_a_quantised_checkpoint_is_not_read_as_a_plain_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        checkpoint.load(kept(tmp_path))
