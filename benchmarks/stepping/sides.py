"""The two sides of `training_speed`: the loop of `starsmith pretrain` and transformers' Trainer, on the same row."""

import contextlib
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, Starcoder2Config, Starcoder2ForCausalLM, Trainer, TrainerCallback
from transformers import TrainingArguments as Arguments

from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.training.data import Batch, pack
from starsmith.training.loop import TrainingState, Work, batch_losses, train
from starsmith.training.loss import IGNORED
from starsmith.training.optimizer import OptimizerConfig, build_optimizers
from starsmith.training.packing import SEAM_ROOM
from starsmith.training.parallel import Ranks
from starsmith.training.schedule import ScheduleConfig
from starsmith.training.spikes import SpikeConfig, SpikeDetector

OPTIMIZER = OptimizerConfig(learning_rate=1e-4, matrix_learning_rate=None)  # AdamW alone: the peer has no other
SCHEDULE = ScheduleConfig(warmup=0, decay=0)  # the same rate at every step
BYTES_PER_TOKEN = 3.5  # of the library, with a vocabulary of 4,096
SPECIAL = 64  # ids below are left out


@dataclass(frozen=True)
class Case:
    """A model and the tokens of one step."""

    name: str
    model: ModelConfig
    context: int
    row_tokens: int
    steps: int  # timed in each round
    documents: bool = False
    bar: float = 1.0  # of the peer's speed
    mfu_bar: float | None = None


