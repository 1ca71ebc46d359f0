"""Muon for the hidden matrices and AdamW for the rest, with the warm-up-stable-decay schedule.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by its
nearest orthogonal matrix, found by five Newton-Schulz steps. Measured on a 1.2M-parameter model it needs far fewer
tokens than AdamW for the same loss (`docs/benchmarks.md`). Embeddings, norms and biases stay with AdamW.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

WARMUP_SHARE = 0.03  # of the steps
DECAY_SHARE = 0.4  # of the steps, linear to zero: the WSD schedule of Hu et al. 2024, arXiv 2404.06395
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.95), 1e-8  # StarCoder's

# Quintic iteration tuned for speed over exactness: singular values end between about 0.7 and 1.2 (Jordan et al.).
_NEWTON_SCHULZ, _NEWTON_SCHULZ_STEPS = (3.4445, -4.7750, 2.0315), 5


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the peak learning rate at `step` of `steps`, counted from 0."""
    warmup, decay = max(round(steps * WARMUP_SHARE), 1), max(round(steps * DECAY_SHARE), 1)
    return min((step + 1) / warmup, 1.0, (steps - step) / decay)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the row and column spaces of (K, R, C) `matrices`, all K at once."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: Tensor = x.mT if tall else x
    return found


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized. Parameters are 2-D; equal shapes are stacked, so small models pay few calls."""

    def __init__(self, params: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 the base class has it
        """Update every matrix from its gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for (rows, columns), parameters in shapes.items():
                updates = orthogonalize(torch.stack([self._momentum(p, group["momentum"]) for p in parameters]))
                # A unit step in the spectral norm must move the outputs of tall matrices as much as of square ones.
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.sub_(update, alpha=scale)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov momentum of one matrix."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def build_optimizers(
    model: nn.Module, *, learning_rate: float, matrix_learning_rate: float | None, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW alone when `matrix_learning_rate` is None, as in the paper; else Muon for the matrices of the layers.

    Weight decay is on matrices and embeddings only, not on norms and biases.
    """
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if matrix_learning_rate is not None and parameter.ndim == 2 and ".layers." in name:
            matrices.append(parameter)
        else:
            (decayed if parameter.ndim == 2 else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=learning_rate, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True)
    ]
    if matrix_learning_rate is not None and matrices:
        optimizers.append(Muon(matrices, lr=matrix_learning_rate))
    return optimizers
