"""Checkpoint directories become runners with the weights that were asked for."""

from pathlib import Path

import pytest
import torch

from starsmith.core.errors import CheckpointError, ConfigError
from starsmith.inference.compiled import CompiledRunner
from starsmith.inference.loading import DEFAULT_CONTEXTS, WEIGHTS, Weights, open_model, open_runner, runner_for
from starsmith.inference.runner import TorchRunner
from starsmith.model import checkpoint, quantized
from starsmith.model.kv_cache import BLOCK_TOKENS
from starsmith.model.quantization import QuantizedLinear
from tiny_models import random_model

pytestmark = pytest.mark.slow  # the step is compiled, where that was not kept


def stored(path: Path, dtype: torch.dtype = torch.bfloat16, **settings: object) -> Path:
    checkpoint.save(random_model(**settings), None, path, dtype=dtype)
    return path


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_come_in_the_form_that_is_wanted(weights: Weights, tmp_path: Path) -> None:
    model = open_model(stored(tmp_path), weights, device="cpu")

    layer = model.get_submodule("model.layers.0.mlp.c_fc")
    if weights in ("w8a8", "int8", "int4"):
        assert isinstance(layer, QuantizedLinear)
        assert layer.kind == weights
    else:
        assert layer.weight.dtype == (torch.float32 if weights == "float32" else torch.bfloat16)  # auto: as stored


def test_float16_is_made_float32_on_a_processor(tmp_path: Path) -> None:
    assert open_model(stored(tmp_path, torch.float16), device="cpu").lm_head.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("weights", "kept"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("w8a8", torch.bfloat16)]
)
def test_keys_and_values_are_kept_in_the_type_of_the_weights(
    weights: Weights, kept: torch.dtype, tmp_path: Path
) -> None:
    runner = open_runner(stored(tmp_path), weights, device="cpu")

    assert isinstance(runner, CompiledRunner)
    assert runner.pool.keys.dtype == kept
    runner.close()


def test_there_is_room_for_two_contexts_or_for_what_is_asked(tmp_path: Path) -> None:
    model = open_model(stored(tmp_path), device="cpu")

    assert runner_for(model).blocks == DEFAULT_CONTEXTS * 128 // BLOCK_TOKENS
    assert runner_for(model, kv_tokens=17).blocks == 2
    assert runner_for(model).context_tokens == 128


def test_what_the_compiled_step_cannot_read_is_left_to_pytorch(tmp_path: Path) -> None:
    narrow = stored(tmp_path, num_attention_heads=8, num_key_value_heads=2)  # heads of 8 numbers

    assert isinstance(open_runner(narrow, device="cpu"), TorchRunner)


def test_a_quantised_checkpoint_is_loaded_as_it_is_kept_and_as_nothing_else(tmp_path: Path) -> None:
    quantized.save(quantized.quantize(stored(tmp_path / "plain"), "int8"), "int8", None, tmp_path / "kept")

    for weights in ("auto", "int8"):
        layer = open_model(tmp_path / "kept", weights, device="cpu").get_submodule("model.layers.0.mlp.c_fc")
        assert isinstance(layer, QuantizedLinear)
        assert layer.kind == "int8"
    with pytest.raises(ConfigError, match="quantised to int8, so it cannot be read as w8a8") as refused:
        open_model(tmp_path / "kept", "w8a8", device="cpu")
    assert "before it was quantised" in refused.value.hint


def test_a_directory_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_runner(tmp_path, device="cpu")
