"""Two evaluations of one benchmark, paired by problem: the difference, how sure it is, and which problems changed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from starsmith.core.errors import InputError
from starsmith.evaluation.statistics import bootstrap_mean, mcnemar, paired_shares

Counts = Mapping[str, tuple[int, int]]  # problem -> samples, and those of them that are right


@dataclass(frozen=True)
class Change:
    """A problem that one model solves more often than the other."""

    problem: str
    first: float  # share of right samples
    second: float


@dataclass(frozen=True)
class Comparison:
    """Second model against first."""

    problems: int  # that both have
    first: float  # pass@1 over these
    second: float
    low: float  # 95 % interval of second minus first
    high: float
    method: str
    p: float | None  # exact McNemar; None where problems have several samples, and no pairs of outcomes
    gained: tuple[Change, ...]
    lost: tuple[Change, ...]
    left_out: tuple[str, ...]  # problems that only one of them has

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first


def compare(first: Counts, second: Counts, *, seed: int = 0) -> Comparison:
    """Pair the problems that both have; pass@1 is the share of right samples."""
    shared = [problem for problem in first if problem in second and first[problem][0] and second[problem][0]]
    if not shared:
        raise InputError(
            "the two evaluations share no problem", hint="compare two evaluations of one task: starsmith evaluate"
        )
    shares = {problem: (_share(first[problem]), _share(second[problem])) for problem in shared}
    changes = [Change(problem, *pair) for problem, pair in shares.items() if pair[0] != pair[1]]
    gained = tuple(change for change in changes if change.second > change.first)
    lost = tuple(change for change in changes if change.second < change.first)
    single = all(counts[problem][0] == 1 for counts in (first, second) for problem in shared)
    if single:
        low, high = paired_shares(len(lost), len(gained), len(shared))
    else:
        low, high = bootstrap_mean([after - before for before, after in shares.values()], seed=seed)
    return Comparison(
        problems=len(shared),
        first=math.fsum(before for before, _ in shares.values()) / len(shared),
        second=math.fsum(after for _, after in shares.values()) / len(shared),
        low=low,
        high=high,
        method="Bonett and Price, paired" if single else f"paired bootstrap over problems, seed {seed}",
        p=mcnemar(len(lost), len(gained)) if single else None,
        gained=gained,
        lost=lost,
        left_out=tuple(sorted(set(first) ^ set(second))),
    )


def _share(counts: tuple[int, int]) -> float:
    samples, right = counts
    return right / samples
