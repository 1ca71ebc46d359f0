"""Figures as geometry: where tiles, bands and columns go, in shares of the room that the page gives them.

The templates draw them in CSS and SVG, so that text stays text, colours follow light and dark, and a figure is small.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tile:
    """A rectangle of a treemap, in percent of its width and height."""

    left: float
    top: float
    width: float
    height: float


def treemap(sizes: Sequence[float], aspect: float) -> list[Tile]:
    """Tiles whose areas are as the sizes, largest first, as square as can be (Bruls, Huizing, van Wijk 2000).

    sizes   > 0, in falling order
    aspect  width of the whole over its height
    """
    total = math.fsum(sizes)
    areas = [size / total * aspect for size in sizes]  # of a room that is `aspect` wide and 1 high
    boxes = _squarify(areas, (0.0, 0.0, aspect, 1.0))
    return [
        Tile(*(round(100 * share, 3) for share in (left / aspect, top, width / aspect, height)))
        for left, top, width, height in boxes
    ]


Box = tuple[float, float, float, float]  # left, top, width, height


def _squarify(areas: Sequence[float], room: Box) -> Iterator[Box]:
    first = 0
    while first < len(areas):
        side = min(room[2], room[3])
        end = first + 1
        while end < len(areas) and _worst(areas[first : end + 1], side) <= _worst(areas[first:end], side):
            end += 1
        strip, room = _cut(room, math.fsum(areas[first:end]))
        yield from _stack(areas[first:end], strip)
        first = end


def _worst(areas: Sequence[float], side: float) -> float:
    """The most oblong of the tiles that stand along a side: its longer edge over its shorter one."""
    depth = math.fsum(areas) / side
    return max(max(area / depth**2, depth**2 / area) for area in areas)


def _cut(room: Box, area: float) -> tuple[Box, Box]:
    """A strip of this area along the shorter side, and what is left."""
    left, top, width, height = room
    if width >= height:
        depth = min(area / height, width)
        return (left, top, depth, height), (left + depth, top, width - depth, height)
    depth = min(area / width, height)
    return (left, top, width, depth), (left, top + depth, width, height - depth)


def _stack(areas: Sequence[float], strip: Box) -> Iterator[Box]:
    left, top, width, height = strip
    total = math.fsum(areas)
    for area in areas:
        share = area / total
        if strip[2] <= strip[3]:
            yield left, top, width, height * share
            top += height * share
        else:
            yield left, top, width * share, height
            left += width * share


@dataclass(frozen=True)
class Band:
    """One step of the funnel: the stream that goes on, and what leaves it on the way."""

    name: str
    came: int
    went: int
    stream: str  # SVG path in a room of 100 by 40
    loss: str  # likewise; "" when nothing leaves

    @property
    def lost(self) -> int:
        """Files that this step left out."""
        return self.came - self.went


def funnel(steps: Sequence[tuple[str, int, int]]) -> list[Band]:
    """The steps one below the other: widths are files, and a stream is as wide at its end as the next at its start."""
    whole = max((came for _, came, _ in steps), default=0) or 1
    return [_band(name, came, went, 100 / whole) for name, came, went in steps]


def _band(name: str, came: int, went: int, scale: float) -> Band:
    start, end = f"{came * scale:.2f}", f"{went * scale:.2f}"
    curve = f"{start} 22 {end} 18 {end} 40"
    stream = f"M0 0H{start}C{curve}H0Z"
    return Band(name, came, went, stream, f"M{start} 0C{curve}H{start}Z" if went < came else "")


@dataclass(frozen=True)
class Scale:
    """How the values of a column fall into the columns of a histogram."""

    edges: tuple[float, ...]  # rising; what lies outside is counted in the first or the last bin
    labels: tuple[str, ...]  # at the edges, "" for none
    names: tuple[str, ...]  # of the bins: what each holds

    @classmethod
    def even(cls, last: float, bins: int, *, label_every: int) -> "Scale":
        """Bins of equal width from 0 to `last`."""
        edges = tuple(last * number / bins for number in range(bins + 1))
        labels = tuple(f"{edge:g}" if number % label_every == 0 else "" for number, edge in enumerate(edges))
        return cls(edges, labels, tuple(f"{low:g} to {high:g}" for low, high in pairwise(edges)))

    @classmethod
    def named(cls, starts: Sequence[tuple[int, str]], *, label_every: int = 1) -> "Scale":
        """A bin from each named value up to the next; the last one has no end."""
        values, names = zip(*starts, strict=True)
        labels = tuple(name if number % label_every == 0 else "" for number, name in enumerate(names))
        bins = [f"from {low} to under {high}" for low, high in pairwise(names)]
        return cls((*values, values[-1] * 2 + 1), (*labels, ""), (*bins, f"{names[-1]} or more"))

    def count(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Values per bin; those outside go to the first or the last, those that are no number nowhere."""
        inside = np.clip(values[~np.isnan(values)], self.edges[0], self.edges[-1])
        return np.histogram(inside, bins=np.array(self.edges))[0].astype(np.int64)

    def quantile(self, counts: NDArray[np.int64], share: float) -> float | None:
        """The value below which this share lies, as if values were spread evenly in their bin; None without values."""
        total = int(counts.sum())
        if not total:
            return None
        running = np.cumsum(counts)
        number = int(np.searchsorted(running, share * total))
        before = int(running[number]) - int(counts[number])
        low, high = self.edges[number], self.edges[number + 1]
        return low + (high - low) * (share * total - before) / int(counts[number])


@dataclass(frozen=True)
class Column:
    """One bin of a histogram."""

    height: float  # percent of the tallest
    count: int
    label: str  # at its left edge, "" for none
    name: str  # what it holds


@dataclass(frozen=True)
class Histogram:
    """Columns side by side, each as wide as the others."""

    title: str
    columns: tuple[Column, ...]
    end: str  # label at the right edge
    note: str  # a sentence below it


def histogram(title: str, scale: Scale, counts: NDArray[np.int64], *, note: str = "") -> Histogram:
    """The counts of `scale.count` as columns, the tallest as high as the room."""
    tallest = max(int(counts.max(initial=0)), 1)
    columns = (
        Column(round(100 * int(count) / tallest, 2), int(count), label, name)
        for count, label, name in zip(counts, scale.labels[:-1], scale.names, strict=True)
    )
    return Histogram(title, tuple(columns), scale.labels[-1], note)
