"""The stored completions of an evaluation are judged once more; the stored figures must come out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.errors import StarsmithError
from starsmith.core.records import HELD_OUT, SourceFile, read_files
from starsmith.core.statement import parse_json
from starsmith.evaluation.infilling import Filled, Hole
from starsmith.evaluation.run import RESULTS, SAMPLES, figures_of, per_layout

TASK = "held-out"


def rescore(directory: Path, manifest: artifact.Manifest) -> tuple[list[str], list[str]]:
    """(What is wrong, what could not be judged) of an evaluation, each naming file and field.

    The holes are looked up in the corpus, so that a truth that was rewritten together with its completion shows.
    """
    try:
        results = parse_json((directory / RESULTS).read_bytes())
        if results["task"] != TASK:
            return [], [f"{directory} was not scored again: its task is {results['task']!r}"]
        rows = [parse_json(line) for line in (directory / SAMPLES).read_bytes().splitlines()]
        files = _by_place(artifact.parent_directory(directory, "corpus"))
        filled = [_refill(row, files) for row in rows]
        stored = dict(results["infilling"])
    except StarsmithError as error:
        return [], [f"{directory} was not scored again: {error.message}"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return [f"{directory}: its {RESULTS} or {SAMPLES} cannot be read: {error!r}"], []
    problems = [*_compare_rows(directory / SAMPLES, rows, filled)]
    whole = [one for one in filled if one is not None]
    if len(whole) == len(filled):
        problems += _compare_figures(directory, manifest, stored, whole)
    return problems, []


def _compare_figures(
    directory: Path, manifest: artifact.Manifest, stored: dict[str, Any], filled: list[Filled]
) -> Iterator[str]:
    figures = {**figures_of(filled), "per_layout": per_layout(filled)}
    for name, value in figures.items():
        if stored.get(name) != value:
            yield f"{directory / RESULTS}: infilling.{name} is {stored.get(name)}, the samples give {value}"
    for name in ("holes", "exact"):
        if manifest.counts.get(name, figures[name]) != figures[name]:
            counted = f"{name}={manifest.counts[name]}"
            yield f"{directory / artifact.MANIFEST} counts {counted}, the samples give {figures[name]}"


def _by_place(corpus: Path) -> dict[tuple[str, str], SourceFile]:
    return {(file.swhid, file.path): file for file in read_files(corpus, split=HELD_OUT)}


def _refill(row: dict[str, Any], files: dict[tuple[str, str], SourceFile]) -> Filled | None:
    """The row's hole with its completion; None when no held-out file has such a place."""
    file = files.get((row["swhid"], row["path"]))
    if file is None:
        return None
    hole = next((hole for hole in _places(file, row["before"], row["truth"]) if hole.line == row["line"]), None)
    return None if hole is None else Filled(hole, row["layout"], row["completion"], row["finish_reason"], 0)


def _places(file: SourceFile, before: str, truth: str) -> Iterator[Hole]:
    start = file.text.find(before + truth)
    while start >= 0:
        yield Hole(file, start + len(before), start + len(before) + len(truth))
        start = file.text.find(before + truth, start + 1)


def _compare_rows(file: Path, rows: list[dict[str, Any]], filled: list[Filled | None]) -> Iterator[str]:
    for number, (row, one) in enumerate(zip(rows, filled, strict=True), start=1):
        if one is None:
            yield f"{file} line {number}: the corpus has no held-out file with this hole ({row['path']}:{row['line']})"
            continue
        for name, value in (("exact", one.exact), ("syntax_valid", one.valid)):
            if row.get(name) != value:
                yield f"{file} line {number}: {name} is {row.get(name)}, the completion gives {value}"
