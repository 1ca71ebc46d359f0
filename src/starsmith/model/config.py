"""The StarCoder2 architecture as numbers: Hugging Face's `config.json` in and out, and the published sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from starsmith.core.errors import CheckpointError, ConfigError

ARCHITECTURE, MODEL_TYPE = "Starcoder2ForCausalLM", "starcoder2"
QUANTIZED_BY = "starsmith"  # `quant_method` of the checkpoints that `model.quantized` writes; others are refused
_FIXED = {"hidden_act": "gelu_pytorch_tanh", "mlp_type": "default", "norm_type": "layer_norm"}
_TOKENS = ("bos_token_id", "eos_token_id")
_ABSENT = {"sliding_window": None, "max_position_embeddings": 4096, "rope_theta": 10_000.0}  # as transformers reads it


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Names are those of Hugging Face's Starcoder2Config, so that a checkpoint's file is readable beside the code."""

    vocab_size: int = 49_152
    hidden_size: int = 3072
    intermediate_size: int = 12_288
    num_hidden_layers: int = 30
    num_attention_heads: int = 24
    num_key_value_heads: int = 2  # grouped-query attention
    max_position_embeddings: int = 16_384
    sliding_window: int | None = 4096  # a token sees itself and the window - 1 before it
    rope_theta: float = 100_000.0
    norm_epsilon: float = 1e-5
    initializer_range: float = 0.018042
    use_bias: bool = True
    tie_word_embeddings: bool = True
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    embedding_dropout: float = 0.0
    bos_token_id: int = 0
    eos_token_id: int = 0

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.hidden_size, self.num_hidden_layers, self.num_key_value_heads) < 1:
            raise ConfigError("sizes of a model must be at least 1", hint="mend the recipe or config.json")
        if self.hidden_size % self.num_attention_heads or self.head_dim % 2:
            raise ConfigError(
                f"hidden_size={self.hidden_size} does not divide into {self.num_attention_heads} heads of even width",
                hint="StarCoder2 has heads of 128",
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"{self.num_attention_heads} heads cannot share {self.num_key_value_heads} key/value heads evenly",
                hint="choose a divisor of the heads",
            )
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ConfigError(f"sliding_window={self.sliding_window}: must be at least 1", hint="or leave it out")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def parameters(self) -> int:
        """Trained numbers, a tied output head counted once."""
        h, i, kv = self.hidden_size, self.intermediate_size, self.num_key_value_heads * self.head_dim
        matrices = 2 * h * h + 2 * h * kv + 2 * h * i
        biases = (2 * h + 2 * kv + i + h) if self.use_bias else 0
        layer = matrices + biases + 4 * h  # two norms, each weight and bias
        embeddings = self.vocab_size * h * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.num_hidden_layers * layer + 2 * h

    @property
    def matrix_parameters(self) -> int:
        """Weights that each token is multiplied with: no embedding look-up, biases or norms; a tied head counts."""
        h, i, kv = self.hidden_size, self.intermediate_size, self.num_key_value_heads * self.head_dim
        return self.num_hidden_layers * (2 * h * h + 2 * h * kv + 2 * h * i) + self.vocab_size * h

    def seen_tokens(self, context_tokens: int) -> float:
        """Positions that one attends to, itself among them, on average over a sequence of `context_tokens`."""
        window = min(self.sliding_window or context_tokens, context_tokens)
        return (window * (window + 1) / 2 + (context_tokens - window) * window) / context_tokens

    def flops_per_token(self, context_tokens: int) -> float:
        """Floating-point operations to train on one token of sequences of this length.

        Six for each weight (two forward, four backward), and as many for each product of a query or an attention
        weight with a position seen: 6 N + 12 L H S. This is the count of Chowdhery et al. 2022 (PaLM, arXiv
        2204.02311, appendix B), with S, the positions seen, counted under the causal mask and the sliding window
        instead of the whole sequence. Recomputation for activation checkpointing is not in it.
        """
        attention = 12 * self.num_hidden_layers * self.hidden_size * self.seen_tokens(context_tokens)
        return 6 * self.matrix_parameters + attention

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str) -> "ModelConfig":
        """Read a `config.json` of any transformers version; another architecture is refused by name."""
        if values.get("model_type") != MODEL_TYPE:
            raise CheckpointError(
                f"{where} describes a {values.get('model_type')!r} model, not {MODEL_TYPE!r}",
                hint="give a StarCoder2 checkpoint, or one that starsmith wrote",
            )
        _check_variants(values, where)
        found = {key: value for key, value in values.items() if not (key in _TOKENS and value is None)}
        rope = values.get("rope_parameters")
        if "rope_theta" not in found and isinstance(rope, Mapping):  # transformers 5 moved it
            found["rope_theta"] = rope.get("rope_theta")
        known = {
            field.name: _checked(field.name, field.type, found, where) for field in fields(cls) if field.name in found
        }
        missing = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"} - set(known)
        if missing:
            raise CheckpointError(f"{where} has no {', '.join(sorted(missing))}", hint="restore the file")
        for name, value in _ABSENT.items():
            known.setdefault(name, value)
        try:
            return cls(**known)
        except ConfigError as error:
            raise CheckpointError(f"{where}: {error.message}", hint=error.hint) from None

    def to_json(self, *, dtype: str = "float32") -> dict[str, Any]:
        """Every key that readers old and new look for: transformers' own defaults are not StarCoder2's."""
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            **{field.name: getattr(self, field.name) for field in fields(self)},
            **_FIXED,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "dtype": dtype,
            "torch_dtype": dtype,
            "use_cache": True,
        }


