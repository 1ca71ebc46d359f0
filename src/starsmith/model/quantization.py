"""Weights in fewer bits: how they are rounded, how layers compute with them, and how they are kept in a checkpoint.

w8a8  int8 weights, one scale an output; activations are rounded to int8 as they come, one scale a token. A token's row
      is exact integer arithmetic and two factors, so it is the same bits alone and in a batch, and whoever multiplies.
      (One scale for all tokens, as PyTorch's own dynamic quantisation has it, makes an answer depend on its neighbours
      and was 40 times less exact.)
int8  int8 weights, one scale an output; activations stay as they are
int4  4-bit weights, one scale for each GROUP of them, rounded to the nearest of -8 to 7; the output head is as in w8a8

The embedding and the output head are int8 in all three: they are the rows of one matrix where they are tied.

Shapes: M tokens, N outputs, K inputs.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Kind = Literal["w8a8", "int8", "int4"]
KINDS: tuple[Kind, ...] = ("w8a8", "int8", "int4")
GROUP = 64  # weights that share a scale in int4: 4.5 bits a weight in all
LARGEST = 127  # of an int8, the same on both sides of zero
SMALLEST_SCALE = 2.0**-60  # of weights that are all zero
SMALLEST_ACTIVATION = 2.0**-100  # rows without a larger one are zeros: LARGEST over it has to be a float32
FEWEST_ROWS = 17  # that CUDA's product of bytes takes


class QuantizedLinear(nn.Module):
    """A layer whose weights were rounded."""

    weight: Tensor
    weight_scale: Tensor
    weight_sum: Tensor
    bias: Tensor | None

    def __init__(self, kind: Kind, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.kind, self.in_features, self.out_features = kind, inputs, outputs
        for name, (shape, dtype) in layout(kind, inputs, outputs).items():
            self.register_buffer(name, torch.empty(shape, dtype=dtype))
        self.register_buffer("bias", torch.empty(outputs) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) to (..., N), in the type of `x`."""
        x_MK = x.reshape(-1, self.in_features)
        if self.kind == "w8a8":
            out_MN = _multiply_bytes(x_MK.float(), self.weight, self.weight_scale, self.bias)
        else:
            out_MN = self._multiply(x_MK, self.weight, self.weight_scale)
            if self.bias is not None:
                out_MN += self.bias
        return out_MN.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def _multiply(self, x_MK: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """With weights made numbers again for the moment; bfloat16 holds each int8 exactly."""
        if self.kind == "int4":
            dequantized = unpack(weight).sub_(8).view(self.out_features, -1, GROUP) * scale[:, :, None]
            return functional.linear(x_MK.bfloat16(), dequantized.bfloat16().flatten(1)).float()
        return functional.linear(x_MK.bfloat16(), weight.bfloat16()).float() * scale


class QuantizedEmbedding(nn.Module):
    """Rows of an int8 matrix, as float32."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = rows, width
        self.register_buffer("weight", torch.empty((rows, width), dtype=torch.int8))
        self.register_buffer("weight_scale", torch.empty(rows))

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids to (..., H) float32."""
        return self.weight[ids].float() * self.weight_scale[ids][..., None]


def layout(kind: Kind, inputs: int, outputs: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of what a layer's weights become, by the name behind the layer's."""
    if kind == "int4":
        return {
            "weight": ((outputs, inputs // 2), torch.uint8),
            "weight_scale": ((outputs, inputs // GROUP), torch.float32),
        }
    found = {"weight": ((outputs, inputs), torch.int8), "weight_scale": ((outputs,), torch.float32)}
    return {**found, "weight_sum": ((outputs,), torch.int32)} if kind == "w8a8" else found


def rounded(kind: Kind, weight_NK: Tensor) -> dict[str, Tensor]:
    """Weights in the form of `layout`."""
    weight_NK = weight_NK.float()
    if kind == "int4":
        groups = weight_NK.view(len(weight_NK), -1, GROUP)
        scale = _group_scale(groups)
        levels = (groups / scale[:, :, None]).round_().clamp_(-8, 7).add_(8).to(torch.uint8)
        return {"weight": pack(levels.flatten(1)), "weight_scale": scale}
    scale = (weight_NK.abs().amax(1) / LARGEST).clamp_(min=SMALLEST_SCALE)
    levels = (weight_NK / scale[:, None]).round_().clamp_(-LARGEST, LARGEST).to(torch.int8)
    found = {"weight": levels, "weight_scale": scale}
    return {**found, "weight_sum": levels.sum(1, dtype=torch.int32)} if kind == "w8a8" else found


def _group_scale(groups_NGK: Tensor) -> Tensor:
    """(N, G) scales: of some candidates the one with the least squared error.

    The largest number of a group comes to stand at -8 or 7, or a little beyond: rounding off one outlier costs less
    than coarser steps for all the others.
    """
    largest = groups_NGK.gather(2, groups_NGK.abs().argmax(2, keepdim=True))[:, :, 0]
    best, least = torch.empty_like(largest), torch.full_like(largest, torch.inf)
    for level in (-9.0, -8.5, -8.0, -7.5, -7.0):
        scale = largest / level
        scale = torch.where(scale.abs() < SMALLEST_SCALE, SMALLEST_SCALE, scale)
        levels = (groups_NGK / scale[:, :, None]).round_().clamp_(-8, 7)
        error = (levels * scale[:, :, None] - groups_NGK).square_().sum(2)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best


def pack(levels_NK: Tensor) -> Tensor:
    """(N, K) numbers from 0 to 15 to (N, K / 2) bytes.

    Of 128 numbers the first 64 are the lower halves of 64 bytes, the others the upper: two vectors of bytes without
    moving a lane. Where 64 are left over at the end, likewise 32 and 32.
    """
    whole = levels_NK.size(1) // (2 * GROUP) * 2 * GROUP
    parts = [(levels_NK[:, :whole], GROUP), (levels_NK[:, whole:], GROUP // 2)]
    halves = [part.reshape(len(part), -1, 2, width) for part, width in parts]
    return torch.cat([(half[:, :, 0] | (half[:, :, 1] << 4)).flatten(1) for half in halves], 1)


def unpack(packed: Tensor) -> Tensor:
    """The numbers that `pack` packed, as float32."""
    inputs = 2 * packed.size(1)
    whole = inputs // (2 * GROUP) * GROUP
    parts = [(packed[:, :whole], GROUP), (packed[:, whole:], GROUP // 2)]
    halves = [part.reshape(len(part), -1, 1, width) for part, width in parts]
    return torch.cat([torch.cat((half & 15, half >> 4), 2).flatten(1) for half in halves], 1).float()


def _multiply_bytes(x_MK: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """The exact product on any device, with the bits of the kernels."""
    levels_MK, row_scale = to_bytes(x_MK)
    missing = max(FEWEST_ROWS - len(levels_MK), 0) if x_MK.is_cuda else 0
    padded = functional.pad(levels_MK, (0, 0, 0, missing))
    out_MN = torch._int_mm(padded, weight.T)[: len(levels_MK)].float() * scale * row_scale[:, None]
    return out_MN if bias is None else out_MN + bias


def to_bytes(x_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Activations as int8, and (M,) what each row is to be multiplied with; by the same steps as the kernels.

    A row with a number that is none has NaN for its scale, so that its outputs are none either.
    """
    most_M = x_MK.abs().amax(1)
    most_M = torch.where(most_M < SMALLEST_ACTIVATION, 0.0, most_M)
    factor = torch.where(most_M > 0, LARGEST / most_M, 0.0)
    scale = torch.where(most_M.isfinite(), most_M / LARGEST, torch.nan)
    return (x_MK * factor[:, None]).round_().nan_to_num_(0.0).to(torch.int8), scale
