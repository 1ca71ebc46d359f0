"""Keys and values of the tokens a model has already read, so that each new token costs one position."""

import torch
from torch import Tensor

from starsmith.model.config import ModelConfig


class KVCache:
    """Room for `capacity` positions in every layer, allocated once. Positions from `length` on are free."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        capacity: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.num_hidden_layers, batch, config.num_key_value_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)  # (L, B, G, C, D)
        self.values = torch.zeros(shape, dtype=dtype, device=device)  # (L, B, G, C, D)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self.keys.size(3)

    def append(self, layer: int, k_BGTD: Tensor, v_BGTD: Tensor) -> tuple[Tensor, Tensor]:
        """Store new positions of one layer; returns its keys and values of all positions up to and with them.

        `length` is moved by `advance` once all layers have stored theirs.
        """
        end = self.length + k_BGTD.size(2)
        self.keys[layer, :, :, self.length : end] = k_BGTD
        self.values[layer, :, :, self.length : end] = v_BGTD
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, positions: int) -> None:
        """Count positions that every layer has stored."""
        self.length += positions

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        self.length = min(self.length, length)
