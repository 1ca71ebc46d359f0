"""Scored windows become rates with intervals: how much of a corpus a model gives back, beside text it never saw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from starsmith.evaluation.extraction import Score
from starsmith.evaluation.statistics import wilson

DIGITS = 4  # of stored figures: more are noise of the arithmetic


@dataclass(frozen=True)
class Outcome:
    """One window in one context."""

    file: str  # its SWHID
    score: Score


def newcombe(successes: tuple[int, int], trials: tuple[int, int]) -> tuple[float, float]:
    """95 % interval of the difference of two independent shares, first minus second (Newcombe 1998, method 10)."""
    if 0 in trials:
        return -1.0, 1.0
    shares = [count / number for count, number in zip(successes, trials, strict=True)]
    (low_1, high_1), (low_2, high_2) = (wilson(*pair) for pair in zip(successes, trials, strict=True))
    difference = shares[0] - shares[1]
    below = math.hypot(shares[0] - low_1, high_2 - shares[1])
    above = math.hypot(high_1 - shares[0], shares[1] - low_2)
    return max(difference - below, -1.0), min(difference + above, 1.0)


def rates(outcomes: Sequence[Outcome], samples: Sequence[int], probabilities: Sequence[float]) -> dict[str, Any]:
    """The figures of one group; where it is empty there are none, which is not the same as a rate of 0."""
    scores = [outcome.score for outcome in outcomes]
    figures: dict[str, Any] = {"windows": len(outcomes), "files": len({outcome.file for outcome in outcomes})}
    if not outcomes:
        return {**figures, "extracted": None, "median_log_prob": None, "discoverable": None}
    grid = [
        {"n": n, "p": p, **_share(sum(one.samples_needed(p) <= n for one in scores), len(scores))}
        for n in samples
        for p in probabilities
    ]
    return {
        **figures,
        "extracted": _share(sum(one.extracted for one in scores), len(scores)),
        "median_log_prob": round(median(one.log_prob for one in scores), DIGITS),
        "discoverable": grid,
    }


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any] | None:
    """First minus second, of greedy extraction and of each cell of the grid; None where one of them is empty."""
    if first["extracted"] is None or second["extracted"] is None:
        return None
    trials = (first["windows"], second["windows"])
    cells = zip(first["discoverable"], second["discoverable"], strict=True)
    return {
        "extracted": _difference((first["extracted"]["count"], second["extracted"]["count"]), trials),
        "discoverable": [
            {"n": one["n"], "p": one["p"], **_difference((one["count"], other["count"]), trials)}
            for one, other in cells
        ],
    }


def _share(count: int, trials: int) -> dict[str, Any]:
    return {"count": count, "share": round(count / trials, DIGITS), "share_95": _rounded(wilson(count, trials))}


def _difference(successes: tuple[int, int], trials: tuple[int, int]) -> dict[str, Any]:
    first, second = (count / number for count, number in zip(successes, trials, strict=True))
    return {"difference": round(first - second, DIGITS), "difference_95": _rounded(newcombe(successes, trials))}


def _rounded(bounds: tuple[float, float]) -> list[float]:
    return [round(bound, DIGITS) for bound in bounds]
