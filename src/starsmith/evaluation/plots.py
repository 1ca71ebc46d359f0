"""Figures as inline SVG in the page's own colours, so that they follow light and dark."""

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Placeholders that are replaced by CSS variables of the page.
_INK, _SOFT, _LINE, _ACCENT, _SECOND = "#111111", "#222222", "#333333", "#444444", "#555555"
_GROUPS = ("#661111", "#662222", "#663333", "#664444", "#665555", "#666666")  # curves beside each other
_VARIABLES = {
    _INK: "var(--ink)",
    _SOFT: "var(--soft)",
    _LINE: "var(--line)",
    _ACCENT: "var(--accent)",
    _SECOND: "var(--second)",
    **{colour: f"var(--curve-{number})" for number, colour in enumerate(_GROUPS, start=1)},
}
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (9, 2)), (0, (3, 3)))
_WIDE_IN, _NARROW_IN = 7.2, 3.7  # of the page, of half of it or a telephone
TOKENS = "million tokens"


@dataclass(frozen=True)
class Series:
    """A curve; `low` and `high`, where they are given, are the bounds of a band around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Mark:
    """Something that happened: "spike", "skip" or "rewind"."""

    x: float
    kind: str


def loss_curve(
    loss: Series, held_out: Series, reference: float | None, marks: Sequence[Mark] = (), *, wide: bool = True
) -> str:
    """Training loss in nats a token, and bits per byte on held-out files where they were looked at, against tokens."""
    with _figure(_WIDE_IN if wide else _NARROW_IN, 2.9 if wide else 2.7) as figure:
        left = figure.add_subplot()
        left.fill_between(loss.x, loss.low, loss.high, color=_SECOND, alpha=0.35, linewidth=0)
        left.plot(loss.x, loss.y, color=_SECOND, linewidth=1.2)
        left.set_xlabel(TOKENS)
        left.set_ylabel("nats per token")
        _mark(left, marks)
        if held_out.x:
            _held_out(left.twinx(), held_out, reference)
        return _svg(figure)


def curves(
    series: Sequence[Series],
    unit: str,
    *,
    across: str = TOKENS,
    right: Series | None = None,
    marks: Sequence[Mark] = (),
    points: bool = False,
    bottom: float | None = None,
    logarithmic: str = "",
) -> str:
    """Curves in one frame, "" where there is nothing to draw.

    right        a share, with a scale of its own
    points       mark every point: they are few
    logarithmic  "x", "y" or neither
    """
    drawn = [one for one in series if one.x]
    if not drawn:
        return ""
    with _figure(_NARROW_IN, 2.3 if len(drawn) == 1 else 2.7) as figure:
        axes = figure.add_subplot()
        for one, colour, dashes in zip(drawn, itertools.cycle(_GROUPS), itertools.cycle(_DASHES)):
            if one.low and not points:
                axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.2, linewidth=0)
            marker = {"marker": "o", "markersize": 3.5} if points or len(one.x) == 1 else {}
            axes.plot(one.x, one.y, color=colour, linewidth=1.3, linestyle=dashes, label=one.label, **marker)
        axes.set_xlabel(across)
        axes.set_ylabel(unit)
        _scale(axes, logarithmic=logarithmic, bottom=bottom)
        _mark(axes, marks)
        if len(drawn) > 1:
            figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9, labelcolor=_INK,
                          handlelength=2.2, columnspacing=1.2)  # fmt: skip
        if right is not None and right.x:
            _share(axes.twinx(), right)
        return _svg(figure)


def bars(labels: Sequence[str], values: Sequence[float], *, unit: str, wide: bool = True) -> str:
    """Horizontal bars, the first in the accent colour, each with its value."""
    with _figure(_WIDE_IN if wide else _NARROW_IN, 0.42 * len(labels) + 0.5) as figure:
        axes = figure.add_subplot()
        colours = [_ACCENT, *[_SECOND] * (len(labels) - 1)]
        drawn = axes.barh(range(len(labels)), values, color=colours, height=0.62)
        axes.bar_label(drawn, labels=[f"{value:.3f}" for value in values], padding=4, color=_INK, fontsize=9)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.margins(x=0.12 if wide else 0.25)
        return _svg(figure)


def _held_out(axes: Any, held_out: Series, reference: float | None) -> None:
    _right(axes, "held-out bits per byte")
    axes.plot(held_out.x, held_out.y, color=_ACCENT, marker="o", markersize=3.5)
    axes.annotate(f"{held_out.y[-1]:.2f}", (held_out.x[-1], held_out.y[-1]), xytext=(-4, 7),
                  textcoords="offset points", ha="right", color=_ACCENT, fontsize=9)  # fmt: skip
    if reference is not None:
        axes.axhline(reference, color=_SOFT, linewidth=1, linestyle=(0, (3, 3)))
        axes.annotate(f"n-gram {reference:.2f}", (0, reference), xytext=(2, 4), textcoords="offset points",
                      xycoords=("axes fraction", "data"), color=_SOFT, fontsize=9)  # fmt: skip
        axes.set_ylim(bottom=min(reference, *held_out.y) - 0.35)


def _share(axes: Any, right: Series) -> None:
    _right(axes, right.label)
    axes.plot(right.x, right.y, color=_GROUPS[1], linewidth=1.2, linestyle=_DASHES[1])
    axes.yaxis.label.set_color(_GROUPS[1])
    axes.set_ylim(0, min(max(right.y) * 1.25, 1.0) or 1.0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")


def _right(axes: Any, label: str) -> None:
    _style(axes)
    axes.spines["right"].set_visible(True)
    axes.set_ylabel(label)


def _scale(axes: Any, *, logarithmic: str, bottom: float | None) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name == logarithmic:
            axes.set(**{f"{name}scale": "log"})
            axis.set_major_locator(LogLocator(numticks=6))
            axis.set_minor_formatter(NullFormatter())
        else:
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(lambda value, _: f"{value / 1e3:g}k" if value >= 1e4 else f"{value:g}")
    axes.set_ylim(bottom=bottom)


def _mark(axes: Any, marks: Sequence[Mark]) -> None:
    """Triangles at the upper edge, one a place."""
    for mark in marks:
        axes.plot([mark.x], [1.0], marker="v", markersize=6, color=_ACCENT, clip_on=False, linestyle="",
                  transform=axes.get_xaxis_transform())  # fmt: skip


@contextmanager
def _figure(width_in: float, height_in: float) -> Iterator[Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "starsmith", "font.family": "sans-serif"}):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        figure.patch.set_alpha(0)
        add = figure.add_subplot

        def add_styled(*args: Any, **options: Any) -> Any:
            axes = add(*args, **options)
            _style(axes)
            return axes

        figure.add_subplot = add_styled  # type: ignore[method-assign]
        yield figure


def _style(axes: Any) -> None:
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_LINE)
    axes.tick_params(which="both", colors=_SOFT, labelsize=9)
    axes.tick_params(which="major", length=3)
    axes.xaxis.label.set(color=_SOFT, fontsize=9)
    axes.yaxis.label.set(color=_SOFT, fontsize=9)


def _svg(figure: Any) -> str:
    """The <svg> element alone, with CSS variables for colours, scaled by the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
