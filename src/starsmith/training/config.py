"""The settings of pre-training and continued training: a recipe's table [pretrain] and the tables below it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starsmith.core.errors import ConfigError
from starsmith.model.config import ModelConfig
from starsmith.training.data import DataConfig
from starsmith.training.optimizer import OptimizerConfig
from starsmith.training.parallel import ParallelConfig
from starsmith.training.schedule import ScheduleConfig
from starsmith.training.spikes import SpikeConfig

BASE_ROPE_THETA = 100_000.0  # StarCoder2's base stage
PRECISIONS = ("auto", "float32", "bfloat16", "float8")
SIZES = ("hidden_size", "layers", "heads", "kv_heads")


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """A StarCoder2 model's shape. The defaults are the 125M class; `recipes/` has the published sizes.

    With a base model its shape is taken, and only `rope_theta` and `dropout` change it.
    """

    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    kv_heads: int = 2  # shared by groups of heads: 2 or 4 in StarCoder2, 1 (multi-query) in StarCoder, up to `heads`
    rope_theta: float | None = None  # None: the base model's, or 100,000 as StarCoder2's first stage
    sliding_window: int | None = 4096  # a token sees itself and the window - 1 before it; StarCoder2's, in every layer
    tie_embeddings: bool = True  # the output head is the embedding: 3B and 7B, not 15B
    dropout: float = 0.0  # of attention, residual and embedding; the released runs have 0.1 or 0

    def __post_init__(self) -> None:
        if min(self.hidden_size, self.layers, self.heads, self.kv_heads) < 1:
            raise ConfigError(f"{_sizes(vars(self), SIZES)}: must be above 0", hint="mend [pretrain.model]")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout}: must be at least 0 and below 1", hint="0 is the default")

    def model(self, *, vocab_size: int, context_tokens: int) -> ModelConfig:
        """The architecture of a model that is trained from nothing."""
        return ModelConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=4 * self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=context_tokens,
            sliding_window=self.sliding_window,
            rope_theta=self.rope_theta or BASE_ROPE_THETA,
            initializer_range=self.hidden_size**-0.5,  # StarCoder2's 3B and 15B
            tie_word_embeddings=self.tie_embeddings,
            attention_dropout=self.dropout,
            residual_dropout=self.dropout,
            embedding_dropout=self.dropout,
        )

    def continued(self, base: ModelConfig, *, context_tokens: int) -> ModelConfig:
        """The architecture of `base`, trained on: with a longer context and another theta where they are asked for."""
        has = {
            "hidden_size": base.hidden_size,
            "layers": base.num_hidden_layers,
            "heads": base.num_attention_heads,
            "kv_heads": base.num_key_value_heads,
        }
        plain, asked = vars(ArchitectureConfig()), vars(self)
        wrong = [name for name in SIZES if asked[name] not in (has[name], plain[name])]
        if wrong:
            raise ConfigError(
                f"the base model has {_sizes(has, SIZES)}, the recipe asks for {_sizes(asked, wrong)}",
                hint="leave the sizes out of [pretrain.model]: they are the base model's",
            )
        return replace(
            base,
            max_position_embeddings=max(base.max_position_embeddings, context_tokens),
            rope_theta=self.rope_theta or base.rope_theta,
            attention_dropout=self.dropout,
            residual_dropout=self.dropout,
            embedding_dropout=self.dropout,
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A StarCoder2 model from nothing, or trained on from a base model."""

    model: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    spikes: SpikeConfig = field(default_factory=SpikeConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    batch_tokens: int = 524_288  # per optimizer step, all ranks together
    micro_batch_tokens: int = 16_384  # per forward pass of a rank: memory against speed
    steps: int | None = None  # the length: this ...
    tokens: int | None = None  # ... or this many tokens read ...
    minutes: float | None = None  # ... or a time box
    precision: str = "auto"  # or float32, bfloat16, float8 (the last on GPUs that have it)
    activation_checkpointing: bool = False  # layers are run again in the backward pass: less memory, a third more time
    compile: bool = True  # the layers, on a GPU; a CPU does not: it would take minutes and gain nothing
    save_minutes: float = 0.5  # between saved states: how much work a kill can cost
    seed: int = 0

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("steps", "tokens", "minutes")}
        if sum(value is not None for value in given.values()) != 1:
            seen = ", ".join(f"{name}={value}" for name, value in given.items())
            raise ConfigError(f"{seen}: give one of the three", hint="for example --set pretrain.minutes=3")
        for name in ("batch_tokens", "micro_batch_tokens", "save_minutes", *given):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name}={value}: must be above 0", hint="mend the recipe")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision={self.precision!r}: not known", hint=f"known: {', '.join(PRECISIONS)}")
        if self.micro_batch_tokens < self.data.context_tokens:
            raise ConfigError(
                f"micro_batch_tokens={self.micro_batch_tokens} is less than one context of {self.data.context_tokens}",
                hint="raise micro_batch_tokens, or lower data.context_tokens",
            )
        if self.batch_tokens < self.micro_batch_tokens:
            raise ConfigError(
                f"batch_tokens={self.batch_tokens} is less than micro_batch_tokens={self.micro_batch_tokens}",
                hint="lower micro_batch_tokens: a step is one micro-batch or more",
            )
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: must not be negative", hint="0 is the default")

    @property
    def rows_per_step(self) -> int:
        """Micro-batches in one optimizer step, over all ranks."""
        return math.ceil(self.batch_tokens / self.micro_batch_tokens)


def _sizes(values: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name} {values[name]}" for name in names)
