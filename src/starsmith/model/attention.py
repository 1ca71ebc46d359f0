"""Causal attention within a sliding window, for a batch of rows or for documents packed into one row.

Packed documents never see one another. There are three ways to do that, equal in outcome:

loop    each document by itself, those of one length together: on a CPU half the time of one masked call
varlen  one call of a flash kernel that is told where documents begin (Dao et al. 2022, arXiv 2205.14135), on GPUs
flex    FlexAttention (Dong et al. 2024, arXiv 2412.05496) over blocks of a mask, where a GPU has no such kernel

The kernels of `varlen` and `flex` exist on GPUs only. The tests check the mask of `flex` with its slow form and the
call of `varlen` against torch's signature; neither kernel has been run by them.

Shapes: B batch, T new positions, S positions seen, A heads, G key/value heads, D head width, N documents.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Way = Literal["loop", "varlen", "flex"]

VARLEN_CAPABILITY = (8, 0)  # Ampere: what the flash kernels are compiled for
FLEX_CAPABILITY = (7, 0)  # Volta: what Triton compiles for
WIDEST_VARLEN_HEAD, NARROWEST_FLEX_HEAD = 256, 16


@dataclass(frozen=True, eq=False)
class Packing:
    """Documents one after the other in one row, and what the chosen way wants to know; made once for all layers."""

    lengths: tuple[int, ...]
    way: Way
    starts: Tensor | None = None  # (N + 1,) int32, the row's length last; for varlen
    blocks: "BlockMask | None" = None  # for flex


def choose_way(
    device: str, dtype: torch.dtype, *, head_dim: int, capability: tuple[int, int] | None, dropout: float = 0.0
) -> Way:
    """The fastest way that a device can go.

    device      type of the device: "cpu", "cuda", ...
    capability  CUDA's number for what a GPU can do; None for other devices
    dropout     of the attention's weights, which only the loop can do
    """
    if device != "cuda" or capability is None or dropout > 0:
        return "loop"
    is_half = dtype in (torch.float16, torch.bfloat16)
    if is_half and capability >= VARLEN_CAPABILITY and head_dim % 8 == 0 and head_dim <= WIDEST_VARLEN_HEAD:
        return "varlen"
    return "flex" if capability >= FLEX_CAPABILITY and head_dim >= NARROWEST_FLEX_HEAD else "loop"


def way_for(x: Tensor, *, head_dim: int, dropout: float) -> Way:
    """`choose_way` for the device and type in which a layer with the input `x` computes."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    capability = torch.cuda.get_device_capability(x.device) if device == "cuda" else None
    return choose_way(device, dtype, head_dim=head_dim, capability=capability, dropout=dropout)


def pack(lengths: Sequence[int], way: Way, *, window: int | None, device: torch.device) -> Packing:
    """What all layers need to know of documents of these lengths."""
    if way == "loop":
        return Packing(tuple(lengths), way)
    starts = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
    if way == "varlen":
        return Packing(tuple(lengths), way, starts=starts)
    return Packing(tuple(lengths), way, blocks=_blocks(starts, sum(lengths), window))


def attend_packed(
    q_BATD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, packing: Packing, *, window: int | None, dropout: float = 0.0
) -> Tensor:
    """Causal attention within each document of a row (B = 1).

    Under autocast queries and keys come out of the rotation in float32, and the kernels want one type.
    """
    if packing.way == "varlen":
        return _varlen(q_BATD.to(v_BGTD.dtype), k_BGTD.to(v_BGTD.dtype), v_BGTD, packing, window)
    if packing.way == "flex":
        q_BATD, k_BGTD = q_BATD.to(v_BGTD.dtype), k_BGTD.to(v_BGTD.dtype)
        out_BATD: Tensor = _compiled_flex()(q_BATD, k_BGTD, v_BGTD, block_mask=packing.blocks, enable_gqa=True)
        return out_BATD
    return _loop(q_BATD, k_BGTD, v_BGTD, packing.lengths, window, dropout)


