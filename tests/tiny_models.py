"""Small models whose every number is random, so that a bias or a norm that is left out shows."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from starsmith.model import checkpoint, quantized
from starsmith.model.config import ModelConfig
from starsmith.model.kv_cache import BlockPool
from starsmith.model.quantization import KINDS, to_bytes, unpack
from starsmith.model.transformer import Transformer

BLOCKS = 12  # of a pool
VOCABULARY = 99  # no multiple of what the kernels take at once


def random_model(seed: int = 0, **settings: object) -> Transformer:
    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "sliding_window": None,
        **settings,
    }
    model = Transformer(ModelConfig(**values))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        spread, middle = (0.1, 1.0) if "norm.weight" in name else (0.2, 0.0)
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread + middle
    model.tie_weights()
    return model.eval().requires_grad_(False)


def of_kind(kind: str, path: Path, **settings: object) -> tuple[Transformer, Transformer]:
    """A model with its weights in a form, and one that computes the same in float32, by plain means."""
    plain = random_model(**settings)
    checkpoint.save(plain, None, path)
    model = quantized.quantize(path, kind) if kind in KINDS else plain.to(getattr(torch, kind))  # type: ignore[arg-type]
    reference = random_model(**settings)
    with torch.inference_mode():
        for name, module in list(reference.named_modules()):
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight = nn.Parameter(numbers(model.get_submodule(name)), requires_grad=False)
            for part, value in model.get_submodule(name).state_dict().items():
                if "." not in part and part != "weight" and hasattr(module, part):
                    getattr(module, part).data = value.float()
            if isinstance(module, nn.Linear) and kind in ("w8a8", "int4"):
                parent, _, own = name.rpartition(".")
                setattr(reference.get_submodule(parent), own, Rounding(module))
    for name, module in reference.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.load_state_dict({k: v.float() for k, v in model.get_submodule(name).state_dict().items()})
    return model, reference


class Rounding(nn.Module):
    """A layer that rounds what it is given to bytes, and computes with what those stand for."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        levels, scale = to_bytes(x.flatten(0, -2))
        seen = (levels.double() * scale[:, None].double()).view(x.shape)
        bias = None if self.bias is None else self.bias.double()
        return functional.linear(seen, self.weight.double(), bias).float()


def numbers(layer: nn.Module) -> Tensor:
    """The weights that a layer's numbers stand for."""
    weight, scale = layer.weight, getattr(layer, "weight_scale", None)
    assert isinstance(weight, Tensor)
    if scale is None:
        return weight.float()
    if weight.dtype == torch.uint8:
        levels = unpack(weight) - 8
        return (levels.view(len(levels), -1, 64) * scale[:, :, None]).flatten(1)
    return weight.float() * scale[:, None]


def pool_of(model: Transformer, dtype: torch.dtype = torch.float32) -> BlockPool:
    """With the traces of a request that failed."""
    pool = BlockPool(model.config, blocks=BLOCKS, dtype=dtype)
    pool.keys.fill_(torch.nan)
    pool.values.fill_(torch.nan)
    return pool


def random_ids(count: int, seed: int = 0) -> list[int]:
    """Of the small models' vocabulary."""
    return torch.randint(VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def assert_near(seen: Tensor, wanted: Tensor, tolerance: float) -> None:
    """No row differs by more than such a part of its length."""
    assert seen.shape == wanted.shape
    worst = ((seen.float() - wanted.float()).norm(dim=-1) / wanted.float().norm(dim=-1)).max().item()
    assert worst < tolerance, worst
