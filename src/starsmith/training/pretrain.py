"""Stage: token shards become a StarCoder2 checkpoint, within a number of steps or of minutes.

A time box is turned into a number of steps once, from the speed of a few steps thrown away, and written down; from
there on the run is a function of its settings. Killed at any moment, the same command goes on from the last saved
state and ends with the same weights, bit for bit.
"""

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from starsmith.core import artifact
from starsmith.core.console import note, progress
from starsmith.core.errors import ConfigError
from starsmith.core.records import HELD_OUT
from starsmith.model import checkpoint
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import FILE_NAME, Tokenizer
from starsmith.tokenizer.tokens import TokenStore
from starsmith.training.data import Batch, DataConfig, batches, held_out_batch
from starsmith.training.loop import StepReport, TrainingState, loss_sum, optimizer_step, train
from starsmith.training.optimizer import build_optimizers

STATE, PLAN, METRICS = "state.pt", "plan.json", "metrics.jsonl"  # in run/
BASE_ROPE_THETA = 100_000.0  # StarCoder2's base stage
SLIDING_WINDOW = 4096  # StarCoder2's, in every layer
SAVE_EVERY_S = 30.0  # how much work a kill can cost
HELD_OUT_CHECKS = 10  # times that the held-out loss is looked at
HELD_OUT_TOKENS = 16_384  # read each time
SPEED_STEPS = 3  # timed, after one to warm up, to turn minutes into steps


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A StarCoder2 model from nothing. The defaults are the 125M class; `recipes/` has the published sizes."""

    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    kv_heads: int = 2  # grouped-query attention; StarCoder2 has 2 or 4
    context_tokens: int = 4096  # the longest sequence in training
    batch_tokens: int = 524_288  # per optimizer step
    micro_batch_tokens: int = 16_384  # per forward pass: memory against speed
    steps: int | None = None  # give this for an exact length ...
    minutes: float | None = None  # ... or this for a time box
    learning_rate: float = 3e-3  # AdamW's peak
    matrix_learning_rate: float | None = 0.02  # Muon's peak; None trains all with AdamW, as the paper did
    weight_decay: float = 0.1
    fim_rate: float = 0.5  # share of the files trained as infills
    spm_rate: float = 0.5  # share of the infills in suffix-prefix-middle order
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError(
                f"steps={self.steps} and minutes={self.minutes}: give one of the two",
                hint="for example --set pretrain.minutes=3",
            )
        if (self.steps is not None and self.steps < 1) or (self.minutes is not None and self.minutes <= 0):
            raise ConfigError(f"steps={self.steps}, minutes={self.minutes}: must be above 0", hint="mend the recipe")

    @property
    def accumulate(self) -> int:
        """Micro-batches in one step."""
        return math.ceil(self.batch_tokens / self.micro_batch_tokens)

    @property
    def data(self) -> DataConfig:
        """The settings of the data path."""
        return DataConfig(
            context_tokens=self.context_tokens,
            batch_tokens=self.micro_batch_tokens,
            fim_rate=self.fim_rate,
            spm_rate=self.spm_rate,
            seed=self.seed,
        )


@dataclass(frozen=True)
class _Run:
    """What a training run works with."""

    config: PretrainConfig
    store: TokenStore
    tokenizer: Tokenizer
    draft: artifact.Draft

    def batches(self) -> Iterator[Batch]:
        return batches(self.store, self.tokenizer, self.config.data)


def run(config: PretrainConfig, *, tokens: Path, tokenizer: Path, out: Path) -> None:
    """Train a model on the training documents of `tokens` and write a Hugging Face checkpoint."""
    vocabulary = Tokenizer.load(tokenizer)
    store = TokenStore(tokens, vocab_size=vocabulary.vocab_size)
    rooms = ("core", "tokenizer", "model", "training")
    parents = {"tokens": tokens, "tokenizer": tokenizer}
    with artifact.create(out, kind="model", config=config, rooms=rooms, parents=parents, resume=True) as draft:
        work = _Run(config, store, vocabulary, draft)
        state = _initial_state(config, vocabulary.vocab_size)
        steps = _planned_steps(work, state)
        watch = TokenStore(tokens, vocab_size=vocabulary.vocab_size, split=HELD_OUT)
        _train(
            work, state, steps, held_out_batch(watch, context_tokens=config.context_tokens, max_tokens=HELD_OUT_TOKENS)
        )
        checkpoint.save(state.model, tokenizer / FILE_NAME, draft.path)
        draft.settings["steps"], draft.settings["minutes"] = steps, None
        draft.counts.update(steps=state.step, tokens=state.tokens, parameters=state.model.config.parameters)
        (draft.run / STATE).unlink(missing_ok=True)


def model_config(config: PretrainConfig, vocab_size: int) -> ModelConfig:
    """The architecture that the settings describe."""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=4 * config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.context_tokens,
        sliding_window=SLIDING_WINDOW,
        rope_theta=BASE_ROPE_THETA,
        # 1/sqrt(hidden_size): StarCoder2's 3B and 15B.
        initializer_range=config.hidden_size**-0.5,
    )


def _initial_state(config: PretrainConfig, vocab_size: int) -> TrainingState:
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Transformer(model_config(config, vocab_size)).to(device)
    return TrainingState(model, _optimizers(config, model))


def _optimizers(config: PretrainConfig, model: Transformer) -> list[torch.optim.Optimizer]:
    return build_optimizers(
        model,
        learning_rate=config.learning_rate,
        matrix_learning_rate=config.matrix_learning_rate,
        weight_decay=config.weight_decay,
    )


def _planned_steps(work: _Run, state: TrainingState) -> int:
    """The number of steps: given, or fixed by an earlier start of this run, or measured and written down now."""
    if work.config.steps is not None:
        return work.config.steps
    plan = work.draft.run / PLAN
    if plan.is_file():
        return int(json.loads(plan.read_text())["steps"])
    assert work.config.minutes is not None
    seconds = _seconds_per_step(work, state)
    steps = max(round(work.config.minutes * 60 / seconds), 1)
    plan.write_text(json.dumps({"steps": steps, "seconds_per_step": seconds}))
    note(f"  pretrain: {seconds:.2f} s a step, so {steps} steps fill {work.config.minutes:g} minutes")
    return steps


def _seconds_per_step(work: _Run, state: TrainingState) -> float:
    """Median time of a step, tried on a copy of the model that is then thrown away."""
    model = copy.deepcopy(state.model).train()
    trial = TrainingState(model, _optimizers(work.config, model))
    data = work.batches()
    times = []
    for _ in range(1 + SPEED_STEPS):
        started = time.monotonic()
        optimizer_step(trial, [next(data) for _ in range(work.config.accumulate)], factor=0.0)
        times.append(time.monotonic() - started)
    return sorted(times[1:])[SPEED_STEPS // 2]


def _train(work: _Run, state: TrainingState, steps: int, watch: tuple[Batch, int]) -> None:
    """Run the loop to its end; log every step, look at the held-out loss and save the state now and then."""
    state_file = work.draft.run / STATE
    metrics = work.draft.run / METRICS
    if work.draft.resumed and state_file.is_file():
        state.load_state_dict(torch.load(state_file, weights_only=True))
        note(f"  pretrain: taking up the run at step {state.step} of {steps}")
    _keep_lines(metrics, state.step)
    saved_at = time.monotonic()
    check_every = max(steps // HELD_OUT_CHECKS, 1)
    reports = train(state, work.batches(), steps=steps, accumulate=work.config.accumulate)
    with metrics.open("a") as log, progress("pretrain", total=steps, unit="steps") as advance:
        advance(state.step)
        for report in reports:
            line = _line(report, work.config)
            if watch[1] and (report.step % check_every == 0 or report.step == steps):
                line["held_out_bits_per_byte"] = _bits_per_byte(state.model, watch)
            log.write(json.dumps(line) + "\n")
            advance(1, f"loss {report.loss:.3f}, {report.tokens / 1e6:.2f}M tokens")
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                log.flush()
                _save_state(state, state_file)
                saved_at = time.monotonic()


def _line(report: StepReport, config: PretrainConfig) -> dict[str, Any]:
    learning_rate = report.learning_rate_factor * config.learning_rate
    fields = {key: value for key, value in asdict(report).items() if key != "learning_rate_factor"}
    return {**fields, "learning_rate": learning_rate}


@torch.no_grad()
def _bits_per_byte(model: Transformer, watch: tuple[Batch, int]) -> float:
    batch, size_bytes = watch
    model.eval()
    nats = float(loss_sum(model, batch))
    model.train()
    return nats / math.log(2) / size_bytes


def _save_state(state: TrainingState, path: Path) -> None:
    """Replace the saved state in one step, so that a kill leaves the old or the new one."""
    partial = path.with_suffix(".partial")
    torch.save(state.state_dict(), partial)
    partial.replace(path)


def _keep_lines(metrics: Path, steps: int) -> None:
    """Forget what was logged after the state that the run goes on from."""
    if metrics.is_file():
        kept = [line for line in metrics.read_text().splitlines() if json.loads(line)["step"] <= steps]
        metrics.write_text("".join(line + "\n" for line in kept))