def make_row(case: Case, number: int) -> Batch:
    """Random ids in one row: full contexts, or documents."""
    random = np.random.default_rng(number)
    lengths = [case.context] * (case.row_tokens // case.context)
    if case.documents:
        lengths = document_lengths(case, random)
    batch = pack([random.integers(SPECIAL, case.model.vocab_size, length) for length in lengths])
    named = ("left-to-right",) * len(lengths), ("Python",) * len(lengths)
    return Batch(batch.ids, batch.targets, batch.lengths, kinds=named[0], languages=named[1])


def document_lengths(case: Case, random: np.random.Generator) -> list[int]:
    """Lengths that fill one row: files of the library in random order, cut at the context.

    A cut leaves a few tokens of room, as those for infills do: so it is with the rows of the quickstart (4.9 sequences,
    the median 509 tokens long), and documents of one length, which our loop would take together, are rare.
    """
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    sizes = random.permutation([int(file.stat().st_size / BYTES_PER_TOKEN) for file in files])
    pieces = [min(case.context, size - start) for size in sizes for start in range(0, size, case.context)]
    lengths: list[int] = []
    for piece in random.permutation([piece for piece in pieces if piece > SEAM_ROOM + 1]).tolist():
        lengths.append(min(piece - int(random.integers(SEAM_ROOM + 1)), case.row_tokens - sum(lengths)))
        if case.row_tokens - sum(lengths) < 2:
            break
    lengths[-1] += case.row_tokens - sum(lengths)
    return lengths


def peer(config: ModelConfig, weights: dict[str, torch.Tensor]) -> Starcoder2ForCausalLM:
    """transformers' model with the same weights; it keeps no keys and values in training."""
    left_out = ("architectures", "model_type", "dtype", "torch_dtype", "use_cache")
    values = {key: value for key, value in config.to_json().items() if key not in left_out}
    model = Starcoder2ForCausalLM(Starcoder2Config(**values, use_cache=False, attn_implementation="sdpa"))
    model.load_state_dict(weights, strict=True)
    return model.train()


def first_state(
    config: ModelConfig, device: torch.device, weights: dict[str, torch.Tensor] | None = None
) -> TrainingState:
    """Our model at the beginning of a run."""
    model = Transformer(config)
    if weights is not None:
        model.load_state_dict(weights)
    model = model.to(device).train()
    return TrainingState(model, build_optimizers(model, OPTIMIZER), SpikeDetector(SpikeConfig()))


@dataclass(frozen=True)
class _SameRow:
    """Stands for `training.data.Rows`: the same row again and again, for both sides, so that only training is timed."""

    row: Batch

    def __getitem__(self, number: int) -> Batch:
        return self.row

    def epochs_before(self, _: int) -> float:
        """No corpus is read."""
        return 0.0


def our_seconds(state: TrainingState, row: Batch, steps: int, *, precision: str, warm: int = 1) -> float:
    """Seconds a step of the loop of `starsmith pretrain`."""
    device = next(state.model.parameters()).device
    work = Work(
        rows=_SameRow(row),  # type: ignore[arg-type]
        ranks=Ranks(device=device),
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
        steps=state.step + warm + steps,
        rows_per_step=1,
        precision=precision,
        seed=0,
    )
    clock = _Clock(warm, steps)
    for _ in train(state, work):
        clock.tick()
    return clock.seconds_per_step()


class _Clock(TrainerCallback):
    """Time from the end of the last warm-up step to the end of the last one; waits for a GPU at these two alone."""

    def __init__(self, warm: int, steps: int) -> None:
        self._warm, self._steps, self._done, self._marks = warm, steps, 0, []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """What Trainer calls after each update."""
        self.tick()

    def tick(self) -> None:
        """A step has ended."""
        self._done += 1
        if self._done in (self._warm, self._warm + self._steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self._marks.append(time.perf_counter())

    def seconds_per_step(self) -> float:
        """Read when the last step has ended."""
        wanted = self._warm + self._steps
        assert self._done == wanted, f"not the same work: {self._done} steps were made, {wanted} asked for"
        return (self._marks[1] - self._marks[0]) / self._steps


def their_seconds(
    model: Starcoder2ForCausalLM,
    optimizer: torch.optim.Optimizer,
    item: dict[str, torch.Tensor],
    steps: int,
    *,
    warm: int = 1,
    **options: bool,
) -> float:
    """Seconds a step of Trainer."""
    clock = _Clock(warm, steps)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        arguments = Arguments(
            output_dir=folder,
            max_steps=warm + steps,
            per_device_train_batch_size=1,  # one item is all rows of a step
            max_grad_norm=OPTIMIZER.clip_norm,
            use_cpu=next(model.parameters()).device.type == "cpu",
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            **options,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=[item] * (warm + steps),
            data_collator=_only,
            callbacks=[clock],
            optimizers=(optimizer, LambdaLR(optimizer, _constant)),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.seconds_per_step()


def _only(items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return items[0]


def _constant(_: int) -> float:
    return 1.0


def their_inputs(case: Case, row: Batch) -> dict[str, torch.Tensor]:
    """Full contexts as a batch of them; documents as one row, in which positions begin anew with each.

    The first label of each is ignored: it has nothing before it, and Trainer counts it when it takes the mean.
    """
    starts = np.cumsum([0, *row.lengths[:-1]])
    labels = row.ids.copy()
    labels[starts] = IGNORED
    if not case.documents:
        size = (len(row.lengths), case.context)
        return {"input_ids": torch.from_numpy(row.ids).view(size), "labels": torch.from_numpy(labels).view(size)}
    positions = np.arange(len(row.ids)) - np.repeat(starts, row.lengths)
    arrays = {"input_ids": row.ids, "labels": labels, "position_ids": positions}
    return {name: torch.from_numpy(values)[None] for name, values in arrays.items()}


@torch.no_grad()
def our_loss(model: Transformer, row: Batch, precision: str) -> float:
    """Nats a trained token."""
    return float(batch_losses(model, row, precision=precision).objective) / row.trained_tokens


@torch.no_grad()
def their_loss(model: Starcoder2ForCausalLM, item: dict[str, torch.Tensor]) -> float:
    """The same of the peer."""
    return float(model(**{name: value.to(model.device) for name, value in item.items()}).loss)


def check_losses(mine: float, other: float, tolerance: float, when: str) -> None:
    """Stop where the two do not do the same work."""
    assert abs(mine - other) < tolerance, f"not the same work: losses {mine:.6f} and {other:.6f} {when}"
