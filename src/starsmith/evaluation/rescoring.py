"""The stored completions of an evaluation are judged once more; the stored figures must come out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from starsmith.core import ancestry, artifact
from starsmith.core.errors import StarsmithError
from starsmith.core.records import HELD_OUT, SourceFile, read_files
from starsmith.core.statement import parse_json
from starsmith.evaluation.infilling import Filled, Hole, choose_holes
from starsmith.evaluation.run import RESULTS, SAMPLES, figures_of, per_layout
from starsmith.provenance.reruns import is_other_code

TASK = "held-out"


def rescore(directory: Path, manifest: artifact.Manifest) -> tuple[list[str], list[str]]:
    """(What is wrong, what could not be judged) of an evaluation, each naming file and field.

    The holes are looked up in the corpus, so that a truth that was rewritten together with its completion shows, and
    must be those that the stage chooses there, so that the easy ones alone, or many times, show too.
    """
    try:
        results = parse_json((directory / RESULTS).read_bytes())
        if results["task"] != TASK:
            return [], [f"{directory} was not scored again: its task is {results['task']!r}"]
        rows = [parse_json(line) for line in (directory / SAMPLES).read_bytes().splitlines()]
        files = list(read_files(ancestry.parent_directory(directory, "corpus"), split=HELD_OUT))
        by_place = {(file.swhid, file.path): file for file in files}
        filled = [_refill(row, by_place) for row in rows]
        stored = dict(results["infilling"])
        wanted = choose_holes(files, manifest.config["infills"])
    except StarsmithError as error:
        return [], [f"{directory} was not scored again: {error.message}"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return [f"{directory}: its {RESULTS} or {SAMPLES} cannot be read: {error!r}"], []
    problems = [*_compare_rows(directory / SAMPLES, rows, filled)]
    whole = [one for one in filled if one is not None]
    if len(whole) < len(filled):
        return problems, []
    problems += _compare_figures(directory, manifest, stored, whole)
    problems += _find_repeated(directory / SAMPLES, [one.hole for one in whole], files)
    choice = [*_compare_holes(directory / SAMPLES, [one.hole for one in whole], wanted)]
    if is_other_code(manifest):
        return problems, [f"{message}, but by other code than it was made with" for message in choice]
    return problems + choice, []


def _find_repeated(file: Path, seen: Sequence[Hole], files: Sequence[SourceFile]) -> Iterator[str]:
    copies = Counter((one.swhid, one.path) for one in files)
    for (swhid, path, start), number in Counter(map(_place, seen)).items():
        if number > copies[swhid, path]:
            yield f"{file} has {number} samples of one hole ({path}, character {start})"


def _compare_holes(file: Path, seen: Sequence[Hole], wanted: Sequence[Hole]) -> Iterator[str]:
    found, chosen = Counter(map(_place, seen)), Counter(map(_place, wanted))
    for what, places in (("more", found - chosen), ("fewer", chosen - found)):
        if places:
            (_, path, start), number = places.most_common(1)[0]
            yield (
                f"{file} has {places.total()} {what} samples than the stage chooses from the corpus, "
                f"the first: {number} at {path}, character {start}"
            )


def _place(hole: Hole) -> tuple[str, str, int]:
    return hole.file.swhid, hole.file.path, hole.start


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


def _refill(row: dict[str, Any], files: dict[tuple[str, str], SourceFile]) -> Filled | None:
    """The row's hole with its completion; None when no held-out file has such a place."""
    for name in ("before", "truth", "layout", "completion", "finish_reason"):
        if not isinstance(row[name], str):
            raise TypeError(f"{name} is {row[name]!r}, wanted: a string")
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
