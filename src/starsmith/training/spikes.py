"""Losses that jump, and losses that are no number: found while the run goes on, told, and if asked for stepped over.

A loss is judged by the losses just before it: by its distance from their median, in units of their median absolute
deviation, which a jump or two among them hardly moves. The norm of the gradient is judged alike, on a logarithmic
scale. To leave out the update of such a step is OLMo 2's remedy (arXiv 2501.00656); to go back and step over the
batches around it is PaLM's (Chowdhery et al. 2022, arXiv 2204.02311, section 5.1), who found that batch and weights
make a spike together: the same batches do no harm elsewhere.

A loss that is not finite always stops the run, with the documents of its batch.
"""

import json
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from starsmith.core.errors import ConfigError, StarsmithError

if TYPE_CHECKING:
    import pyarrow as pa

    from starsmith.training.data import Batch

ACTIONS = ("note", "skip", "rewind")
BAD_BATCH = "bad_batch.json"  # in run/
MAD_TO_SIGMA = 1.4826  # of a normal distribution
LEAST_RISE = 0.05  # of the median loss: what is less is no spike, however calm the losses were
LEAST_GRADIENT_FACTOR = 4.0  # times the median norm
BEFORE_SPIKE = 3  # steps before a spike that a rewind steps over with it: the update that did harm came before
NEW_LEVEL = 4  # a quarter of the window in a row is no spike but a new level, from which to judge anew
NAMED_DOCUMENTS = 10  # in the message; the file has all


@dataclass(frozen=True, kw_only=True)
class SpikeConfig:
    """What counts as a spike of the loss, and what is done about it."""

    action: str = "note"  # "skip": that step changes no weight; "rewind": go back to the saved state, step over it
    threshold: float = 8.0  # deviations above the median
    window: int = 128  # steps that a step is judged by; the first so many are not judged
    most: int = 20  # skips or rewinds in a run; one more stops it

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ConfigError(f"action={self.action!r}: not known", hint=f"known: {', '.join(ACTIONS)}")
        if self.threshold <= 0 or self.window < 8 or self.most < 0:
            raise ConfigError(
                f"threshold={self.threshold:g}, window={self.window}, most={self.most}: out of range",
                hint="threshold above 0, window 8 or more, most 0 or more; the defaults are 8, 128 and 20",
            )


@dataclass(frozen=True)
class Spike:
    """A step whose loss or gradient stands out."""

    step: int
    what: str  # "loss" or "gradient_norm"
    value: float
    median: float  # of the window before it
    deviations: float  # above the median
    first: bool  # of a row of such steps: later ones need not be told again

    def event(self, action: str) -> dict[str, Any]:
        """The line of metrics.jsonl."""
        seen = {"what": self.what, "value": self.value, "median": self.median, "deviations": round(self.deviations, 1)}
        return {"step": self.step, "event": "skip" if action == "skip" else "spike", **seen}

    def __str__(self) -> str:
        name = self.what.replace("_", " ")
        return f"step {self.step}: {name} {self.value:.3f}, {self.deviations:.1f} deviations above {self.median:.3f}"


class DivergedError(StarsmithError):
    """A loss or gradient that is no finite number, or more spikes than the settings allow to step over."""


