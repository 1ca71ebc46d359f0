"""An exponential moving average of the weights, as a smoother model at no cost in learning rate.

(Polyak averaging; of language models, for example, Kaddour 2022, arXiv 2209.14981.) It is kept in float32, or in the
weights' own type where that is wider, and on many ranks it is sharded as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of a model's parameters, bias-free from the first step on."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = dict(model.named_parameters())
        self._decay = decay
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in self._parameters.items()}
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step. Early on the mean of all so far, so that the start is soon forgotten."""
        self.steps += 1
        weight = max(1 - self._decay, 1 / self.steps)
        for name, value in self.values.items():
            value.lerp_(self._parameters[name].detach(), weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the average as its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.values.items():
            own = self._parameters[name].detach()
            held = own.clone()
            own.copy_(value)
            value.copy_(held)