def _check_variants(values: Mapping[str, Any], where: str) -> None:
    """Refuse what would be another function with the same tensors."""
    for name, wanted in _FIXED.items():
        if values.get(name, wanted) != wanted:
            raise CheckpointError(
                f"{where} has {name} {values[name]!r}, not {wanted!r}", hint="no published StarCoder2 has another"
            )
    for name in ("rope_scaling", "rope_parameters"):
        rope = values.get(name)
        kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, Mapping) else "default"
        if kind != "default":
            raise CheckpointError(
                f"{where} has {name} of type {kind!r}; positions are not scaled here",
                hint="give the checkpoint from before its context was stretched",
            )
    quantized = values.get("quantization_config")
    if quantized is not None and not (isinstance(quantized, Mapping) and quantized.get("quant_method") == QUANTIZED_BY):
        raise CheckpointError(
            f"{where} has a quantization_config: its weights are not plain numbers",
            hint="give the checkpoint from before it was quantized",
        )


def _checked(name: str, kind: Any, values: Mapping[str, Any], where: str) -> Any:
    value = values[name]
    if name == "sliding_window" and value is None:
        return None
    if kind is bool:
        good = isinstance(value, bool)
    elif kind is float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        good = isinstance(value, int) and not isinstance(value, bool)
    if not good:
        raise CheckpointError(f"{where} has {name} = {value!r}, which is no {kind}", hint="restore the file")
    return float(value) if kind is float else value


_3B = ModelConfig(rope_theta=999_999.4420358813)  # the published value, rounding included

PRESETS = {
    "starcoder2-3b": _3B,
    "starcoder2-7b": replace(
        _3B,
        hidden_size=4608,
        intermediate_size=18_432,
        num_hidden_layers=32,
        num_attention_heads=36,
        num_key_value_heads=4,
        rope_theta=1_000_000.0,
    ),
    "starcoder2-15b": replace(
        _3B,
        hidden_size=6144,
        intermediate_size=24_576,
        num_hidden_layers=40,
        num_attention_heads=48,
        num_key_value_heads=4,
        rope_theta=100_000.0,
        initializer_range=0.01275,
        tie_word_embeddings=False,
    ),
}
