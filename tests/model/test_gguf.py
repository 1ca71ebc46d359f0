"""GGUF files: what is in them, read back with the format's own package."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, quants

from starsmith.core.errors import CheckpointError, InputError
from starsmith.model import checkpoint, gguf
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import FILE_SEP, FIM_MIDDLE, FIM_PAD, FIM_PREFIX, FIM_SUFFIX, REPO_NAME, Tokenizer

pytestmark = pytest.mark.slow

LABEL = gguf.Label(name="a model", license="Apache-2.0", description="made by a test")
# Largest error of a number, as a share of the largest in its row.
ERRORS = {"f32": 0.0, "f16": 1e-3, "bf16": 4e-3, "q8_0": 1 / 127, "q4_0": 1 / 8}


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest, tokenizer_directory: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=Tokenizer.load(tokenizer_directory).vocab_size,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        sliding_window=100,
        tie_word_embeddings=request.param,
    )
    network = Transformer(config)
    for parameter in network.parameters():
        parameter.data.normal_(std=0.1)
    checkpoint.save(network, tokenizer_directory / "tokenizer.json", tmp_path / "model")
    return tmp_path / "model"


def fields(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


@pytest.mark.parametrize("kind", gguf.TYPES)
def test_every_tensor_is_there_within_the_error_of_its_type(model: Path, kind: str, tmp_path: Path) -> None:
    gguf.write(model, tmp_path / "model.gguf", kind=kind, label=LABEL)

    wanted = checkpoint.load(model).state_dict()
    tied = checkpoint.load_config(model).tie_word_embeddings
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    assert len(tensors) == len(wanted) - tied
    assert ("output.weight" in tensors) != tied
    for theirs, ours in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.bias", "model.norm.bias"),
        ("blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight"),
        ("blk.1.attn_output.bias", "model.layers.1.self_attn.o_proj.bias"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("blk.0.ffn_down.weight", "model.layers.0.mlp.c_proj.weight"),
    ):
        found = quants.dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
        number = wanted[ours].numpy()
        assert np.abs(found - number).max() <= ERRORS[kind] * np.abs(number).max()


def test_a_reader_finds_the_architecture_and_what_it_is(model: Path, tmp_path: Path) -> None:
    gguf.write(model, tmp_path / "model.gguf", kind="q8_0", label=LABEL)

    found = fields(tmp_path / "model.gguf")

    assert found["general.architecture"] == "starcoder2"
    assert (found["general.name"], found["general.license"]) == ("a model", "Apache-2.0")
    sizes = {
        "context_length": 128, "embedding_length": 64, "block_count": 2, "feed_forward_length": 256, "vocab_size":
        checkpoint.load_config(model).vocab_size, "attention.head_count": 4, "attention.head_count_kv": 2,
        "attention.sliding_window": 100, "rope.dimension_count": 16,
    }  # fmt: skip
    assert {name: found[f"starcoder2.{name}"] for name in sizes} == sizes
    assert found["starcoder2.rope.freq_base"] == 100_000.0
    assert found["starcoder2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)


def test_a_reader_finds_the_vocabulary_and_the_control_tokens(model: Path, tmp_path: Path) -> None:
    gguf.write(model, tmp_path / "model.gguf", kind="f16", label=LABEL)

    found = fields(tmp_path / "model.gguf")

    values = json.loads((model / "tokenizer.json").read_text())
    assert found["tokenizer.ggml.merges"] == [" ".join(merge) for merge in values["model"]["merges"]]
    assert all(values["model"]["vocab"][token] == rank for rank, token in enumerate(found["tokenizer.ggml.tokens"]))
    assert [rank for rank, kind in enumerate(found["tokenizer.ggml.token_type"]) if kind == 3] == list(range(38))
    roles = {"pre": FIM_PREFIX, "mid": FIM_MIDDLE, "suf": FIM_SUFFIX, "pad": FIM_PAD, "rep": REPO_NAME, "sep": FILE_SEP}
    assert {role: found[f"tokenizer.ggml.fim_{role}_token_id"] for role in roles} == roles
    assert found["tokenizer.ggml.eos_token_id"] == found["tokenizer.ggml.bos_token_id"] == 0
    assert found["tokenizer.ggml.pre"] == "starcoder"


def test_the_same_checkpoint_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        gguf.write(model, tmp_path / name, kind="q4_0", label=LABEL)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_that_fails_in_the_middle_leaves_nothing(model: Path, tmp_path: Path) -> None:
    network = checkpoint.load(model)
    network.model.norm.weight.data[0] = 1e6  # fine: norms stay float32
    network.model.layers[1].mlp.c_fc.weight.data[0, 0] = 1e6
    checkpoint.save(network, model / "tokenizer.json", tmp_path / "large")

    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.c_fc\.weight has numbers that float16 cannot hold"):
        gguf.write(tmp_path / "large", tmp_path / "model.gguf", kind="f16", label=LABEL)

    assert not list(tmp_path.glob("*.gguf*"))


def test_widths_that_do_not_divide_into_blocks_are_refused(tokenizer_directory: Path, tmp_path: Path) -> None:
    config = replace(
        ModelConfig(), vocab_size=Tokenizer.load(tokenizer_directory).vocab_size, hidden_size=48,
        intermediate_size=192, num_hidden_layers=1, num_attention_heads=4,
    )  # fmt: skip
    checkpoint.save(Transformer(config), tokenizer_directory / "tokenizer.json", tmp_path / "model")

    with pytest.raises(CheckpointError, match="hidden_size = 48, and q8_0 wants a multiple of 32"):
        gguf.write(tmp_path / "model", tmp_path / "model.gguf", kind="q8_0", label=LABEL)
    gguf.write(tmp_path / "model", tmp_path / "model.gguf", kind="f16", label=LABEL)


def test_an_unknown_type_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'q5_k' is no type of a GGUF file"):
        gguf.write(model, tmp_path / "model.gguf", kind="q5_k", label=LABEL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "splits text by Whitespace; wanted, as StarCoder2"),
        ({"model": {"vocab": {"a": 0, "b": 2}, "merges": []}, "added_tokens": []}, "ids with gaps or twice"),
        ({"model": {"vocab": {"a": 0, "b": 1}, "merges": []}, "added_tokens": []}, "has 2 tokens, the model"),
        ({"model": {}}, "is not a BPE tokenizer file"),
    ],
)
def test_a_vocabulary_that_llama_cpp_could_not_follow_is_refused(
    model: Path, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = model / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    with pytest.raises(CheckpointError, match=message):
        gguf.write(model, tmp_path / "model.gguf", kind="f16", label=LABEL)

    assert not list(tmp_path.glob("*.gguf*"))
