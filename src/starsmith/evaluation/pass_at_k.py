"""Counts of right samples become pass@k: unbiased, with an interval, and absent where there are too few samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from starsmith.evaluation.statistics import bootstrap_mean, wilson

KS = (1, 5, 10, 20, 50, 100)

Counts = Sequence[tuple[int, int]]  # of each problem: samples, and those of them that are right


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float
    method: str  # how the interval was made
    problems: int

    def as_json(self) -> dict[str, float | str | int]:
        """As results.json has it, to six digits."""
        return {
            "value": round(self.value, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "interval": self.method,
            "problems": self.problems,
        }


def pass_at_k(samples: int, right: int, k: int) -> float | None:
    """Chance that one of `k` samples is right, unbiased (Chen et al. 2021, arXiv 2107.03374); None when samples < k.

    The product has only factors in [0, 1], where the binomials of the definition overflow.
    """
    if not 0 <= right <= samples or k < 1:
        raise ValueError(f"{right} right of {samples}, k={k}")
    if samples < k:
        return None
    if samples - right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / number for number in range(samples - right + 1, samples + 1))


def estimate(counts: Counts, k: int, *, seed: int = 0) -> Estimate | None:
    """pass@k over problems; None where a problem has fewer than k samples, or there is no problem."""
    values = [pass_at_k(samples, right, k) for samples, right in counts]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean = math.fsum(known) / len(known)
    single = all(samples == 1 for samples, _ in counts)
    if single or set(known) <= {0.0} or set(known) <= {1.0}:  # drawn again, equal values would give an interval of 0
        low, high = wilson(round(mean * len(known)), len(known))
        return Estimate(mean, low, high, "Wilson over problems", len(known))
    low, high = bootstrap_mean(known, seed=seed)
    return Estimate(mean, low, high, f"bootstrap over problems, seed {seed}", len(known))


def estimates(counts: Counts, *, seed: int = 0) -> dict[str, Estimate]:
    """Every pass@k that the counts allow."""
    found = {f"pass@{k}": estimate(counts, k, seed=seed) for k in KS}
    return {name: value for name, value in found.items() if value is not None}
