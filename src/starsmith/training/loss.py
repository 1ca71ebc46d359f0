"""Next-token loss straight from the hidden states, so that the logits of a batch never stand in memory as a whole.

The logits are the largest thing a small model makes: 8,192 tokens by 4,096 entries are 134 MB in float32, written,
read and differentiated. Here they are made, used for loss and gradients, and dropped a piece at a time (the idea of
Liger Kernel's fused linear cross-entropy, arXiv 2410.10989). Measured gain on a CPU: see `docs/benchmarks.md`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100  # target that no loss is taken on; torch's default
PIECE_ELEMENTS = 2**22  # logits in memory at once: 16 MB in float32


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and both gradients in one pass over the pieces; backward only scales them."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(weight)
        tokens = max(PIECE_ELEMENTS // weight.size(0), 1)
        for start in range(0, hidden.size(0), tokens):
            piece, wanted = hidden[start : start + tokens], targets[start : start + tokens]
            counted = wanted != IGNORED
            rows = torch.arange(len(wanted), device=wanted.device)[counted]
            logits = (piece @ weight.T).float()
            log_norm = logits.logsumexp(dim=-1, keepdim=True)
            total += (log_norm[rows, 0] - logits[rows, wanted[counted]]).sum()
            gradient = logits.sub_(log_norm).exp_()
            gradient[rows, wanted[counted]] -= 1
            gradient[~counted] = 0
            gradient = gradient.to(hidden.dtype)
            hidden_gradient[start : start + tokens] = gradient @ weight
            weight_gradient.addmm_(gradient.T, piece)
        context.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(context: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_gradient, weight_gradient = context.saved_tensors
        return hidden_gradient * scale, weight_gradient * scale, None


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum of the negative log-likelihoods, in nats, of (N,) targets under the logits hidden @ weight.T.

    hidden   (N, H) states
    weight   (V, H) output head
    targets  (N,) ids, or IGNORED
    """
    if torch.is_grad_enabled():
        loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
        return loss
    pieces = zip(torch.split(hidden, 1024), torch.split(targets, 1024), strict=True)
    losses = [
        functional.cross_entropy((piece @ weight.T).float(), wanted, ignore_index=IGNORED, reduction="sum")
        for piece, wanted in pieces
    ]
    return torch.stack(losses).sum()
