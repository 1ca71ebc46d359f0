"""What the metrics of a run show: curves against the tokens read, thinned so that a page can hold any run.

Lines of earlier versions, without the newer fields, give fewer curves. Where a curve is thinned each point is the mean
over a stretch of steps, and the band around it goes from the least to the largest value there.
"""

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from starsmith.evaluation import plots
from starsmith.evaluation.plots import Mark, Series

MOST_POINTS = 300  # of a curve
MOST_GROUP_POINTS = 80  # of a curve by kind or language, whose batches are small and noisy
MOST_LANGUAGES = 5  # by tokens; the others are one curve
MOST_EVENTS = 12  # rows of the table of events
KINDS = {
    "left-to-right": "left to right",
    "psm": "infill, PSM",
    "spm": "infill, SPM",
    "repository": "repository as one",
}
_EVENTS = {"spike": "noted", "skip": "update left out", "rewind": "went back"}

Line = dict[str, Any]
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Curve:
    """A figure with its words."""

    title: str
    svg: str
    wide: bool = False
    narrow_svg: str = ""  # of a wide one, for a narrow screen


@dataclass(frozen=True)
class Training:
    """The part of a page that tells of training."""

    steps: int
    tokens: int
    epoch: float | None
    seconds: float
    loss: float | None  # at the end
    curves: Sequence[Curve] = ()
    events: Sequence[Line] = ()
    more_events: int = 0
    finished: bool = True
    exact_match: float | None = None  # on held-out lines, at the end
    has_reference: bool = field(default=False)


def read(path: Path) -> tuple[list[Line], list[Line]]:
    """(lines of steps, lines of events) of a metrics file; a last line that is being written is left out."""
    steps: list[Line] = []
    events: list[Line] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        (events if "event" in line else steps).append(line)
    return steps, events


def describe(path: Path, *, reference: float | None, finished: bool) -> Training | None:
    """The curves of a metrics file; None where it has no step.

    reference  bits per byte of something plain, to compare with
    """
    steps, events = read(path)
    if not steps:
        return None
    last = steps[-1]
    matches = [line["held_out_exact_match"] for line in steps if line.get("held_out_exact_match") is not None]
    told = [_event(event) for event in events if event["event"] in _EVENTS]
    return Training(
        steps=last["step"],
        tokens=last["tokens"],
        epoch=last.get("epoch"),
        seconds=_clock(steps)[-1],
        loss=last.get("loss"),
        curves=[curve for curve in _curves(steps, events, reference) if curve.svg],
        events=told[:MOST_EVENTS],
        more_events=max(len(told) - MOST_EVENTS, 0),
        finished=finished,
        exact_match=matches[-1] if matches else None,
        has_reference=reference is not None,
    )


def thinned(lines: Sequence[Line], value: Callable[[Line], float | None], label: str, points: int) -> Series:
    """A curve of at most `points` points against millions of tokens."""
    pairs = [(line["tokens"] / 1e6, found) for line in lines if (found := value(line)) is not None]
    xs, ys, low, high = [], [], [], []
    for part in _parts(pairs, points):
        values = [y for _, y in part]
        xs.append(part[-1][0])
        ys.append(math.fsum(values) / len(values))
        low.append(min(values))
        high.append(max(values))
    return Series(label, xs, ys, low, high)


def by_group(lines: Sequence[Line], name: str, labels: dict[str, str], most: int) -> list[Series]:
    """Loss by kind or language: the groups with the most tokens, and all others together."""
    counted: dict[str, float] = defaultdict(float)
    for line in lines:
        for group, (_, tokens) in (line.get(name) or {}).items():
            counted[group] += tokens
    shown = sorted(counted, key=lambda group: (-counted[group], group))
    named = shown[:most] if len(shown) > most + 1 else shown
    groups = {group: group for group in named} | dict.fromkeys(set(shown) - set(named), "others")
    if labels:  # a fixed set, whose colours are to stay theirs
        groups = {group: groups[group] for group in sorted(groups, key=[*labels, *groups].index)}
    return [_group(lines, name, [key for key, own in groups.items() if own == group], labels.get(group, group))
            for group in dict.fromkeys(groups.values())]  # fmt: skip


