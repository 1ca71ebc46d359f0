"""What a run tells while it goes on: a line of metrics for each step, and the note beside the progress bar."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from starsmith.core.console import note
from starsmith.model.transformer import Transformer
from starsmith.training.config import PretrainConfig
from starsmith.training.gpus import peak_flops
from starsmith.training.loop import StepReport, TrainingState
from starsmith.training.metrics import MetricsLog, Speed, Tally, measured_peak, model_flops_utilisation, progress_text
from starsmith.training.parallel import Ranks
from starsmith.training.precision import compute_type

WATCHES = 10  # times that the model is watched in a run

Watch = Callable[[Transformer], dict[str, float]]  # figures of a model in training, for the log


class Reporter:
    """Logs the steps of a run; a context manager. Every rank calls it, the first one writes."""

    def __init__(
        self, config: PretrainConfig, ranks: Ranks, run: Path, state: TrainingState, steps: int, watch: Watch | None
    ) -> None:
        self._config, self._ranks, self._state, self._steps, self._watch = config, ranks, state, steps, watch
        self._log = MetricsLog(run, step=state.step) if ranks.is_first else None
        self._speed = Speed()
        self._last_seconds = 0.0
        self._flops_per_token = state.model.config.flops_per_token(config.data.context_tokens)
        peak = _peak(ranks.device, config.precision) if ranks.is_first else None
        self._peak = None if peak is None else peak * ranks.size

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            self._log.close()

    def tell(self, report: StepReport) -> str:
        """Log a step; the note that a person reads beside the progress."""
        tally = Tally()
        for part in self._ranks.gather(report.tally):
            tally.merge(part)
        line = self._line(report) | tally.fields()
        if self._watch is not None and self._is_due(report.step):
            average = self._state.average
            with nullcontext() if average is None else average.in_place():
                line |= self._watch(self._state.model)
        if self._log is None:
            return ""
        self._log.write(line)
        if report.spike is not None:
            self._tell_spike(report)
        left = (self._steps - report.step) * report.step_tokens / max(line["tokens_per_second"], 1e-9)
        return progress_text(line, seconds_left=left)

    def rewind(self, step: int, report: StepReport) -> None:
        """Log that the run has gone back to `step` because of the spike in a report."""
        assert report.spike is not None
        if self._log is not None:
            self._log.rewind(step, {**report.spike.event("rewind"), "from_step": report.step})
            note(f"  pretrain: {report.spike}; gone back to step {step}")

    def _line(self, report: StepReport) -> dict[str, Any]:
        taken = report.seconds - self._last_seconds
        self._last_seconds = report.seconds
        speed = self._speed.step(report.step_tokens, taken if taken > 0 else report.seconds)
        return {
            "step": report.step,
            "loss": report.loss,
            "tokens": report.tokens,
            "seconds": round(report.seconds, 3),
            "learning_rate": report.learning_rate_factor * self._config.optimizer.learning_rate,
            "gradient_norm": report.gradient_norm,
            "tokens_per_second": round(speed, 1),
            "mfu": model_flops_utilisation(speed, self._flops_per_token, self._peak),
            "epoch": round(report.epoch, 4),
        }

    def _is_due(self, step: int) -> bool:
        return step == self._steps or step % max(self._steps // WATCHES, 1) == 0

    def _tell_spike(self, report: StepReport) -> None:
        assert self._log is not None
        assert report.spike is not None
        action = self._config.spikes.action
        self._log.write(report.spike.event(action))
        if report.spike.first:
            note(f"  pretrain: {report.spike}" + ("; its update is left out" if action == "skip" else ""))


def _peak(device: torch.device, precision: str) -> float | None:
    """FLOP/s that the MFU is a share of: of a known GPU's data sheet, on a CPU what a matrix product reaches here."""
    if device.type == "cuda":
        return peak_flops(torch.cuda.get_device_name(device), precision)
    return measured_peak(device, compute_type(device, precision) or torch.float32)
