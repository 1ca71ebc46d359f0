"""What a benchmark is made of: problems with their prompts and tests, and the protocol by which a score is published.

Problem -> (a model writes) -> completion -> candidate -> (tests, a truth or a scanner judge it) -> verdict
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from starsmith.core.errors import ConfigError

Mode = Literal["split", "same"]  # tests in a process of their own, or behind the candidate in the same program
Judge = Literal["execution", "exact", "scan"]
Row = Mapping[str, Any]  # of a benchmark's file

FILL_IN = ("psm", "spm")


@dataclass(frozen=True, kw_only=True)
class Tests:
    """What the execution needs to judge a candidate."""

    source: str  # trusted
    name: str = "base"  # HumanEval+ and MBPP+ have two sets: base and plus
    driver: str = ""  # put behind the candidate, on its side, such as a loop over all inputs
    entry_point: str | None = None  # the function that the tests call
    mode: Mode = "split"
    language: str = "python"
    cpu_s: float | None = None  # None: the execution's own limit
    memory_bytes: int | None = None  # likewise


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One task of a benchmark."""

    id: str
    prompt: str
    suffix: str | None = None  # fill in between; None: continue the prompt
    head: str = ""  # the candidate is head + completion + tail ...
    tail: str = ""
    tests: tuple[Tests, ...] = ()  # ... and passes when all of these do
    truth: str | None = None  # what an exact match compares with
    stop: tuple[str, ...] = ()  # beside those of the protocol
    group: str = ""  # library, language or weakness; scores are also given for each
    reference: str | None = None  # a completion that is known to be right
    chat: str | None = None  # what a chat model is asked; None: the prompt


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How completions are drawn. A benchmark's own values are those of StarCoder2's published scores."""

    samples: int = 1  # for each problem
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512  # of the completion alone
    layout: str = "psm"  # of infilling prompts: psm or spm
    stop: tuple[str, ...] = ()  # a completion ends before the first of these
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_tokens < 1:
            raise ConfigError(
                f"samples={self.samples}, max_tokens={self.max_tokens}: both must be at least 1",
                hint="leave them out for the benchmark's own values",
            )
        if self.layout not in FILL_IN:
            raise ConfigError(f"layout={self.layout!r}: wanted psm or spm", hint="the default is psm")
        if not 0 <= self.temperature <= 100 or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"temperature={self.temperature}, top_p={self.top_p}: out of range",
                hint="temperature from 0 to 100, top_p above 0 and at most 1",
            )

    def deviations(self, published: "Protocol") -> dict[str, dict[str, Any]]:
        """Where this is not the published one, field by field; the seed is nobody's protocol."""
        names = [name for name in published.__dataclass_fields__ if name != "seed"]
        pairs = {name: (getattr(published, name), getattr(self, name)) for name in names}
        return {name: {"published": old, "used": new} for name, (old, new) in pairs.items() if old != new}


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop word."""
    return text[: min((place for stop in stops if stop and (place := text.find(stop)) >= 0), default=len(text))]


def join_candidate(problem: Problem, completion: str) -> str:
    """The usual candidate: what stands around the completion, and the completion."""
    return problem.head + completion + problem.tail


def cut_completion(problem: Problem, protocol: Protocol, text: str) -> str:
    """The usual post-processing: everything from the first stop word on is not part of the answer."""
    return cut_at(text, (*protocol.stop, *problem.stop))


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark: how its files are read, its completions drawn, and its candidates judged."""

    name: str
    title: str
    files: tuple[str, ...]  # names that the file goes by, without .gz
    problems: Callable[[Sequence[Row]], list[Problem]]
    protocol: Protocol
    source: str  # of the protocol
    judge: Judge = "execution"
    candidate: Callable[[Problem, str], str] = join_candidate
    finish: Callable[[Problem, Protocol, str], str] = cut_completion
    check_references: bool = False  # run the known answers, too: which pass depends on the installed libraries
    preload: tuple[str, ...] = ()  # modules that the candidates import
    metric: str = "pass"  # of one sample; the score is metric@k

    def with_protocol(self, **fields: Any) -> "Task":
        """The same benchmark by another protocol."""
        return replace(self, protocol=replace(self.protocol, **fields))
