"""What a run tells of itself: metrics.jsonl, TensorBoard event files, and the line that a person watches.

One JSON object a step; other lines are events (`"event": "spike"`, ...). A number that is not finite is null. The
lines go up in steps: a run that is resumed or goes back first forgets what came after the step it goes on from, so
that a step never stands there twice. TensorBoard is told to forget the same.
"""

import json
import math
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsmith.core.errors import ArtifactError
from starsmith.training.data import Batch
from starsmith.training.event_file import EventFile

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"  # in run/
# Field of a line -> tag in TensorBoard, whose part before the slash is the group of charts.
TAGS = {
    "loss": "training/loss",
    "learning_rate": "training/learning_rate",
    "gradient_norm": "training/gradient_norm",
    "held_out_bits_per_byte": "held_out/bits_per_byte",
    "held_out_exact_match": "held_out/exact_match",
    "tokens_per_second": "speed/tokens_per_second",
    "mfu": "speed/mfu",
    "tokens": "data/tokens",
    "epoch": "data/epoch",
}
SPEED_STEPS = 20  # that tokens per second are a mean of
PEAK_SECONDS, PEAK_SIZE = 0.3, 2048  # of the matrix product that stands for a device's peak

Sums = dict[str, list[float]]  # name -> [nats, tokens]


class Tally:
    """Losses of a step by kind of training example and by language: [nats, tokens] each."""

    def __init__(self) -> None:
        self.by_kind: Sums = {}
        self.by_language: Sums = {}

    def add(self, batch: Batch, nats: NDArray[np.float32]) -> None:
        """Count a batch whose tokens, in order, cost `nats` (0 where no loss is taken: the last of each sequence)."""
        lengths = np.asarray(batch.lengths, np.int64)
        costs = np.add.reduceat(nats.astype(np.float64), lengths.cumsum() - lengths).tolist()
        for cost, length, kind, language in zip(costs, batch.lengths, batch.kinds, batch.languages, strict=True):
            _add(self.by_kind, kind, cost, length - 1)
            _add(self.by_language, language, cost, length - 1)

    def merge(self, other: "Tally") -> None:
        """Count what another rank counted."""
        for mine, theirs in ((self.by_kind, other.by_kind), (self.by_language, other.by_language)):
            for name, (nats, tokens) in theirs.items():
                _add(mine, name, nats, tokens)

    def fields(self) -> dict[str, Sums]:
        """The fields `by_kind` and `by_language` of a line, in the order of their names."""
        return {"by_kind": dict(sorted(self.by_kind.items())), "by_language": dict(sorted(self.by_language.items()))}


