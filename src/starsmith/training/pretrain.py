"""Stage: token shards become a StarCoder2 checkpoint, within a number of steps, of tokens or of minutes.

A time box is turned into a number of steps once, from the speed of a few steps thrown away, and written down; from
there on the run is a function of its settings. Killed at any moment, the same command goes on from the last saved
state and ends with the same weights, bit for bit on one process. Under `torchrun` the same command uses every rank.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from starsmith.core import artifact
from starsmith.core.config import to_table
from starsmith.core.console import note, progress
from starsmith.core.errors import ConfigError, StarsmithError
from starsmith.model import checkpoint
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import FILE_NAME, Tokenizer
from starsmith.tokenizer.tokens import TokenStore
from starsmith.training.averaging import WeightAverage
from starsmith.training.config import PretrainConfig
from starsmith.training.data import Rows
from starsmith.training.loop import NonFinite, StepReport, TrainingState, Work, gradients, train
from starsmith.training.metrics import METRICS
from starsmith.training.optimizer import build_optimizers
from starsmith.training.parallel import Ranks, launched, place, whole_weights
from starsmith.training.precision import compute_type, use_float8
from starsmith.training.reporting import Reporter, Watch
from starsmith.training.spikes import SpikeDetector, non_finite
from starsmith.training.states import Contents, States

__all__ = ["METRICS", "PretrainConfig", "Watch", "run"]

Made = TypeVar("Made")

PLAN, STATES = "plan.json", "states"  # in run/
SPEED_STEPS = 3  # timed, after one to warm up, to turn minutes into steps


@dataclass(frozen=True)
class _Run:
    """What a training run works with."""

    config: PretrainConfig
    store: TokenStore
    rows: Rows
    ranks: Ranks
    draft: artifact.Draft  # known to every rank; only the first writes to it
    settings: str  # a digest of what decides the training
    watch: Watch | None

    def work(self, steps: int) -> Work:
        """For the loop."""
        return Work(
            rows=self.rows,
            ranks=self.ranks,
            optimizer=self.config.optimizer,
            schedule=self.config.schedule,
            steps=steps,
            rows_per_step=self.config.rows_per_step,
            precision=self.config.precision,
            seed=self.config.seed,
        )


def run(
    config: PretrainConfig,
    *,
    tokens: Path,
    tokenizer: Path,
    out: Path,
    base: Path | None = None,
    watch: Watch | None = None,
) -> None:
    """Train a model on the training documents of `tokens` and write a Hugging Face checkpoint.

    base   a model artefact to train on from; without it the weights are random
    watch  figures of the model on held-out files, asked for now and then and logged with the step
    """
    vocabulary = Tokenizer.load(tokenizer)
    _check_vocabulary(tokens, tokenizer, base)
    parents = {"tokens": tokens, "tokenizer": tokenizer, **({} if base is None else {"base": base})}
    store = TokenStore(tokens, vocab_size=vocabulary.vocab_size)
    with launched(config.parallel) as ranks:
        with _draft(config, parents, out, ranks) as draft:
            settings = _settings(config, parents)
            ranks.agree({"the settings": settings, "the version of torch": torch.__version__})
            _on_first(ranks, store.check)
            rows = Rows(store, vocabulary, config.data, seed=config.seed, row_tokens=config.micro_batch_tokens)
            ranks.rows(0, config.rows_per_step)  # an error now if they cannot be divided
            work = _Run(config, store, rows, ranks, draft, settings, watch)
            architecture = _architecture(config, vocabulary.vocab_size, base)
            state = _first_state(config, architecture, base, ranks)
            steps = _planned_steps(work, state)
            states = States(draft.run / STATES, ranks, settings=f"{settings} {steps}")
            try:
                _train(work, state, steps, states)
            except BaseException:
                if ranks.size == 1:  # one of many must end at once, so that the launcher ends the others
                    states.close()
                raise
            states.close()
            _write(work, state, architecture, tokenizer / FILE_NAME)
        if ranks.is_first:  # not before: stopped while the checkpoint gets its account, the run goes on from them
            shutil.rmtree(out / artifact.RUN / STATES, ignore_errors=True)


def _check_vocabulary(tokens: Path, tokenizer: Path, base: Path | None) -> None:
    """The vocabulary must be the one that the shards, and the base model, were made with."""
    made_with = next((one.id for one in artifact.read(tokens, kind="tokens").parents if one.role == "tokenizer"), "")
    given = artifact.read(tokenizer, kind="tokenizer").id
    if made_with != given:
        raise ConfigError(
            f"{tokens} was made with tokenizer {made_with[:16]}, {tokenizer} is {given[:16]}",
            hint="leave out --tokenizer, or make the tokens again: starsmith tokens CORPUS --tokenizer DIR",
        )
    if base is None:
        return
    artifact.read(base, kind="model")
    theirs = base / FILE_NAME
    if not theirs.is_file() or _sha256(theirs) != _sha256(tokenizer / FILE_NAME):
        raise ConfigError(
            f"the base model {base} has another vocabulary than {tokenizer}",
            hint=f"make the tokens with the model's own: starsmith tokens CORPUS --tokenizer {base}",
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _draft(config: PretrainConfig, parents: Mapping[str, Path], out: Path, ranks: Ranks) -> Iterator[artifact.Draft]:
    """The artefact in the making: the first rank makes it, the others know where it lies."""
    rooms = ("core", "tokenizer", "model", "training")
    with ExitStack() as stack:
        making = artifact.create(
            out, kind="model", config=config, rooms=rooms, parents=parents, resume=True, dear=STATES
        )
        yield _on_first(ranks, lambda: stack.enter_context(making))
    ranks.wait_for_all()


def _on_first(ranks: Ranks, work: Callable[[], Made]) -> Made:
    """What the work of the first rank gives; an error of it stops every rank, in two lines and not in a traceback."""
    made, failure = None, None
    if ranks.is_first:
        try:
            made = work()
        except StarsmithError as error:
            failure = error
    made, failure = ranks.from_first((made, failure))
    if failure is not None:
        raise failure
    return cast("Made", made)


def _settings(config: PretrainConfig, parents: Mapping[str, Path]) -> str:
    """A digest of the settings and of what is trained on."""
    ids = {role: artifact.read(path).id for role, path in parents.items()}
    return hashlib.sha256(json.dumps([to_table(config), ids], sort_keys=True).encode()).hexdigest()


def _architecture(config: PretrainConfig, vocab_size: int, base: Path | None) -> ModelConfig:
    context = config.data.context_tokens
    if base is None:
        return config.model.model(vocab_size=vocab_size, context_tokens=context)
    return config.model.continued(checkpoint.load_config(base), context_tokens=context)


def _first_state(config: PretrainConfig, architecture: ModelConfig, base: Path | None, ranks: Ranks) -> TrainingState:
    """A model at the beginning, on all ranks."""

    def make() -> Transformer:
        torch.manual_seed(config.seed)
        model = Transformer(architecture)
        if base is not None:
            model.load_state_dict(checkpoint.load(base).state_dict())
        return model.train()

    if config.precision == "float8" and ranks.size > 1:
        raise ConfigError("precision='float8' works on one GPU", hint="use precision = 'bfloat16' with several")
    model = place(make, architecture, ranks, compute=compute_type(ranks.device, config.precision))
    model.checkpoint_layers = config.activation_checkpointing
    if config.precision == "float8":
        use_float8(model, ranks.device)
    if config.compile and ranks.device.type == "cuda":
        _compile(model)
    return _state_of(config, model, ranks)


def _compile(model: Transformer) -> None:
    """Have torch compile the layers when they are first run; what starts the GPU's kernels is written in C."""
    asked = os.environ.get("CC")
    compilers = (asked,) if asked else ("gcc", "clang")
    if not any(shutil.which(name) for name in compilers):
        raise ConfigError(
            f"compiling the model for the GPU takes a C compiler, and there is none: {' or '.join(compilers)}",
            hint="install one, or give pretrain.compile = false",
        )
    for layer in model.model.layers:
        layer.compile()


