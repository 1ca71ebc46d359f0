"""The training loop: a generator of step reports, so that whoever runs it decides what to log, save or evaluate."""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from starsmith.model.transformer import Transformer
from starsmith.training.averaging import WeightAverage
from starsmith.training.data import Batch, Rows
from starsmith.training.loss import Losses, linear_cross_entropy
from starsmith.training.metrics import Tally
from starsmith.training.optimizer import OptimizerConfig
from starsmith.training.parallel import Ranks, clip_gradients, own_parameters
from starsmith.training.precision import mixed_precision
from starsmith.training.schedule import ScheduleConfig, learning_rate_factor
from starsmith.training.spikes import BEFORE_SPIKE, Spike, SpikeDetector


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did."""

    step: int  # from 1
    loss: float  # nats per trained token, over all ranks
    gradient_norm: float  # of all weights together, before clipping
    learning_rate_factor: float
    tokens: int  # read so far by all ranks, this step included
    step_tokens: int  # read in this step
    seconds: float  # of training since this process began or went back; what is done between steps does not count
    epoch: float  # passes over the corpus, at the step's first row
    tally: Tally  # losses by kind and language, of what this rank read
    spike: Spike | None = None  # whether its update was made is in the settings


class NonFinite(Exception):  # noqa: N818 it is a signal to the stage, which can say what was read
    """A step whose loss or gradient is no finite number; the weights are as they were before it."""

    def __init__(
        self, step: int, loss: float, gradient_norm: float, rows: Sequence[tuple[int, Batch, NDArray[np.float32]]]
    ) -> None:
        """rows  that this rank has read: number, batch, and the loss of each of its tokens"""
        super().__init__(step, loss, gradient_norm)
        self.step, self.loss, self.gradient_norm, self.rows = step, loss, gradient_norm, rows


@dataclass
class TrainingState:
    """All that the next step depends on, besides the data, of which it says how far it was read.

    The data is read in blocks of one step's rows. Step s reads block s - 1, but for what a rewind has stepped over.
    """

    model: Transformer
    optimizers: Sequence[torch.optim.Optimizer]
    detector: SpikeDetector
    average: WeightAverage | None = None
    step: int = 0  # steps done
    block: int = 0  # the next block to be read
    tokens: int = 0
    skipped: set[int] = field(default_factory=set)  # blocks that are not read
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=BEFORE_SPIKE + 1))  # blocks read last
    peak_rates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peak_rates = [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]

    def progress_dict(self) -> dict[str, Any]:
        """All but the weights, their average and the optimizers, as JSON values."""
        return {
            "step": self.step,
            "block": self.block,
            "tokens": self.tokens,
            "skipped": sorted(self.skipped),
            "detector": self.detector.state_dict(),
        }

    def load_progress_dict(self, saved: dict[str, Any]) -> None:
        """Take up what `progress_dict` gave."""
        self.step, self.block, self.tokens = saved["step"], saved["block"], saved["tokens"]
        self.skipped = set(saved["skipped"])
        self.detector.load_state_dict(saved["detector"])

    def peek_block(self) -> int:
        """The block that the next step reads."""
        block = self.block
        while block in self.skipped:
            block += 1
        return block


@dataclass(frozen=True)
class Work:
    """What a loop works with, none of which changes."""

    rows: Rows
    ranks: Ranks
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    steps: int
    rows_per_step: int
    precision: str
    seed: int


def train(state: TrainingState, work: Work) -> Iterator[StepReport]:
    """Train from `state.step` to `work.steps`.

    A report with a spike that is to be rewound is the last: the caller puts an older state in place and begins anew.
    """
    seconds = 0.0
    state.model.train()
    with _Reader(work) as reader:
        while state.step < work.steps:
            began, block = time.monotonic(), state.peek_block()
            report = _step(state, work, block, reader.read(block))
            seconds += time.monotonic() - began
            yield replace(report, seconds=seconds)
            if _is_rewound(state, report):
                return


def gradients(state: TrainingState, work: Work, batches: Sequence[Batch], block: int) -> "StepLosses":
    """Backward passes of this rank's micro-batches of a step, of the mean loss over all trained tokens of all ranks."""
    (trained,) = work.ranks.sum(sum(batch.trained_tokens for batch in batches))
    losses = StepLosses(int(trained))
    for row, batch in zip(work.ranks.rows(block, work.rows_per_step), batches, strict=True):
        if state.model.config.attention_dropout:
            # By the row and not by what was drawn before, so that a resumed run has the same, at any number of ranks.
            key = np.random.SeedSequence([work.seed, row])
            torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))
        found = batch_losses(state.model, batch, precision=work.precision, z_loss=work.optimizer.z_loss)
        (found.objective / max(losses.trained_tokens, 1)).backward()  # type: ignore[no-untyped-call]
        losses.parts.append((batch, found.nats))
    return losses


