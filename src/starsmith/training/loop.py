"""The training loop: a generator of step reports, so that whoever runs it decides what to log, save or evaluate."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from starsmith.model.transformer import Transformer
from starsmith.training.data import Batch
from starsmith.training.loss import cross_entropy_sum
from starsmith.training.optimizer import learning_rate_factor

CLIP_NORM = 1.0  # of the gradient, as StarCoder's


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did."""

    step: int  # from 1
    loss: float  # nats per trained token
    learning_rate_factor: float
    tokens: int  # read so far, this step included
    seconds: float  # since this process began to train


@dataclass
class TrainingState:
    """All that the next step depends on, besides the data."""

    model: Transformer
    optimizers: Sequence[torch.optim.Optimizer]
    step: int = 0
    tokens: int = 0
    peak_rates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peak_rates = [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint from which `load_state_dict` goes on bit for bit."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "tokens": self.tokens,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step, self.tokens = saved["step"], saved["tokens"]


def train(state: TrainingState, data: Iterator[Batch], *, steps: int, accumulate: int) -> Iterator[StepReport]:
    """Train from `state.step` to `steps`; `data` yields micro-batches, `accumulate` of them make a step.

    The batches that the state has already seen are read and thrown away first.
    """
    for _ in range(state.step * accumulate):
        next(data)
    started = time.monotonic()
    state.model.train()
    while state.step < steps:
        micro_batches = [next(data) for _ in range(accumulate)]
        factor = learning_rate_factor(state.step, steps)
        loss = optimizer_step(state, micro_batches, factor)
        state.step += 1
        state.tokens += sum(len(batch.ids) for batch in micro_batches)
        yield StepReport(state.step, loss, factor, state.tokens, time.monotonic() - started)


def optimizer_step(state: TrainingState, micro_batches: Sequence[Batch], factor: float) -> float:
    """One update from the mean loss over all trained tokens of the micro-batches; returns that loss."""
    trained = sum(batch.trained_tokens for batch in micro_batches)
    total = 0.0
    for batch in micro_batches:
        loss = loss_sum(state.model, batch) / max(trained, 1)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), CLIP_NORM)
    peaks = iter(state.peak_rates)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = next(peaks) * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total


def loss_sum(model: Transformer, batch: Batch) -> Tensor:
    """Sum over the trained tokens of their negative log-likelihood, in nats."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(batch.ids).to(device)[None]
    targets = torch.from_numpy(batch.targets).to(device)
    with mixed_precision(device):
        hidden = model.hidden(ids, lengths=batch.lengths).flatten(0, 1)
        weight = model.lm_head.weight
        return cross_entropy_sum(hidden, weight.to(hidden.dtype), targets)


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where the hardware multiplies it faster than float32, which on a CPU takes AVX512-BF16 or AMX."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
