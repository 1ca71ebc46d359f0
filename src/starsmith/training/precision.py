"""In which number format the matrices are multiplied; weights and optimizer states stay in float32."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from starsmith.core.errors import ConfigError


def mixed_precision(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Autocast to what `precision` says; `auto` is bfloat16 where the hardware multiplies it faster than float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=compute_type(device, precision) is not None)


def compute_type(device: torch.device, precision: str) -> torch.dtype | None:
    """What sharded weights are turned into for the forward and backward pass; None leaves them as they are."""
    low = precision in ("bfloat16", "float8") or (precision == "auto" and _multiplies_bfloat16(device))
    return torch.bfloat16 if low else None


def use_float8(model: nn.Module, device: torch.device) -> None:
    """Make the layers' matrices multiply in float8 (torchao, tensor-wise scales); the output head stays as it is."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise ConfigError(
            "precision='float8' needs a GPU that multiplies it: NVIDIA's Ada, Hopper or later",
            hint="use precision = 'bfloat16'",
        )
    try:
        from torchao.float8 import convert_to_float8_training
    except ImportError:
        raise ConfigError(
            "precision='float8' needs the package torchao", hint="pip install 'starsmith[float8]'"
        ) from None
    convert_to_float8_training(model, module_filter_fn=lambda _, name: ".layers." in name)


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # On a CPU that takes AVX512-BF16 or AMX.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
