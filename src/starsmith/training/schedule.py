"""The learning rate over a run, as a share of its peak: warm-up, then cosine or warm-up-stable-decay."""

import math
from dataclasses import dataclass

from starsmith.core.errors import ConfigError

SCHEDULES = ("wsd", "cosine")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Warm-up-stable-decay (Hu et al. 2024, arXiv 2404.06395), or cosine as StarCoder2's (Loshchilov 2016)."""

    shape: str = "wsd"  # or "cosine"
    warmup: float = 0.03  # a share of the steps when below 1, else a number of steps; the rate rises linearly
    decay: float = 0.4  # wsd: share of the steps, at the end, in which the rate falls linearly
    final: float = 0.0  # share of the peak that is left at the end; StarCoder's cosine ends at 0.1

    def __post_init__(self) -> None:
        if self.shape not in SCHEDULES:
            raise ConfigError(f"shape={self.shape!r}: no schedule", hint=f"known: {', '.join(SCHEDULES)}")
        if self.warmup < 0 or not 0 <= self.decay <= 1 or not 0 <= self.final <= 1:
            raise ConfigError(
                f"warmup={self.warmup}, decay={self.decay}, final={self.final}: shares lie in 0 to 1",
                hint="warmup may also be a number of steps",
            )


def learning_rate_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at `step` of `steps`, counted from 0; the last step is still above `final`."""
    warmup = max(round(config.warmup * steps if config.warmup < 1 else config.warmup), 1)
    if step < warmup:
        return (step + 1) / warmup
    if config.shape == "cosine":
        done = (step - warmup) / max(steps - warmup, 1)
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2
    decay = max(round(steps * config.decay), 1)
    return config.final + (1 - config.final) * min((steps - step) / decay, 1.0)
