"""How the loss falls with size and with tokens: runs of a study become a law, and a law becomes advice for a budget.

    L(N, D) = E + A / N^alpha + B / D^beta          (Hoffmann et al. 2022, arXiv 2203.15556, approach 3)

fitted as there: in the logarithm of the loss, with Huber's loss so that a run gone wrong weighs little, from many
starts. The intervals come from refitting to runs drawn with replacement. With C = 6 N D operations the best size is

    N = G (C / 6)^(beta / (alpha + beta)),  G = (alpha A / (beta B))^(1 / (alpha + beta)),  D = C / (6 N)

N counts the weights that each token is multiplied with, the output head included (`ModelConfig.matrix_parameters`):
at the sizes of a small study the head is a large part of the work, and leaving it out bends the law (Pearce and Song
2024, arXiv 2406.12907). What lies beyond the largest run of a study is extrapolation, and is called so.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsmith.core.errors import InputError
from starsmith.model.config import ModelConfig

FILE = "data/scaling.json"  # the study that plans are made from; absent until one has been run
HUBER_DELTA = 1e-3  # Hoffmann et al.'s
RESAMPLES = 400
LEAST_RUNS, LEAST_SIZES, LEAST_BUDGETS = 6, 3, 2  # for five numbers to be told apart at all
RULE_TOKENS_PER_PARAMETER = 20  # Hoffmann et al.'s own finding, in round numbers
INTERVAL = (0.025, 0.975)
LARGEST_BUDGET = 1e30  # beyond it, a slip of the finger
_ITERATIONS, _DAMPING = 400, (1e-3, 1e10)
_STEEPEST = 4.0  # bounds on alpha and beta, from 0.01: beyond them the runs say nothing about that term

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run of a study."""

    parameters: int  # matrix parameters
    tokens: int
    loss: float
    budget: float  # operations it was given
    epochs: float  # times that it read the corpus

    @property
    def flops(self) -> float:
        """6 N D."""
        return 6.0 * self.parameters * self.tokens


@dataclass(frozen=True)
class Law:
    """The five numbers."""

    irreducible: float  # E
    size_factor: float  # A
    data_factor: float  # B
    size_exponent: float  # alpha
    data_exponent: float  # beta

    def loss(self, parameters: float, tokens: float) -> float:
        """Predicted loss."""
        by_size = self.size_factor * math.pow(parameters, -self.size_exponent)
        return self.irreducible + by_size + self.data_factor * math.pow(tokens, -self.data_exponent)

    def optimum(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) of the lowest loss for so many operations."""
        both = self.size_exponent + self.data_exponent
        ratio = self.size_exponent * self.size_factor / (self.data_exponent * self.data_factor)
        parameters = ratio ** (1 / both) * (flops / 6) ** (self.data_exponent / both)
        return parameters, flops / 6 / parameters


@dataclass(frozen=True)
class Advice:
    """What a study says of a budget."""

    flops: float
    parameters: float
    tokens: float
    loss: float
    parameters_interval: tuple[float, float]  # 95 %
    beyond: float  # times the largest budget of the study; above 1 it is extrapolation


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs, the law fitted to them, and how they came about."""

    date: str
    command: str
    machine: str
    unit: str  # of the loss
    runs: tuple[Run, ...]
    law: Law
    resampled: tuple[Law, ...]

    @cached_property
    def largest(self) -> float:
        """Operations of the largest run."""
        return max(run.flops for run in self.runs)

    def advise(self, flops: float) -> Advice:
        """Size and tokens for a budget."""
        if not 0 < flops < LARGEST_BUDGET:
            raise InputError(f"a budget of {flops:g} operations is none", hint="give, for example, --flops 1e21")
        parameters, tokens = self.law.optimum(flops)
        low, high = np.quantile([law.optimum(flops)[0] for law in self.resampled], INTERVAL)
        loss = self.law.loss(parameters, tokens)
        return Advice(flops, parameters, tokens, loss, (float(low), float(high)), flops / self.largest)

    def interval(self, name: str) -> tuple[float, float]:
        """95 % of what resampling gives for one of the law's numbers."""
        low, high = np.quantile([getattr(law, name) for law in self.resampled], INTERVAL)
        return float(low), float(high)

    def save(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        values = {**asdict(self), "law": asdict(self.law), "resampled": [_rounded(law) for law in self.resampled]}
        partial = path.with_name(path.name + ".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


def own_study() -> Study | None:
    """The study that came with the package, if one did."""
    file = resources.files("starsmith.training").joinpath(FILE)
    return parse(file.read_text(encoding="utf-8"), FILE) if file.is_file() else None


def parse(text: str, where: str) -> Study:
    """A study from what `save` wrote."""
    try:
        values: dict[str, Any] = json.loads(text)
        runs = tuple(Run(**run) for run in values.pop("runs"))
        law, resampled = Law(**values.pop("law")), tuple(Law(*numbers) for numbers in values.pop("resampled"))
        return Study(**values, runs=runs, law=law, resampled=resampled)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{where} is no scaling study: {error!r}", hint="write it again: python benchmarks/scaling.py"
        ) from None


def fit(runs: Sequence[Run], *, seed: int = 0) -> tuple[Law, tuple[Law, ...]]:
    """The law of the runs, and those of runs drawn anew."""
    sizes, budgets = {run.parameters for run in runs}, {run.budget for run in runs}
    if len(runs) < LEAST_RUNS or len(sizes) < LEAST_SIZES or len(budgets) < LEAST_BUDGETS:
        raise InputError(
            f"{len(runs)} runs of {len(sizes)} sizes and {len(budgets)} budgets do not determine a scaling law",
            hint=f"run at least {LEAST_RUNS}, of {LEAST_SIZES} sizes and {LEAST_BUDGETS} budgets",
        )
    points = _Points.of(runs)
    starts = _starts(points)
    found, cost = _descend(starts, points, np.ones((len(starts), len(runs))))
    best = found[int(np.argmin(cost))]
    drawn = np.random.default_rng(seed).integers(len(runs), size=(RESAMPLES, len(runs)))
    counts = np.stack([np.bincount(row, minlength=len(runs)) for row in drawn]).astype(float)
    again, _ = _descend(np.repeat(best[None], RESAMPLES, 0), points, counts)
    return points.law(best), tuple(points.law(numbers) for numbers in again)


def shape_for(parameters: float, *, vocab_size: int = 49_152) -> ModelConfig:
    """A StarCoder2 of about so many matrix parameters, as wide for its depth as the published ones."""
    widths = (*range(128, 1024, 128), *range(1024, 12_289, 256))
    return min(
        (_shape(width, layers, vocab_size) for width in widths for layers in range(2, 81)),
        key=lambda model: (
            abs(math.log(model.matrix_parameters / parameters))
            + 0.1 * abs(math.log(model.hidden_size / model.num_hidden_layers / 100))
        ),
    )


def _shape(width: int, layers: int, vocab_size: int) -> ModelConfig:
    heads = width // (128 if width >= 1024 else 64)  # 128 wide in all published sizes
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=4 if width > 3072 and heads % 4 == 0 else 2,
    )


