"""The settings of pre-training, and what of them makes no sense."""

from typing import Any

import pytest

from starsmith.core.config import build
from starsmith.core.errors import ConfigError
from starsmith.model.config import ModelConfig
from starsmith.training.config import ArchitectureConfig, PretrainConfig


def given(**settings: Any) -> PretrainConfig:
    small = {"data": {"context_tokens": 64}, "batch_tokens": 512, "micro_batch_tokens": 256, "steps": 30}
    return build(PretrainConfig, {**small, **settings}, where="test")


def test_steps_tokens_and_minutes_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="steps=30, tokens=None, minutes=3"):
        given(minutes=3.0)


def test_a_row_shorter_than_the_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="micro_batch_tokens=32 is less than one context of 64"):
        given(micro_batch_tokens=32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_tokens": 128}, "batch_tokens=128 is less than micro_batch_tokens=256"),
        ({"seed": -1}, "seed=-1"),
        ({"model": {"hidden_size": 0}}, "hidden_size 0"),
        ({"model": {"heads": 0}}, "heads 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        given(**changes)


def test_sizes_that_are_the_base_models_may_be_given_in_part() -> None:
    base = ModelConfig(vocab_size=9, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    config = ArchitectureConfig(layers=2)

    assert config.continued(base, context_tokens=64).hidden_size == 32
    with pytest.raises(ConfigError, match=r"the recipe asks for layers 3$"):
        ArchitectureConfig(layers=3).continued(base, context_tokens=64)