def batch_losses(model: Transformer, batch: Batch, *, precision: str = "auto", z_loss: float = 0.0) -> Losses:
    """The losses of a packed batch under the model, in nats."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(batch.ids).to(device, non_blocking=True)[None]
    targets = torch.from_numpy(batch.targets).to(device, non_blocking=True)
    with mixed_precision(device, precision):
        hidden = model.hidden(ids, lengths=batch.lengths).flatten(0, 1)
        return linear_cross_entropy(hidden, model.lm_head.weight.to(hidden.dtype), targets, z_loss=z_loss)


@dataclass
class StepLosses:
    """What the micro-batches of a step lost on this rank; nothing here waits for the device until it is asked."""

    trained_tokens: int  # of all ranks
    parts: list[tuple[Batch, Tensor]] = field(default_factory=list)  # (N,) nats of each token

    def mean(self, ranks: Ranks) -> float:
        """Nats per trained token, over all ranks."""
        (total,) = ranks.sum(float(torch.stack([nats.sum() for _, nats in self.parts]).sum()))
        return total / max(self.trained_tokens, 1)

    def tally(self) -> Tally:
        """By kind and language, of what this rank read."""
        found = Tally()
        for batch, nats in self.parts:
            found.add(batch, nats.cpu().numpy())
        return found


def _is_rewound(state: TrainingState, report: StepReport) -> bool:
    return report.spike is not None and state.detector.config.action == "rewind"


def _step(state: TrainingState, work: Work, block: int, batches: Sequence[Batch]) -> StepReport:
    """One update, or none where the loss has a spike and the settings say so; the time is put in by `train`."""
    factor = learning_rate_factor(work.schedule, state.step, work.steps)
    losses = gradients(state, work, batches, block)
    loss = losses.mean(work.ranks)
    parameters = own_parameters(state.model).values()
    norm = clip_gradients(parameters, work.ranks, max_norm=work.optimizer.clip_norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        numbers = work.ranks.rows(block, work.rows_per_step)
        rows = [(row, batch, nats.cpu().numpy()) for row, (batch, nats) in zip(numbers, losses.parts, strict=True)]
        raise NonFinite(state.step + 1, loss, norm, rows)
    spike = state.detector.see(state.step + 1, loss, norm)
    if spike is None or state.detector.config.action == "note":
        _update(state, factor)
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    (step_tokens,) = work.ranks.sum(sum(len(batch.ids) for batch in batches))
    state.step += 1
    state.block = block + 1
    state.recent.append(block)
    state.tokens += int(step_tokens)
    return StepReport(
        step=state.step,
        loss=loss,
        gradient_norm=norm,
        learning_rate_factor=factor,
        tokens=state.tokens,
        step_tokens=int(step_tokens),
        seconds=0.0,
        epoch=work.rows.epochs_before(block * work.rows_per_step),
        tally=losses.tally(),
        spike=spike,
    )


def _update(state: TrainingState, factor: float) -> None:
    """Apply the gradients at this share of the peak rates."""
    peaks = iter(state.peak_rates)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = next(peaks) * factor
        optimizer.step()
    if state.average is not None:
        state.average.update()


class _Reader:
    """Reads one block ahead in a thread, so that the data is there when a step ends."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._ahead: tuple[int, Future[list[Batch]]] | None = None

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def read(self, block: int) -> list[Batch]:
        """The micro-batches of this rank in a block; the next block is begun."""
        known = self._ahead
        # Rows are for one thread at a time: a block that was not foreseen waits until the one ahead is read.
        reading = known[1] if known is not None and known[0] == block else self._threads.submit(self._rows, block)
        batches = reading.result()
        self._ahead = (block + 1, self._threads.submit(self._rows, block + 1))
        return batches

    def _rows(self, block: int) -> list[Batch]:
        return [self._work.rows[number] for number in self._work.ranks.rows(block, self._work.rows_per_step)]