@dataclass(frozen=True)
class _Points:
    """Logarithms of sizes and tokens about their means, so that factors and exponents are not entangled."""

    size: Array
    tokens: Array
    loss: Array
    centre: tuple[float, float]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "_Points":
        size, tokens = (np.log([getattr(run, name) for run in runs]) for name in ("parameters", "tokens"))
        centre = float(size.mean()), float(tokens.mean())
        return cls(size - centre[0], tokens - centre[1], np.log([run.loss for run in runs]), centre)

    def law(self, numbers: Array) -> Law:
        e, a, b, alpha, beta = (float(number) for number in numbers)
        return Law(math.exp(e), math.exp(a + alpha * self.centre[0]), math.exp(b + beta * self.centre[1]), alpha, beta)


def _starts(points: _Points) -> Array:
    """Splits of the mean loss among the three terms, and slopes."""
    mean = float(points.loss.mean())
    shares = [(e, a) for e in (0.02, 0.2, 0.5, 0.8) for a in (0.1, 0.3, 0.5, 0.7) if e + a < 0.95]
    slopes = itertools.product((0.1, 0.3, 0.6, 1.0), repeat=2)
    rows = [
        (mean + math.log(e), mean + math.log(a), mean + math.log(1 - e - a), alpha, beta)
        for (e, a), (alpha, beta) in itertools.product(shares, slopes)
    ]
    return np.array(rows)


def _descend(starts: Array, points: _Points, counts: Array) -> tuple[Array, Array]:
    """Levenberg-Marquardt with Huber's weights, from all (S, 5) starts at once; (S, 5) ends and their (S,) costs.

    counts  (S, R) how often each run counts
    """
    numbers, damping = starts.copy(), np.full(len(starts), 1e-2)
    residuals, slopes = _residuals(numbers, points)
    cost = _cost(residuals, counts)
    for _ in range(_ITERATIONS):
        weights = counts * np.minimum(1.0, HUBER_DELTA / np.maximum(np.abs(residuals), 1e-300))
        gradient = np.einsum("sr,srk->sk", weights * residuals, slopes)
        curvature = np.einsum("sr,srk,srl->skl", weights, slopes, slopes)
        scale = np.einsum("skk->sk", curvature) + 1e-12
        damped = curvature + damping[:, None, None] * np.einsum("sk,kl->skl", scale, np.eye(5))
        tried = numbers - np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
        tried[:, 3:] = tried[:, 3:].clip(0.01, _STEEPEST)
        tried[:, :3] = tried[:, :3].clip(-30, 30)
        new_residuals, new_slopes = _residuals(tried, points)
        new_cost = _cost(new_residuals, counts)
        better = new_cost < cost
        numbers[better], cost[better] = tried[better], new_cost[better]
        residuals[better], slopes[better] = new_residuals[better], new_slopes[better]
        damping = np.where(better, damping / 3, damping * 4).clip(1e-12, _DAMPING[1])
        if not better.any() and damping.min() >= _DAMPING[1]:
            break
    return numbers, cost


def _residuals(numbers: Array, points: _Points) -> tuple[Array, Array]:
    """(S, R) errors of the log-loss, and their (S, R, 5) derivatives."""
    e, a, b, alpha, beta = numbers.T[:, :, None]
    by_size, by_tokens = a - alpha * points.size, b - beta * points.tokens
    total = np.logaddexp(np.logaddexp(by_size, by_tokens), e)
    shares = [np.exp(part - total) for part in (np.broadcast_to(e, total.shape), by_size, by_tokens)]
    slopes = np.stack([*shares, -shares[1] * points.size, -shares[2] * points.tokens], axis=2)
    return total - points.loss, slopes


def _cost(residuals: Array, counts: Array) -> Array:
    size = np.abs(residuals)
    each = np.where(size <= HUBER_DELTA, size**2 / 2, HUBER_DELTA * (size - HUBER_DELTA / 2))
    return np.asarray((counts * each).sum(axis=1))


def _rounded(law: Law) -> list[float]:
    return [float(f"{number:.5g}") for number in astuple(law)]
