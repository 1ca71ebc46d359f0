"""Figures as inline SVG in the page's own colours, so that they follow light and dark."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Placeholders that are replaced by CSS variables of the page.
_INK, _SOFT, _LINE, _ACCENT, _SECOND = "#111111", "#222222", "#333333", "#444444", "#555555"
_VARIABLES = {
    _INK: "var(--ink)",
    _SOFT: "var(--soft)",
    _LINE: "var(--line)",
    _ACCENT: "var(--accent)",
    _SECOND: "var(--second)",
}


def loss_curve(steps: Sequence[dict[str, Any]], reference: float | None) -> str:
    """Training loss in nats a token, and bits per byte on held-out files where they were looked at, against tokens."""
    with _figure(7.2, 2.9) as figure:
        left = figure.add_subplot()
        tokens = [step["tokens"] / 1e6 for step in steps]
        left.plot(tokens, [step["loss"] for step in steps], color=_SECOND, linewidth=1, label="training loss")
        left.set_xlabel("million tokens")
        left.set_ylabel("nats per token")
        watched = [step for step in steps if "held_out_bits_per_byte" in step]
        if watched:
            right = left.twinx()
            _style(right)
            right.spines["right"].set_visible(True)
            right.set_ylabel("held-out bits per byte")
            values = [step["held_out_bits_per_byte"] for step in watched]
            right.plot([step["tokens"] / 1e6 for step in watched], values, color=_ACCENT, marker="o", markersize=3.5)
            right.annotate(f"{values[-1]:.2f}", (watched[-1]["tokens"] / 1e6, values[-1]), xytext=(-4, 7),
                           textcoords="offset points", ha="right", color=_ACCENT, fontsize=9)  # fmt: skip
            if reference is not None:
                right.axhline(reference, color=_SOFT, linewidth=1, linestyle=(0, (3, 3)))
                right.annotate(f"n-gram {reference:.2f}", (0, reference), xytext=(2, 4), textcoords="offset points",
                               xycoords=("axes fraction", "data"), color=_SOFT, fontsize=9)  # fmt: skip
                right.set_ylim(bottom=min(reference, *values) - 0.35)
        return _svg(figure)


def bars(labels: Sequence[str], values: Sequence[float], *, unit: str) -> str:
    """Horizontal bars, the first in the accent colour, each with its value."""
    with _figure(7.2, 0.42 * len(labels) + 0.5) as figure:
        axes = figure.add_subplot()
        colours = [_ACCENT, *[_SECOND] * (len(labels) - 1)]
        drawn = axes.barh(range(len(labels)), values, color=colours, height=0.62)
        axes.bar_label(drawn, labels=[f"{value:.3f}" for value in values], padding=4, color=_INK, fontsize=9)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.margins(x=0.12)
        return _svg(figure)


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
    axes.tick_params(colors=_SOFT, labelsize=9, length=3)
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
