"""Scores that others published, to stand beside ours, each with who says so. Only what could be traced is here.

Prompts, stop words and libraries differ between the sources, so these are landmarks, not opponents in a paired test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

CARD = "model card, bigcode/starcoder2"
SECOND_HAND = "second-hand, by another model's report"


@dataclass(frozen=True)
class Published:
    """One model's score on one of our tasks."""

    model: str
    task: str
    tests: str
    percent: float  # pass@1, or exact match
    source: str


def _row(model: str, source: str, *scores: tuple[str, str, float]) -> list[Published]:
    return [Published(model, task, tests, percent, source) for task, tests, percent in scores]


# DS-1000 and CRUXEval as the cards have them: completion, and input prediction.
SCORES: Sequence[Published] = (
    *_row(
        "StarCoder2-3B",
        f"{CARD}-3b",
        ("humaneval", "base", 31.7),
        ("humaneval+", "base", 31.7),
        ("humaneval+", "plus", 27.4),
        ("ds1000-completion", "base", 25.0),
        ("cruxeval-i", "base", 32.7),
    ),
    *_row(
        "StarCoder2-7B",
        f"{CARD}-7b",
        ("humaneval", "base", 35.4),
        ("humaneval+", "base", 35.4),
        ("humaneval+", "plus", 29.9),
        ("ds1000-completion", "base", 27.8),
        ("cruxeval-i", "base", 34.6),
    ),
    *_row(
        "StarCoder2-15B",
        f"{CARD}-15b",
        ("humaneval", "base", 46.3),
        ("humaneval+", "base", 46.3),
        ("humaneval+", "plus", 37.8),
        ("mbpp+", "base", 66.2),
        ("mbpp+", "plus", 53.1),
        ("ds1000-completion", "base", 33.8),
        ("cruxeval-i", "base", 48.1),
        ("cruxeval-o", "base", 47.1),
    ),
    *_row("StarCoder2-15B", SECOND_HAND, ("multipl-e-cpp", "base", 41.4)),
    *_row("StarCoder2-7B", SECOND_HAND, ("multipl-e-cpp", "base", 33.6)),
    *_row("StarCoderBase-15B", "Li et al. 2023, by way of others", ("humaneval", "base", 30.4)),
    *_row("StarCoder-15B", "Li et al. 2023, by way of others", ("humaneval", "base", 33.6)),
    *_row("Code Llama 13B", SECOND_HAND, ("multipl-e-cpp", "base", 37.4)),
    *_row("DeepSeek-Coder 33B", SECOND_HAND, ("multipl-e-cpp", "base", 51.2)),
)


def beside(task: str, tests: str) -> list[Published]:
    """What there is for one task, best first."""
    found = [one for one in SCORES if (one.task, one.tests) == (task, tests)]
    return sorted(found, key=lambda one: -one.percent)