def _state_of(config: PretrainConfig, model: Transformer, ranks: Ranks) -> TrainingState:
    decay = config.optimizer.averaging
    return TrainingState(
        model,
        build_optimizers(model, config.optimizer, group=ranks.copy_group),
        SpikeDetector(config.spikes),
        None if decay is None else WeightAverage(model, decay),
    )


def _planned_steps(work: _Run, state: TrainingState) -> int:
    """The number of steps: given, or fixed by an earlier start of this run, or measured and written down now."""
    config, plan = work.config, work.draft.run / PLAN
    if config.steps is not None:
        return config.steps
    if config.tokens is not None:
        return max(round(config.tokens / (config.rows_per_step * config.micro_batch_tokens)), 1)
    known = json.loads(plan.read_text())["steps"] if work.ranks.is_first and plan.is_file() else None
    known = work.ranks.from_first(known)
    if known is not None:
        return int(known)
    assert config.minutes is not None
    seconds = float(work.ranks.from_first(_seconds_per_step(work, state)))
    steps = max(round(config.minutes * 60 / seconds), 1)
    if work.ranks.is_first:
        partial = plan.with_suffix(".partial")
        partial.write_text(json.dumps({"steps": steps, "seconds_per_step": seconds}))
        partial.replace(plan)  # whole or absent: a run is killed at any moment
        note(f"  pretrain: {seconds:.2f} s a step, so {steps} steps fill {config.minutes:g} minutes")
    return steps


