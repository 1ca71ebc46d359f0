"""Intervals for the shares that an evaluation reports."""

import math
from collections.abc import Sequence

import numpy as np

Z_95 = 1.959963984540054  # two-sided 95 % of the normal distribution
RESAMPLES = 10_000


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): holds its level for shares near 0, where a small model's lie."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, Z_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a mean over problems: problems are drawn again, not samples within one.

    Problems are what a benchmark has few of. Equal values are drawn together, by one multinomial draw, which is the
    same distribution and needs no table of indices.
    """
    if not values:
        raise ValueError("no values")
    distinct, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    random = np.random.Generator(np.random.Philox(seed))
    drawn = random.multinomial(len(values), counts / len(values), size=RESAMPLES)
    low, high = np.quantile(drawn @ distinct / len(values), (0.025, 0.975))
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test: how likely so uneven a split of the changed problems is by chance."""
    changed = only_first + only_second
    fewer = min(only_first, only_second)
    tail = sum(math.comb(changed, number) for number in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**changed))


def paired_shares(only_first: int, only_second: int, pairs: int) -> tuple[float, float]:
    """95 % interval of second minus first share over pairs (Bonett and Price 2012).

    Their Wald interval with one pair added to each kind of change does not shrink to a point where nothing changed.
    """
    gained, lost = (only_second + 1) / (pairs + 2), (only_first + 1) / (pairs + 2)
    half = Z_95 * math.sqrt((gained + lost - (gained - lost) ** 2) / (pairs + 2))
    return max(gained - lost - half, -1.0), min(gained - lost + half, 1.0)
