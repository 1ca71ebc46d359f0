"""A matrix of bytes and its exact products with tokens' bytes, by the processor's tiles or else by PyTorch.

Shapes: G groups of LANES tokens, an even number of them; N outputs, K inputs. The order of bytes and sums is that of
`model.kernels.columns`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from starsmith.model.kernels import tiles
from starsmith.model.kernels.lane_code import WORD
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.native import Row
from starsmith.model.kernels.tables import Floats, Levels

PAIR = 2  # groups that are multiplied at once


@dataclass(frozen=True)
class Matrix:
    """int8 weights with a scale for each output, and a bias (zeros, where the layer has none)."""

    weight: Levels  # (N, K)
    scale: Floats  # (N,)
    bias: Floats
    in_tiles: bool

    @classmethod
    def of(cls, layer: Any) -> "Matrix":
        """Of a `QuantizedLinear`, whose memory it shares."""
        weight, scale = layer.weight.numpy(), layer.weight_scale.numpy()
        bias = np.zeros_like(scale) if layer.bias is None else layer.bias.numpy()
        return cls(weight, scale, bias, tiles.is_available() and tiles.fits(*weight.shape))

    @property
    def outputs(self) -> int:
        """N"""
        return len(self.weight)

    @property
    def inputs(self) -> int:
        """K"""
        return int(self.weight.shape[1])

    @property
    def factors_at(self) -> tuple[int, int]:
        """Addresses of scale and bias."""
        return self.scale.ctypes.data, self.bias.ctypes.data

    def products(self, packed: int, groups: int, sums: int, part: slice) -> list[Row]:
        """What a program does to multiply in tiles; of addresses, see `multiply`."""
        start, stop, _ = part.indices(self.outputs)
        if start == stop:
            return []
        weights, out = self.weight.ctypes.data + start * self.inputs, sums + start * LANES * 4
        return tiles.products(weights, self.inputs, stop - start, packed, groups, out, self.outputs * LANES * 4)

    def multiply(self, packed: Levels, groups: int, sums: NDArray[np.int32], part: slice) -> None:
        """Sums of the outputs in `part`, which is as `part_of` says, to their places among those of all N.

        By PyTorch: both factors and the outcome as rows, which is a few copies more.
        """
        if len(self.weight[part]) == 0:
            return
        words = packed[: groups * LANES * self.inputs].reshape(groups, self.inputs // WORD, LANES, WORD)
        levels_MK = torch.from_numpy(words.transpose(0, 2, 1, 3).reshape(-1, self.inputs))
        exact_MN = torch._int_mm(levels_MK, torch.from_numpy(self.weight[part]).T).numpy()
        out_GNL = sums[: groups * self.outputs * LANES].reshape(groups, self.outputs, LANES)
        out_GNL[:, part] = exact_MN.reshape(groups, LANES, -1).transpose(0, 2, 1)


def part_of(outputs: int, number: int, shares: int) -> slice:
    """The outputs that are one thread's of several: whole tiles, and the last has what is left over."""
    whole = max(outputs // tiles.AT_ONCE, 1)
    start, stop = (whole * place // shares * tiles.AT_ONCE for place in (number, number + 1))
    return slice(start, outputs if number + 1 == shares else stop)