def attend(q_BATD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, *, window: int | None, dropout: float = 0.0) -> Tensor:
    """Causal attention of the last T of S positions."""
    new, seen = q_BATD.size(2), k_BGSD.size(2)
    if new == 1 and not torch.is_grad_enabled():
        return _attend_once(q_BATD, k_BGSD, v_BGSD, window)
    groups = q_BATD.size(1) // k_BGSD.size(1)
    if groups > 1:
        k_BGSD, v_BGSD = k_BGSD.repeat_interleave(groups, 1), v_BGSD.repeat_interleave(groups, 1)
    causal = new == seen and (window is None or seen <= window)
    mask = None if causal else _mask(new, seen, window, q_BATD.device)
    return functional.scaled_dot_product_attention(
        q_BATD, k_BGSD, v_BGSD, attn_mask=mask, is_causal=causal, dropout_p=dropout
    )


def _attend_once(q_BATD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, window: int | None) -> Tensor:
    """One new position: plain products, several times faster on a CPU than the general kernel."""
    if window is not None:
        k_BGSD, v_BGSD = k_BGSD[:, :, -window:], v_BGSD[:, :, -window:]
    head_dim = q_BATD.size(-1)
    q_BGAD = q_BATD.reshape(q_BATD.size(0), k_BGSD.size(1), -1, head_dim)
    scores = (q_BGAD @ k_BGSD.mT).float() * head_dim**-0.5
    out_BGAD: Tensor = scores.softmax(-1).to(v_BGSD.dtype) @ v_BGSD
    return out_BGAD.reshape(q_BATD.shape)


def _mask(new: int, seen: int, window: int | None, device: torch.device) -> Tensor:
    """(T, S) True where a position may look: at itself and the window - 1 before it (0 <= i - j < window)."""
    i = torch.arange(seen - new, seen, device=device)[:, None]
    j = torch.arange(seen, device=device)[None, :]
    allowed = j <= i
    if window is not None:
        allowed &= i - j < window
    return allowed


def _loop(
    q_BATD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, lengths: Sequence[int], window: int | None, dropout: float
) -> Tensor:
    parts: list[Tensor] = [q_BATD] * len(lengths)
    splits = [torch.split(tensor, list(lengths), dim=2) for tensor in (q_BATD, k_BGTD, v_BGTD)]
    for members in _by_length(lengths):
        q, k, v = (torch.cat([split[member] for member in members]) for split in splits)
        together = attend(q, k, v, window=window, dropout=dropout)
        for member, out in zip(members, torch.split(together, 1), strict=True):
            parts[member] = out
    return torch.cat(parts, dim=2)


def _by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of the documents, grouped by equal length."""
    groups: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        groups.setdefault(length, []).append(position)
    yield from groups.values()


def _varlen(q_BATD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, packing: Packing, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    arguments, named = varlen_call(q_BATD, k_BGTD, v_BGTD, packing, window)
    out_TAD = varlen_attn(*arguments, **named)
    assert isinstance(out_TAD, Tensor)  # without `return_aux`
    return out_TAD.transpose(0, 1)[None]


def varlen_call(
    q_BATD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, packing: Packing, window: int | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of torch's `varlen_attn`: (T, heads, D) tensors, and a window that the token itself is not in."""
    q_TAD, k_TGD, v_TGD = (tensor[0].transpose(0, 1) for tensor in (q_BATD, k_BGTD, v_BGTD))
    longest = max(packing.lengths)
    left = -1 if window is None else window - 1
    named = {"window_size": (left, 0), "enable_gqa": q_TAD.size(1) != k_TGD.size(1)}
    return (q_TAD, k_TGD, v_TGD, packing.starts, packing.starts, longest, longest), named


def _blocks(starts: Tensor, total: int, window: int | None) -> "BlockMask":
    from torch.nn.attention.flex_attention import create_block_mask

    positions = torch.arange(total, dtype=torch.int32, device=starts.device)
    document = torch.searchsorted(starts, positions, right=True)

    def allowed(_batch: Tensor, _head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        near = (j <= i) & (document[i] == document[j])
        return near if window is None else near & (i - j < window)

    return create_block_mask(allowed, None, None, total, total, device=starts.device)


@cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)
