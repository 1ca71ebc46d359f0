"""Checkpoints: what is written is read again, and what is damaged is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from starsmith.core.errors import CheckpointError
from starsmith.model import checkpoint
from starsmith.model.config import PRESETS, ModelConfig
from starsmith.model.transformer import Transformer

pytestmark = pytest.mark.slow  # writes and reads many models

CONFIG = ModelConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    checkpoint.save(Transformer(CONFIG), None, tmp_path / "model")
    return tmp_path / "model"


def edit(file: Path, **changes: object) -> None:
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in values.items() if value != "REMOVE"}))


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
def test_a_saved_model_is_read_again_exactly(tmp_path: Path, shard_bytes: int) -> None:
    model = Transformer(CONFIG).eval()
    checkpoint.save(model, None, tmp_path / "model", shard_bytes=shard_bytes)

    loaded = checkpoint.load(tmp_path / "model")

    assert (len(list((tmp_path / "model").glob("*.safetensors"))) > 1) == (shard_bytes == 20_000)
    prompt = torch.arange(20)[None]
    assert torch.equal(loaded(prompt), model(prompt))
    assert loaded.config == CONFIG
    assert not loaded.training


def test_a_half_precision_file_is_read_as_asked(tmp_path: Path) -> None:
    checkpoint.save(Transformer(CONFIG), None, tmp_path / "model", dtype=torch.bfloat16)

    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    assert next(checkpoint.load(tmp_path / "model").parameters()).dtype == torch.float32
    assert next(checkpoint.load(tmp_path / "model", dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16


def test_both_configuration_files_name_the_same_end_token(saved: Path) -> None:
    config, generation = (json.loads((saved / name).read_text()) for name in ("config.json", "generation_config.json"))

    for key in ("bos_token_id", "eos_token_id"):
        assert config[key] == generation[key] == 0


def test_config_json_has_every_key_that_readers_look_for(saved: Path) -> None:
    wanted = [
        "architectures", "attention_dropout", "bos_token_id", "dtype", "embedding_dropout", "eos_token_id",
        "hidden_act", "hidden_size", "initializer_range", "intermediate_size", "max_position_embeddings", "mlp_type",
        "model_type", "norm_epsilon", "norm_type", "num_attention_heads", "num_hidden_layers", "num_key_value_heads",
        "residual_dropout", "rope_parameters", "rope_theta", "sliding_window", "tie_word_embeddings", "torch_dtype",
        "use_bias", "use_cache", "vocab_size",
    ]  # fmt: skip

    assert sorted(json.loads((saved / "config.json").read_text())) == wanted


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_a_configuration_survives_its_json(config: ModelConfig) -> None:
    written = json.loads(json.dumps(config.to_json()))
    without_old_theta = {key: value for key, value in written.items() if key != "rope_theta"}

    assert ModelConfig.from_json(written, where="x") == config
    assert ModelConfig.from_json(without_old_theta, where="x") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "describes a 'llama' model, not 'starcoder2'"),
        ({"hidden_size": "REMOVE"}, "has no hidden_size"),
        ({"hidden_size": "wide"}, "hidden_size = 'wide'"),
        ({"num_attention_heads": 5}, "does not divide into 5 heads"),
        ({"num_key_value_heads": 3}, "cannot share 3 key/value heads"),
        ({"hidden_act": "silu"}, "hidden_act 'silu'"),
        ({"mlp_type": "gated"}, "mlp_type 'gated'"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling of type 'linear'"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}, "rope_parameters of type 'yarn'"),
        ({"quantization_config": {"bits": 4}}, "has a quantization_config"),
        ({"vocab_size": 65}, "embed_tokens.weight of shape (64, 32)"),
        ({"num_hidden_layers": 3}, "lacks 16 tensors"),
        ({"num_hidden_layers": 1}, "asks for no such"),
        ({"tie_word_embeddings": False}, "lacks 1 tensor, the first is lm_head.weight"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(saved: Path, changes: dict[str, object], message: str) -> None:
    edit(saved / "config.json", **changes)

    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(saved)

    assert message in caught.value.message
    assert str(saved) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()

    with pytest.raises(CheckpointError, match=f"{name} does not exist"):
        checkpoint.load(saved)


@pytest.mark.parametrize("keep", [0, 5, 1000])
def test_a_truncated_weight_file_is_named(saved: Path, keep: int) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])

    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a readable safetensors file"):
        checkpoint.load(saved)


def test_a_file_with_a_stored_tied_head_is_read(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, saved / "model.safetensors")

    assert checkpoint.load(saved).lm_head.weight.shape == (64, 32)


def test_a_shard_index_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    checkpoint.save(Transformer(CONFIG), None, tmp_path / "model", shard_bytes=20_000)
    shard = min((tmp_path / "model").glob("*.safetensors"))
    shutil.move(shard, tmp_path / "elsewhere.safetensors")
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(shard.name, "../elsewhere.safetensors"))

    with pytest.raises(CheckpointError, match=r"model/elsewhere\.safetensors does not exist"):
        checkpoint.load(tmp_path / "model")


def test_what_a_configuration_leaves_out_is_as_transformers_reads_it(saved: Path) -> None:
    edit(saved / "config.json", rope_theta="REMOVE", rope_parameters="REMOVE", max_position_embeddings="REMOVE")
    edit(saved / "config.json", sliding_window="REMOVE", bos_token_id=None)

    config = checkpoint.load_config(saved)

    assert (config.rope_theta, config.max_position_embeddings, config.sliding_window) == (10_000.0, 4096, None)
    assert config.bos_token_id == 0


def test_a_pickle_is_refused_with_a_way_to_convert_it(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match="is a pickle") as caught:
        checkpoint.load(saved)

    assert "save_pretrained" in caught.value.hint


def test_weights_that_are_no_plain_numbers_are_refused(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    name = "model.layers.0.mlp.c_fc.weight"
    save_file({**tensors, name: tensors[name].to(torch.int8)}, saved / "model.safetensors")

    with pytest.raises(CheckpointError, match=r"c_fc\.weight of type I8, wanted: F32, F16, BF16"):
        checkpoint.load(saved)


def test_weights_are_copied_in_another_type_and_in_shards(saved: Path, tmp_path: Path) -> None:
    weights = checkpoint.Weights(saved)

    (tmp_path / "copy").mkdir()
    checkpoint.copy(weights, tmp_path / "copy", dtype=torch.bfloat16, shard_bytes=20_000)
    checkpoint.write_companions(weights.config, None, tmp_path / "copy", dtype=torch.bfloat16)

    assert len(list((tmp_path / "copy").glob("*.safetensors"))) > 1
    copied = checkpoint.load(tmp_path / "copy").state_dict()
    for name, tensor in checkpoint.load(saved).state_dict().items():
        assert torch.equal(tensor.bfloat16().float(), copied[name])


def test_tensors_of_several_types_are_read_in_the_widest(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    assert checkpoint.Weights(saved).dtype == torch.float32
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, saved / "model.safetensors")
    assert checkpoint.Weights(saved).dtype == torch.bfloat16
    save_file({**{name: tensor.bfloat16() for name, tensor in tensors.items()}, "model.norm.weight": torch.ones(32)},
              saved / "model.safetensors")  # fmt: skip
    assert checkpoint.Weights(saved).dtype == torch.float32


def test_numbers_that_float16_cannot_hold_are_refused(saved: Path, tmp_path: Path) -> None:
    model = checkpoint.load(saved)
    model.model.layers[1].mlp.c_fc.weight.data[3, 3] = 1e6

    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.c_fc\.weight has numbers that float16 cannot hold"):
        checkpoint.save(model, None, tmp_path / "half", dtype=torch.float16)
