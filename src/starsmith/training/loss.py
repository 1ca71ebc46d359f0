"""Next-token loss straight from the hidden states, so that the logits of a batch never stand in memory as a whole.

The logits are the largest thing a small model makes: 8,192 tokens by 4,096 entries are 134 MB in float32, written,
read and differentiated. Here they are made, used for loss and gradients, and dropped a piece at a time (the idea of
Liger Kernel's fused linear cross-entropy, arXiv 2410.10989). Measured gain on a CPU: see `docs/benchmarks.md`.

The same pass gives the loss of every token, for curves by language and kind, and if asked for the z-loss: a small
multiple of the squared logarithm of the softmax's denominator, which keeps the logits from drifting (PaLM, Chowdhery
et al. 2022, arXiv 2204.02311, section 5; ST-MoE, Zoph et al. 2022, arXiv 2202.08906).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100  # target that no loss is taken on; torch's default
PIECE_ELEMENTS = 2**22  # logits in memory at once: 16 MB in float32, for a CPU's cache
GPU_PIECE_ELEMENTS = 2**27  # the same on a GPU, which wants large products: 512 MB


class Losses(NamedTuple):
    """What a batch's targets cost."""

    objective: Tensor  # () sum over the targets, z-loss included: what gradients come from
    nats: Tensor  # (N,) each target's negative log-likelihood, 0 where ignored; float32, without gradient


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and both gradients in one pass over the pieces; backward only scales them."""

    @staticmethod
    def forward(
        context: Any, hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float, with_gradients: bool
    ) -> tuple[Tensor, Tensor]:
        objective = torch.zeros((), dtype=torch.float32, device=hidden.device)
        nats = torch.zeros(hidden.size(0), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if with_gradients else None
        weight_gradient = torch.zeros_like(weight, dtype=_sum_type(weight)) if with_gradients else None
        for start in range(0, hidden.size(0), size := _piece(weight)):
            piece, wanted = hidden[start : start + size], targets[start : start + size]
            counted = (wanted != IGNORED)[:, None]
            wanted = wanted.clamp(min=0)[:, None]
            logits = (piece @ weight.T).float()
            log_norm = logits.logsumexp(dim=-1, keepdim=True)
            # Computed first and then left out, never picked: picking waits for a GPU to have counted.
            cost = torch.where(counted, log_norm - logits.gather(1, wanted), 0)
            nats[start : start + size] = cost[:, 0]
            objective += cost.sum()
            if z_loss:
                objective += z_loss * torch.where(counted, log_norm.square(), 0).sum()
            if hidden_gradient is not None and weight_gradient is not None:
                gradient = _logit_gradient(logits, log_norm, wanted, counted, z_loss).to(hidden.dtype)
                hidden_gradient[start : start + size] = gradient @ weight
                if weight_gradient.dtype == weight.dtype:
                    weight_gradient.addmm_(gradient.T, piece)
                else:
                    weight_gradient += gradient.T @ piece
        if weight_gradient is not None:
            context.save_for_backward(hidden_gradient, weight_gradient.to(weight.dtype))
        context.mark_non_differentiable(nats)
        return objective, nats

    @staticmethod
    def backward(context: Any, scale: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, weight_gradient = context.saved_tensors
        return hidden_gradient * scale, weight_gradient * scale, None, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, z_loss: float = 0.0) -> Losses:
    """Losses, in nats, of (N,) targets under the logits hidden @ weight.T.

    hidden   (N, H) states
    weight   (V, H) output head
    targets  (N,) ids, or IGNORED
    z_loss   coefficient of the square of each target's log-sum-exp; PaLM's is 1e-4
    """
    return Losses(*_LinearCrossEntropy.apply(hidden, weight, targets, z_loss, torch.is_grad_enabled()))  # type: ignore[no-untyped-call]


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The sum of the losses alone; see `linear_cross_entropy`."""
    return linear_cross_entropy(hidden, weight, targets).objective


def _logit_gradient(logits: Tensor, log_norm: Tensor, wanted: Tensor, counted: Tensor, z_loss: float) -> Tensor:
    """Softmax less the target, and softmax by 2 z log-sum-exp of the z-loss; overwrites the logits."""
    gradient = logits.sub_(log_norm).exp_()
    if z_loss:
        gradient *= 1 + 2 * z_loss * log_norm
    gradient.scatter_add_(1, wanted, torch.full_like(log_norm, -1.0))
    return gradient.mul_(counted)


def _sum_type(weight: Tensor) -> torch.dtype:
    """What the gradient is summed over the pieces in: float32 at least, or late pieces would be rounded away."""
    return torch.promote_types(weight.dtype, torch.float32)


def _piece(weight: Tensor) -> int:
    """Positions whose logits are made at once."""
    elements = GPU_PIECE_ELEMENTS if weight.is_cuda else PIECE_ELEMENTS
    return max(elements // weight.size(0), 1)