class Speed:
    """Tokens per second over the latest steps; what is done between steps (saving, measuring) does not count."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, float]] = deque(maxlen=SPEED_STEPS)

    def step(self, tokens: int, seconds: float) -> float:
        """Count a step; the mean over the latest ones."""
        self._steps.append((tokens, seconds))
        return sum(count for count, _ in self._steps) / max(sum(taken for _, taken in self._steps), 1e-9)


class MetricsLog:
    """Writes the metrics of a run; a context manager. `step` is the last step of the state that it goes on from."""

    def __init__(self, run: Path, *, step: int = 0) -> None:
        self._path, self._events = run / METRICS, run / TENSORBOARD
        self._open(step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Append the line of a step, or an event's; it is on its way to the disk when this returns."""
        self._file.write(json.dumps(_finite(line), allow_nan=False) + "\n")
        self._file.flush()
        if "event" not in line:
            self._board.scalars(int(line["step"]), scalars_of(line))

    def rewind(self, step: int, event: Mapping[str, Any]) -> None:
        """Forget the lines after `step` and write down, as an event of that step, why the run went back to it."""
        self.close()
        self._open(step)
        self.write({**event, "event": "rewind", "step": step})

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._board.close()

    def _open(self, step: int) -> None:
        keep_lines(self._path, step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = EventFile(self._events, first_step=step + 1)


def keep_lines(path: Path, step: int) -> None:
    """Leave only the whole lines up to `step`; a last line that a kill tore is dropped."""
    if not path.is_file():
        return
    lines = path.read_bytes().split(b"\n")
    kept = []
    for number, line in enumerate(lines, start=1):
        found = _parse(line)
        if found is not None and found["step"] <= step:
            kept.append(line + b"\n")
        elif found is None and line and number < len(lines) - (not lines[-1]):
            raise ArtifactError(
                f"{path} line {number} is no line of metrics: {line[:60]!r}",
                hint="take the line out, or move the file away: the run goes on without it",
            )
    partial = path.with_suffix(".partial")
    partial.write_bytes(b"".join(kept))
    partial.replace(path)


def scalars_of(line: Mapping[str, Any]) -> dict[str, float]:
    """What TensorBoard shows of a line."""
    found = {tag: line.get(name) for name, tag in TAGS.items()}
    for group in ("by_kind", "by_language"):
        for name, (nats, tokens) in (line.get(group) or {}).items():
            found[f"loss_{group}/{name}"] = nats / tokens if tokens else None
    return {tag: float(value) for tag, value in found.items() if value is not None and math.isfinite(value)}


def progress_text(line: Mapping[str, Any], *, seconds_left: float | None = None) -> str:
    """The note at the progress bar: under 80 characters as a rule, in an order that lets the end be cut off.

    The last part is the position in the data: epochs, and in brackets tokens.
    """
    parts = [f"loss {line['loss']:.3f}", f"{_short(line['tokens_per_second'])} tok/s"]
    if line.get("mfu") is not None:
        parts.append(f"MFU {100 * line['mfu']:.0f} %")
    if seconds_left is not None:
        parts.append(f"{_duration(seconds_left)} left")
    if line.get("gradient_norm") is not None:
        parts.append(f"grad {line['gradient_norm']:.2f}")
    if line.get("epoch") is None:
        parts.append(f"{_short(line['tokens'])} tokens")
    else:
        parts.append(f"epoch {line['epoch']:.2f} ({_short(line['tokens'])})")
    return ", ".join(parts)


def model_flops_utilisation(tokens_per_second: float, flops_per_token: float, peak_flops: float | None) -> float | None:
    """Share of the peak that the model's own arithmetic uses (PaLM's MFU); None where the peak is not known.

    flops_per_token  forward and backward, without what is computed twice to save memory
    peak_flops       of all devices together
    """
    return None if peak_flops is None else tokens_per_second * flops_per_token / peak_flops


def measured_peak(device: Any, dtype: Any) -> float:
    """FLOP/s of a large matrix product here and now: what stands for the peak where no data sheet is known.

    Takes 0.3 seconds. On a machine that does other work at the same time it comes out low, and an MFU of it high.
    """
    import torch

    one = torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(dtype)
    other = one.T.contiguous()
    best, began = math.inf, time.perf_counter()
    while time.perf_counter() - began < PEAK_SECONDS or best == math.inf:
        started = time.perf_counter()
        product = one @ other
        if product.is_cuda:
            torch.cuda.synchronize(product.device)
        best = min(best, time.perf_counter() - started)
    return 2 * PEAK_SIZE**3 / best


def _add(sums: Sums, name: str, nats: float, tokens: float) -> None:
    entry = sums.setdefault(name, [0.0, 0])
    entry[0] += nats
    entry[1] += tokens


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object in a line, if it is one and has a step."""
    with suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict) and isinstance(found.get("step"), int):
            return found
    return None


def _finite(value: Any) -> Any:
    """The same with null for what is not finite, which JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _short(number: float) -> str:
    """1234567 as 1.23M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}" if number < 1000 * size else f"{number / size:.0f}{unit}"
    return f"{number:.0f}"


def _duration(seconds: float) -> str:
    """As a person says it: 45 s, 12 min, 3h20m, 5d4h."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    return f"{minutes // 1440}d{minutes % 1440 // 60}h"
