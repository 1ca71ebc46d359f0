"""Muon for the hidden matrices and AdamW for the rest, or AdamW alone as in the paper."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from starsmith.core.errors import ConfigError
from starsmith.training.muon import Muon
from starsmith.training.parallel import own_parameters

ADAM_EPSILON = 1e-8  # StarCoder's


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Measured on a 1.2M-parameter model, Muon needs far fewer tokens than AdamW for one loss (docs/benchmarks.md)."""

    learning_rate: float = 3e-3  # AdamW's peak
    matrix_learning_rate: float | None = 0.02  # Muon's peak; None trains all with AdamW, as the paper did
    weight_decay: float = 0.1  # of AdamW's matrices and embeddings, not of norms and biases
    matrix_weight_decay: float = 0.0  # of Muon's matrices
    betas: tuple[float, ...] = (0.9, 0.95)  # AdamW's; StarCoder's values
    clip_norm: float = 1.0  # of the gradient of all weights together; StarCoder's value
    z_loss: float = 0.0  # weight of log(Z)^2, which keeps logits from drifting; PaLM has 1e-4 (arXiv 2204.02311)
    averaging: float | None = None  # decay of a moving average of the weights, for example 0.999; it is what is written

    def __post_init__(self) -> None:
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"betas={list(self.betas)}: two numbers from 0 to below 1", hint="StarCoder's: [0.9, 0.95]"
            )
        if self.learning_rate <= 0 or (self.matrix_learning_rate is not None and self.matrix_learning_rate <= 0):
            raise ConfigError(
                f"learning_rate={self.learning_rate}, matrix_learning_rate={self.matrix_learning_rate}: "
                "must be above 0",
                hint='to train all with AdamW: matrix_learning_rate = "none"',
            )
        if self.averaging is not None and not 0 < self.averaging < 1:
            raise ConfigError(f"averaging={self.averaging}: a decay lies between 0 and 1", hint="for example 0.999")
        if min(self.weight_decay, self.matrix_weight_decay, self.z_loss) < 0 or self.clip_norm <= 0:
            raise ConfigError(
                f"weight_decay={self.weight_decay}, matrix_weight_decay={self.matrix_weight_decay}, "
                f"z_loss={self.z_loss}, clip_norm={self.clip_norm}: none may be negative, the norm not 0",
                hint="mend the recipe",
            )


def build_optimizers(
    model: nn.Module, config: OptimizerConfig, *, group: dist.ProcessGroup | None = None
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon after it unless `matrix_learning_rate` is None.

    group  the ranks that hold one copy of a sharded model, as `Ranks.copy_group`
    """
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in own_parameters(model).items():
        if config.matrix_learning_rate is not None and parameter.ndim == 2 and ".layers." in name:
            matrices.append(parameter)
        else:
            (decayed if parameter.ndim == 2 else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    first, second = config.betas
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(first, second), eps=ADAM_EPSILON, fused=True)
    ]
    if config.matrix_learning_rate is not None and matrices:
        rate, decay = config.matrix_learning_rate, config.matrix_weight_decay
        optimizers.append(Muon(matrices, lr=rate, weight_decay=decay, group=group))
    return optimizers
