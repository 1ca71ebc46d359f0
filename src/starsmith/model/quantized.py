"""Quantised checkpoints: made from a plain one a layer at a time, kept, and loaded again without being made anew.

The directory is that of any checkpoint, with `quantization_config` in its `config.json` and, for each linear layer,
`weight` (int8, or uint8 with two numbers in a byte), `weight_scale` and, for w8a8, `weight_sum` in its safetensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from starsmith.core import artifact
from starsmith.core.console import progress
from starsmith.core.errors import CheckpointError, ConfigError
from starsmith.model import checkpoint
from starsmith.model.config import QUANTIZED_BY, ModelConfig
from starsmith.model.quantization import GROUP, KINDS, Kind, QuantizedEmbedding, QuantizedLinear, rounded
from starsmith.model.transformer import Transformer

_AGAIN = "make it again with starsmith quantize"


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """One setting: how the weights are rounded."""

    weights: Kind


def run(config: QuantizeConfig, *, model: Path, tokenizer_file: Path, out: Path) -> None:
    """Write a model artefact with the weights of the one in `model`, rounded."""
    with artifact.create(out, kind="model", config=config, rooms=("core", "model"), parents={"base": model}) as draft:
        rounded_model = quantize(model, config.weights)
        save(rounded_model, config.weights, tokenizer_file, draft.path)
        draft.counts["parameters"] = rounded_model.config.parameters


def kind_of(path: Path) -> Kind | None:
    """How a checkpoint directory is quantised; None where it is not."""
    values = checkpoint.read_json(path / checkpoint.CONFIG).get("quantization_config")
    if not isinstance(values, Mapping):
        return None
    wanted = values.get("weights")
    for kind in KINDS:
        if wanted == kind:
            return kind
    raise CheckpointError(f"{path / checkpoint.CONFIG} has weights {wanted!r}, wanted: {', '.join(KINDS)}", hint=_AGAIN)


def quantize(path: Path, kind: Kind) -> Transformer:
    """A plain checkpoint with rounded weights; of the plain ones only a layer's are in memory at a time."""
    weights = checkpoint.Weights(path)
    _check_widths(weights.config, kind)
    model = _empty(weights.config, kind)
    with torch.inference_mode(), progress("rounding weights", total=len(weights.shapes), unit="tensors") as advance:
        for name in weights.shapes:
            owner = model.get_submodule(name.rpartition(".")[0])
            tensor = weights.read(name)
            if name.endswith(".weight") and isinstance(owner, QuantizedLinear | QuantizedEmbedding):
                its_kind = owner.kind if isinstance(owner, QuantizedLinear) else "int8"
                for part, value in rounded(its_kind, tensor).items():
                    setattr(owner, part, value)
            else:
                _put(owner, name.rpartition(".")[2], tensor.float())
            advance()
    return _finished(model)


def load(path: Path) -> Transformer:
    """A checkpoint that `save` wrote."""
    kind = kind_of(path)
    if kind is None:
        raise CheckpointError(f"{path} is not quantised", hint=_AGAIN)
    config = checkpoint.load_config(path)
    model = _empty(config, kind)
    wanted = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in _stored(model).items()}
    with checkpoint.opened(path / checkpoint.WEIGHTS) as file:
        found = set(file.keys())
        if found != set(wanted):
            name = min(found ^ set(wanted))
            raise CheckpointError(f"{path / checkpoint.WEIGHTS} and {checkpoint.CONFIG} differ in {name}", hint=_AGAIN)
        for name, (shape, dtype) in wanted.items():
            tensor = file.get_tensor(name)
            if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                seen = f"{path / checkpoint.WEIGHTS} has {name} of {tuple(tensor.shape)}, {tensor.dtype}"
                raise CheckpointError(f"{seen}, wanted: {shape}, {dtype}", hint=_AGAIN)
            owner, _, part = name.rpartition(".")
            _put(model.get_submodule(owner), part, tensor)
    return _finished(model)


def save(model: Transformer, kind: Kind, tokenizer_file: Path | None, out: Path) -> None:
    """Write the files of a quantised checkpoint into the directory `out`."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_companions(model.config, tokenizer_file, out, dtype=torch.float32)
    config = checkpoint.read_json(out / checkpoint.CONFIG)
    config["quantization_config"] = {"quant_method": QUANTIZED_BY, "weights": kind, "group_size": GROUP}
    (out / checkpoint.CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in _stored(model).items()}
    save_file(tensors, out / checkpoint.WEIGHTS, metadata={"format": "pt"})


def _check_widths(config: ModelConfig, kind: Kind) -> None:
    widths = {"hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size}
    for name, width in widths.items():
        if kind == "int4" and width % GROUP:
            raise ConfigError(f"{name}={width} is no multiple of {GROUP}, the group of int4", hint="take w8a8 or int8")


def _empty(config: ModelConfig, kind: Kind) -> Transformer:
    """The model without numbers, its layers those of the kind."""
    with torch.device("meta"):
        model = Transformer(config)
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear | nn.Embedding):
                    setattr(parent, name, _replacement(child, "w8a8" if name == "lm_head" and kind == "int4" else kind))
    return model


def _replacement(layer: nn.Linear | nn.Embedding, kind: Kind) -> nn.Module:
    if isinstance(layer, nn.Embedding):
        return QuantizedEmbedding(layer.num_embeddings, layer.embedding_dim)
    bias: Tensor | None = layer.bias  # which PyTorch says is always there
    return QuantizedLinear(kind, layer.in_features, layer.out_features, bias=bias is not None)


def _finished(model: Transformer) -> Transformer:
    if model.config.tie_word_embeddings:
        head: nn.Module = model.lm_head
        embedding: nn.Module = model.model.embed_tokens
        assert isinstance(head, QuantizedLinear)
        assert isinstance(embedding, QuantizedEmbedding)
        head.weight, head.weight_scale = embedding.weight, embedding.weight_scale
        if head.kind == "w8a8":
            head.weight_sum = head.weight.sum(1, dtype=torch.int32)
    return model.eval().requires_grad_(False)


def _put(owner: nn.Module, name: str, tensor: Tensor) -> None:
    if name in owner._parameters:
        setattr(owner, name, nn.Parameter(tensor, requires_grad=False))
    else:
        setattr(owner, name, tensor)


def _stored(model: Transformer) -> dict[str, Tensor]:
    """The tensors of the file: a tied head is the embedding and is left out."""
    state: dict[str, Any] = model.state_dict()
    if model.config.tie_word_embeddings:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("lm_head.")}
    return state