def _seconds_per_step(work: _Run, state: TrainingState) -> float:
    """Median time of a step at rate 0, which changes no weight, with optimizers that are then thrown away."""
    trial = _state_of(work.config, state.model, work.ranks)
    for optimizer in trial.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    loop, times = work.work(1), []
    for number in range(1 + SPEED_STEPS):
        started = time.monotonic()
        batches = [work.rows[row] for row in work.ranks.rows(number, loop.rows_per_step)]
        gradients(trial, loop, batches, number).mean(work.ranks)
        for optimizer in trial.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        times.append(time.monotonic() - started)
    return sorted(times[1:])[SPEED_STEPS // 2]


def _contents(state: TrainingState) -> Contents:
    average = {} if state.average is None else state.average.values
    return Contents(state.model, state.optimizers, {f"average.{name}": value for name, value in average.items()})


def _train(work: _Run, state: TrainingState, steps: int, states: States) -> None:
    """Run the loop to its end, over rewinds; log every step, watch the model and save the state now and then."""
    saved = states.load_latest(_contents(state))
    if saved is not None:
        _take_up(state, saved.facts)
        if work.ranks.is_first:
            note(f"  pretrain: taking up the run at step {state.step} of {steps}")
    saved_at = time.monotonic()
    shown = progress("pretrain", total=steps, unit="steps") if work.ranks.is_first else nullcontext(_silent)
    with Reporter(work.config, work.ranks, work.draft.run, state, steps, work.watch) as reporter, shown as advance:
        advance(state.step)
        while state.step < steps:
            for report in _reports(work, state, steps):
                advance(1, reporter.tell(report))
                if report.spike is not None and work.config.spikes.action == "rewind":
                    advance(-_rewind(state, states, report, reporter))
                elif work.ranks.from_first(time.monotonic() - saved_at > 60 * work.config.save_minutes):
                    states.save(_contents(state), state.step, _facts(state))
                    saved_at = time.monotonic()


def _reports(work: _Run, state: TrainingState, steps: int) -> Iterator[StepReport]:
    try:
        yield from train(state, work.work(steps))
    except NonFinite as failure:
        rows = [row for part in work.ranks.gather(failure.rows) for row in part]
        error = non_finite(
            failure.step,
            failure.loss,
            failure.gradient_norm,
            rows=rows,
            documents=work.store.all_documents,
            run=work.draft.run,
        )
        assert error is not None
        raise error from None


def _silent(number: float = 1, note: str = "") -> None:
    """Progress of a rank that shows none."""


def _facts(state: TrainingState) -> dict[str, Any]:
    return {**state.progress_dict(), "averaged": 0 if state.average is None else state.average.steps}


def _take_up(state: TrainingState, facts: dict[str, Any]) -> None:
    """What stands beside the tensors of a saved state."""
    state.load_progress_dict(facts)
    if state.average is not None:
        state.average.steps = facts["averaged"]


def _rewind(state: TrainingState, states: States, report: StepReport, reporter: Reporter) -> int:
    """Go back to the last saved state and step over what was read just before the spike; how many steps that is.

    Before the first save there is nothing to go back to: then the update is left out, as it has been.
    """
    here, read = state.step, list(state.recent)
    states.wait()
    saved = states.load_latest(_contents(state))
    if saved is None:
        return 0
    acted = state.detector.acted
    _take_up(state, saved.facts)
    state.detector.acted = acted  # or it would go back for ever
    state.skipped |= {block for block in read if block >= state.block}
    states.save(_contents(state), state.step, _facts(state))  # before it is logged: a kill in between repeats nothing
    states.wait()
    reporter.rewind(state.step, report)
    return here - state.step


def _write(work: _Run, state: TrainingState, architecture: ModelConfig, tokenizer_file: Path) -> None:
    """The checkpoint, and its account."""
    draft = work.draft
    with nullcontext() if state.average is None else state.average.in_place():
        weights = whole_weights(state.model, work.ranks)
        if not work.ranks.is_first:
            return
        with torch.device("meta"):
            model = Transformer(architecture)
        model.load_state_dict(weights, strict=False, assign=True)
        model.tie_weights()
        checkpoint.save(model, tokenizer_file, draft.path)
    draft.settings.update(steps=state.step, minutes=None, tokens=None)
    draft.counts.update(steps=state.step, tokens=state.tokens, parameters=architecture.parameters)