class SpikeDetector:
    """Sees every step once, in order. Spikes are kept out of what later steps are judged by."""

    def __init__(self, config: SpikeConfig) -> None:
        self.config = config
        self.acted = 0  # skips or rewinds so far
        self._losses: deque[float] = deque(maxlen=config.window)
        self._norms: deque[float] = deque(maxlen=config.window)  # logarithms
        self._row = 0  # spikes just before this step, one after the other

    def see(self, step: int, loss: float, gradient_norm: float) -> Spike | None:
        """Judge a step before its update is applied; an error when it is one more than can be stepped over."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise ValueError(f"step {step}: loss {loss}, gradient norm {gradient_norm}: to be stopped before")
        spike = self._judge(step, loss, gradient_norm)
        if spike is None or self._row >= max(self.config.window // NEW_LEVEL, 2):
            if spike is not None:
                self._losses.clear()
                self._norms.clear()
            self._row = 0
            self._losses.append(loss)
            self._norms.append(_logarithm(gradient_norm))
            return None
        self._row += 1
        if self.config.action != "note":
            self._act(spike)
        return spike

    def state_dict(self) -> dict[str, Any]:
        """For a saved state, from which `load_state_dict` goes on as if nothing had been."""
        return {"losses": list(self._losses), "norms": list(self._norms), "row": self._row, "acted": self.acted}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._losses = deque(saved["losses"], maxlen=self.config.window)
        self._norms = deque(saved["norms"], maxlen=self.config.window)
        self._row, self.acted = saved["row"], saved["acted"]

    def _judge(self, step: int, loss: float, gradient_norm: float) -> Spike | None:
        if len(self._losses) < self.config.window:
            return None
        first, threshold = not self._row, self.config.threshold
        middle = median(self._losses)
        if loss > middle + LEAST_RISE * abs(middle):
            deviations = _deviations(self._losses, middle, loss)
            if deviations > threshold:
                return Spike(step, "loss", loss, middle, deviations, first)
        middle = median(self._norms)
        if _logarithm(gradient_norm) > middle + math.log(LEAST_GRADIENT_FACTOR):
            deviations = _deviations(self._norms, middle, _logarithm(gradient_norm))
            if deviations > threshold:
                return Spike(step, "gradient_norm", gradient_norm, math.exp(middle), deviations, first)
        return None

    def _act(self, spike: Spike) -> None:
        self.acted += 1
        if self.acted > self.config.most:
            raise DivergedError(
                f"{spike}: one spike more than the {self.config.most} that this run may {self.config.action}",
                hint="lower pretrain.optimizer.learning_rate, or raise pretrain.spikes.most",
            )


def non_finite(
    step: int,
    loss: float,
    gradient_norm: float,
    *,
    rows: "Iterable[tuple[int, Batch, NDArray[np.float32] | None]]",
    documents: "pa.Table",
    run: Path,
) -> DivergedError | None:
    """The error that stops a run at a loss or gradient that is no finite number, None when both are.

    rows       of the step, all ranks': number k, batch, and where known the loss of each of its tokens
    documents  the table that the batches' document numbers are rows of: `TokenStore.all_documents`
    run        where bad_batch.json is written, with every document of the step
    """
    if math.isfinite(loss) and math.isfinite(gradient_norm):
        return None
    found = [_row(number, batch, nats, documents) for number, batch, nats in rows]
    bad = [row["row"] for row in found if any(sequence["finite"] is False for sequence in row["sequences"])]
    path = run / BAD_BATCH
    content = {"step": step, "loss": str(loss), "gradient_norm": str(gradient_norm), "rows": found}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {gradient_norm}"
    where = f"in {_numbers(bad or [row['row'] for row in found])}"
    if bad:
        where += f", {len(bad)} of the step's {len(found)}"
    return DivergedError(
        f"step {step}: {what}, {where}, {_named(found, bad_only=bool(bad))}",
        hint=f"{path} has them all; lower pretrain.optimizer.learning_rate, try pretrain.precision=float32, "
        "or take the documents out: starsmith corpus remove",
    )


def _row(number: int, batch: "Batch", nats: NDArray[np.float32] | None, table: "pa.Table") -> dict[str, Any]:
    starts = np.cumsum([0, *batch.lengths])
    sequences = []
    for place, (length, numbers) in enumerate(zip(batch.lengths, batch.documents, strict=True)):
        own = None if nats is None else bool(np.isfinite(nats[starts[place] : starts[place + 1]]).all())
        origins = table.select(["repository", "commit", "path", "license", "swhid"]).take(list(numbers)).to_pylist()
        labels = {"kind": batch.kinds[place], "language": batch.languages[place]}
        sequences.append({"tokens": length, **labels, "finite": own, "documents": origins})
    return {"row": number, "sequences": sequences}


def _named(rows: Sequence[dict[str, Any]], *, bad_only: bool) -> str:
    """The first documents of the (bad) sequences, one a line, each once, and how many more there are."""
    chosen = [sequence for row in rows for sequence in row["sequences"] if not bad_only or sequence["finite"] is False]
    names = dict.fromkeys(
        f"{origin['repository']} {origin['path']} {origin['swhid']}"
        for sequence in chosen
        for origin in sequence["documents"]
    )
    shown = list(names)[:NAMED_DOCUMENTS]
    more = [f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else []
    return "\n  ".join([f"read from {len(names)} document{'s' * (len(names) != 1)}:", *shown, *more])


def _numbers(rows: Sequence[int]) -> str:
    """Row numbers, shortened where there are many."""
    shown = ", ".join(map(str, rows[:8]))
    return f"row{'s' * (len(rows) != 1)} {shown}" + (f", ... {rows[-1]}" if len(rows) > 8 else "")


def _deviations(window: Iterable[float], middle: float, value: float) -> float:
    """How far a value lies above the median of a window, in robust standard deviations."""
    spread = MAD_TO_SIGMA * median([abs(other - middle) for other in window])
    return (value - middle) / max(spread, 1e-9)


def _logarithm(norm: float) -> float:
    return math.log(max(norm, 1e-12))
