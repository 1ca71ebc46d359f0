"""Scores of one model, or of two, become one static page: figures, curves, problems, failures, and what changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.evaluation import plots, published, scored
from starsmith.evaluation.comparison import Comparison
from starsmith.evaluation.scored import Counts, Scored

CELL, COLUMNS = 12, 60  # pixels of a problem in the map, problems in a row of it
SHOWN_CHANGES = 200  # problems of a list


@dataclass(frozen=True)
class FigureRow:
    """One figure of one model, or of somebody's paper."""

    model: str
    tests: str
    metric: str
    percent: float
    interval: str  # "" where nobody gave one
    source: str


def is_scores(path: Path) -> bool:
    """Whether a directory holds scores of a benchmark, and not a run with all its stages."""
    return all((path / name).is_file() for name in (scored.RESULTS, scored.EVAL_RESULTS))


def write(scores: Sequence[Scored], out: Path, *, others: Sequence[FigureRow] = ()) -> Path:
    """The page about one model, or about two on the same benchmark; `others` are figures from other tools."""
    from jinja2 import Environment, PackageLoader

    if not 1 <= len(scores) <= 2:
        raise InputError(f"a page is about one or two scores, not {len(scores)}", hint="give one, or two to compare")
    compared = scored.compare(scores[0], scores[1]) if len(scores) == 2 else None
    environment = Environment(loader=PackageLoader("starsmith.evaluation"), autoescape=True)
    page = environment.get_template("scores.html").render(
        title=next((str(one.results["title"]) for one in scores if one.results), scores[0].label),
        scores=scores,
        figures=[*figure_rows(scores), *others],
        curves=[*_curves(scores)],
        maps=[(one.label, problem_map(_last(one))) for one in scores],
        verdicts=_verdicts(scores),
        groups=[(one.label, one.results["groups"]) for one in scores if one.results and one.results["groups"]],
        compared=compared,
        changes=_changes(compared),
        about=[(one.label, one.results) for one in scores if one.results],
    )
    out.write_text(page, encoding="utf-8")
    return out


def figure_rows(scores: Sequence[Scored]) -> list[FigureRow]:
    """Ours, and beneath them what others published for the same task and tests."""
    rows = [row for one in scores for row in _own(one)]
    task = next((one.task for one in scores if one.task), None)
    tests = list(dict.fromkeys(row.tests for row in rows))
    for name in tests if task else ():
        rows += [
            FigureRow(one.model, name, "pass@1", one.percent, "", one.source)
            for one in published.beside(str(task), name)
        ]
    return rows


def _own(one: Scored) -> Iterator[FigureRow]:
    for tests, figures in (one.results["scores"] if one.results else {}).items():
        for metric, figure in figures.items():
            interval = f"{100 * figure['low']:.1f} – {100 * figure['high']:.1f}"
            yield FigureRow(one.label, tests, metric, 100 * figure["value"], interval, f"here; {figure['interval']}")


def _curves(scores: Sequence[Scored]) -> Iterator[str]:
    """pass@k against k, with bands; nothing where there is one k only."""
    series = []
    for one in scores:
        for tests, figures in (one.results["scores"] if one.results else {}).items():
            points = sorted((int(name.partition("@")[2]), figure) for name, figure in figures.items())
            if len(points) > 1:
                series.append(_series(f"{one.label} {tests}", points))
    if series:
        yield plots.curves(series, "solved, %", across="samples (k)", logarithmic="x", bottom=0)


def _series(label: str, points: Sequence[tuple[int, Mapping[str, Any]]]) -> plots.Series:
    return plots.Series(
        label,
        [float(k) for k, _ in points],
        *([100 * figure[name] for _, figure in points] for name in ("value", "low", "high")),
    )


def problem_map(counts: Counts) -> str:
    """A square for each problem, the darker the more of its samples pass; the title names it."""
    cells = []
    for number, (problem, (samples, right)) in enumerate(counts.items()):
        x, y = number % COLUMNS * CELL, number // COLUMNS * CELL
        share = right / samples if samples else 0.0
        cells.append(
            f'<rect x="{x}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" fill="var(--accent)" '
            f'fill-opacity="{max(share, 0.07):.2f}"><title>{_escaped(problem)}: {right} of {samples}</title></rect>'
        )
    width, height = min(len(counts), COLUMNS) * CELL, -(-len(counts) // COLUMNS) * CELL
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(cells)}</svg>'


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)


def _last(one: Scored) -> Counts:
    return list(one.counts.values())[-1]


def _verdicts(scores: Sequence[Scored]) -> list[tuple[str, list[int | str]]]:
    """Rows of a table: a verdict, and how many samples of each model have it."""
    tallies = [one.results["verdicts"] if one.results else {} for one in scores]
    words = sorted({word for tally in tallies for word in tally}, key=lambda word: (word != "pass", word))
    return [(word, [tally.get(word, "") for tally in tallies]) for word in words]


def _changes(compared: Comparison | None) -> list[tuple[str, list[str]]]:
    if compared is None:
        return []
    return [
        (label, [f"{one.problem} ({100 * one.first:.0f} → {100 * one.second:.0f} %)" for one in changes])
        for label, changes in (("gained", compared.gained[:SHOWN_CHANGES]), ("lost", compared.lost[:SHOWN_CHANGES]))
    ]
