"""A checkpoint directory becomes a runner: its weights in the wanted form, and room for keys and values.

Short steps go to the compiled kernel and long pieces of a prompt to matrix products, by a fixed number of tokens. It
would be possible to time both at each start; but they round differently, and a text must not depend on how busy a
machine was when its server started. `starsmith quantize` and `benchmarks/engine.py` measure what is gained.
"""

from pathlib import Path
from typing import Literal, get_args

import torch

from starsmith.core.errors import ConfigError
from starsmith.inference.compiled import CompiledRunner
from starsmith.inference.plan import is_supported
from starsmith.inference.runner import Runner, TorchRunner
from starsmith.model import checkpoint, quantized
from starsmith.model.kv_cache import BlockPool, blocks_for
from starsmith.model.quantization import KINDS
from starsmith.model.transformer import Transformer

Weights = Literal["auto", "float32", "bfloat16", "w8a8", "int8", "int4"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)
DEFAULT_CONTEXTS = 2  # that the blocks hold: the text that is asked about, and what was read before


def open_model(path: Path, weights: Weights = "auto", *, device: str | None = None) -> Transformer:
    """A model of a checkpoint directory; `auto` takes the weights as they are stored."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    stored = quantized.kind_of(path)
    if stored is not None:
        if weights not in ("auto", stored):
            raise ConfigError(
                f"{path} is quantised to {stored}, so it cannot be read as {weights}",
                hint="give the checkpoint from before it was quantised",
            )
        return quantized.load(path).to(device)
    if weights in KINDS:
        return quantized.quantize(path, weights).to(device)
    dtype = checkpoint.Weights(path).dtype if weights == "auto" else getattr(torch, weights)
    if dtype == torch.float16 and device == "cpu":  # which no processor multiplies fast, and bfloat16 would round
        dtype = torch.float32
    return checkpoint.load(path, dtype=dtype, device=device)


def runner_for(model: Transformer, *, kv_tokens: int | None = None) -> Runner:
    """A runner with room for the keys and values of so many tokens; None: of two contexts.

    They are kept in the type of the weights, beside quantised ones in bfloat16.
    """
    weight = model.lm_head.weight
    dtype = weight.dtype if weight.is_floating_point() else torch.bfloat16
    tokens = kv_tokens or DEFAULT_CONTEXTS * model.config.max_position_embeddings
    pool = BlockPool(model.config, blocks=blocks_for(tokens), dtype=dtype, device=weight.device)
    return CompiledRunner(model, pool) if is_supported(model, pool) else TorchRunner(model, pool)


def open_runner(
    path: Path, weights: Weights = "auto", *, kv_tokens: int | None = None, device: str | None = None
) -> Runner:
    """`open_model` and `runner_for` in one."""
    return runner_for(open_model(path, weights, device=device), kv_tokens=kv_tokens)