def _curves(steps: Sequence[Line], events: Sequence[Line], reference: float | None) -> Iterable[Curve]:
    marks = _marks(steps, events)
    loss = thinned(steps, _field("loss"), "training loss", MOST_POINTS)
    held_out = thinned(steps, _field("held_out_bits_per_byte"), "held out", MOST_POINTS)
    wide, narrow = (plots.loss_curve(loss, held_out, reference, marks, wide=wide) for wide in (True, False))
    yield Curve("Loss", wide, wide=True, narrow_svg=narrow)
    kinds = by_group(steps, "by_kind", KINDS, len(KINDS))
    yield Curve("Training loss by kind of example", plots.curves(kinds, "nats per token", logarithmic="x"))
    languages = by_group(steps, "by_language", {}, MOST_LANGUAGES)
    yield Curve("Training loss by language", plots.curves(languages, "nats per token", logarithmic="x"))
    exact = thinned(steps, _field("held_out_exact_match"), "", MOST_POINTS)
    yield Curve("Held-out lines filled in exactly", plots.curves([exact], "share", points=True, bottom=0.0))
    rate = thinned(steps, _field("learning_rate"), "", MOST_POINTS)
    yield Curve("Learning rate", plots.curves([rate], "rate", bottom=0.0))
    norm = thinned(steps, _field("gradient_norm"), "", MOST_POINTS)
    yield Curve("Norm of the gradient, before clipping", plots.curves([norm], "norm", logarithmic="y", marks=marks))
    speed = thinned(steps, _field("tokens_per_second"), "", MOST_POINTS)
    use = thinned(steps, _field("mfu"), "MFU", MOST_POINTS)
    yield Curve(_speed_title(steps), plots.curves([speed], "tokens per second", right=use, bottom=0.0))
    yield Curve("Data read over time", plots.curves([_position(steps)], "epochs", across="hours of training"))


def _speed_title(steps: Sequence[Line]) -> str:
    if steps[-1].get("mfu") is None:
        return "Speed"
    return "Speed and MFU, of a measured peak" if steps[-1].get("mfu_peak") == "measured" else "Speed and MFU"


def _group(lines: Sequence[Line], name: str, members: Sequence[str], label: str) -> Series:
    entries = []
    for line in lines:
        found = [pair for member in members if (pair := (line.get(name) or {}).get(member)) and pair[0] is not None]
        if tokens := sum(pair[1] for pair in found):
            entries.append((line["tokens"] / 1e6, math.fsum(pair[0] for pair in found), tokens))
    parts = list(_parts(entries, MOST_GROUP_POINTS))
    costs = [math.fsum(nats for _, nats, _ in part) / sum(tokens for *_, tokens in part) for part in parts]
    return Series(label, [part[-1][0] for part in parts], costs)


def _position(steps: Sequence[Line]) -> Series:
    """Epochs against hours; a process that began anew counts on."""
    found = [
        (seconds / 3600, line["epoch"])
        for seconds, line in zip(_clock(steps), steps, strict=True)
        if line.get("epoch") is not None
    ]
    parts = [part[-1] for part in _parts(found, MOST_POINTS)]
    return Series("", [hours for hours, _ in parts], [epoch for _, epoch in parts])


def _clock(steps: Sequence[Line]) -> list[float]:
    """Seconds of training at each step, over all the processes that took part."""
    clock, earlier, before = [], 0.0, 0.0
    for line in steps:
        now = float(line.get("seconds") or 0.0)
        if now < before:
            earlier += before
        before = now
        clock.append(earlier + now)
    return clock


def _marks(steps: Sequence[Line], events: Sequence[Line]) -> list[Mark]:
    tokens = {line["step"]: line["tokens"] / 1e6 for line in steps}
    places = sorted(tokens)
    found = [(event, min(places, key=lambda place: abs(place - event["step"]))) for event in events
             if event["event"] in _EVENTS]  # fmt: skip
    return [Mark(tokens[place], event["event"]) for event, place in found]


def _event(event: Line) -> Line:
    what = str(event.get("what", "")).replace("_", " ")
    return {
        "step": event.get("from_step", event["step"]),
        "what": f"{what} {event['value']:.3g}, usually {event['median']:.3g}" if "median" in event else what,
        "done": _EVENTS[event["event"]] + (f" to step {event['step']}" if event["event"] == "rewind" else ""),
    }


def _field(name: str) -> Callable[[Line], float | None]:
    return lambda line: line.get(name)


def _parts(entries: Sequence[Entry], count: int) -> Iterable[Sequence[Entry]]:
    """At most `count` stretches of about equal length."""
    size = max(len(entries) / count, 1.0)
    ends = [round(size * number) for number in range(min(len(entries), count) + 1)]
    return (entries[start:end] for start, end in itertools.pairwise(ends))
