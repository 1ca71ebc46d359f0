"""The page shows how a run learned, from metrics of any length, age and state."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from starsmith.cli.report import report as command
from starsmith.core.errors import InputError
from starsmith.evaluation import report, training_curves
from starsmith.evaluation.training_curves import by_group, describe, read, thinned

pytestmark = pytest.mark.slow

LANGUAGES = ("Python", "C++", "Rust", "Go", "Java", "Shell", "HTML")


def line(step: int, **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "step": step, "loss": 5 - step / 1000, "tokens": step * 1_000_000, "seconds": float(step),
        "learning_rate": 1e-3, "gradient_norm": 0.5, "tokens_per_second": 20_000.0, "mfu": 0.4, "epoch": step / 100,
        "by_kind": {"psm": [30.0, 10], "spm": [32.0, 10], "left-to-right": [28.0, 10]},
        "by_language": {name: [3.0 * (9 - place), 9 - place] for place, name in enumerate(LANGUAGES)},
    }  # fmt: skip
    return {**known, **more}


def old_line(step: int) -> dict[str, Any]:
    """As the first version wrote it."""
    return {"step": step, "loss": 5.0, "tokens": step * 1000, "seconds": float(step), "learning_rate": 1e-3}


def model(directory: Path, lines: list[dict[str, Any]], *, torn: str = "") -> Path:
    """A directory with the metrics of a model in training."""
    (directory / "run").mkdir(parents=True)
    text = "".join(json.dumps(entry) + "\n" for entry in lines)
    (directory / "run" / "metrics.jsonl").write_text(text + torn)
    return directory


def page_of(run: Path, tmp_path: Path) -> str:
    return report.write(run, tmp_path / "page.html", samples=[]).read_text()


def titles(page: str) -> list[str]:
    return re.findall(r'<div class="card"><h3>(.*?)</h3>', page)


def test_the_page_has_every_curve_that_the_metrics_have(tmp_path: Path) -> None:
    lines = [line(step) for step in range(1, 21)]
    lines[9] |= {"held_out_bits_per_byte": 2.5, "held_out_exact_match": 0.125}
    lines[19] |= {"held_out_bits_per_byte": 2.25, "held_out_exact_match": 0.25}
    run = tmp_path / "run"
    model(run / "model.partial", lines)

    page = page_of(run, tmp_path)

    assert titles(page) == [
        "Training loss by kind of example", "Training loss by language", "Held-out lines filled in exactly",
        "Learning rate", "Norm of the gradient, before clipping", "Speed and MFU", "Data read over time",
    ]  # fmt: skip
    words = ("held-out bits per byte", "infill, PSM", "infill, SPM", "left to right", "Python", "Go", "others")
    assert [word for word in words if word not in page] == []
    assert "HTML</text>" not in page  # one of the others
    assert "At the last look 25 % of the held-out lines" in page
    assert "not finished" in page


def test_the_figures_are_whole_svg_in_the_colours_of_the_page(tmp_path: Path) -> None:
    page = page_of(model(tmp_path / "model", [line(step) for step in range(1, 21)]), tmp_path)

    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) == 2 + 6
    for figure in figures:
        ElementTree.fromstring(figure)
        assert set(re.findall(r"(?:fill|stroke): (#\w+)", figure)) == set()
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", page))
    assert all(f"{name}:" in page for name in used)
    assert re.findall(r'(?:src|href)="(?!#)|url\((?!#)|@import', page) == []  # nothing is loaded


def test_metrics_of_an_earlier_version_give_the_curves_that_they_have(tmp_path: Path) -> None:
    page = page_of(model(tmp_path / "model", [old_line(step) for step in range(1, 9)]), tmp_path)

    assert titles(page) == ["Learning rate"]
    assert "8 steps, 0.01 million tokens, 0.1 minutes of training." in page


def test_spikes_are_marked_and_listed_with_what_was_done(tmp_path: Path) -> None:
    spike = {"what": "loss", "value": 9.0, "median": 2.0, "deviations": 40.0}
    lines = [line(step) for step in range(1, 9)]
    lines.insert(4, {"step": 4, "event": "rewind", "from_step": 7, **spike})
    lines += [{"step": 8, "event": "skip", **spike}, {"step": 8, "event": "resume"}]

    found = describe(model(tmp_path, lines) / "run" / "metrics.jsonl", reference=None, finished=True)

    assert found is not None
    assert found.events == [
        {"step": 7, "what": "loss 9, usually 2", "done": "went back to step 4"},
        {"step": 8, "what": "loss 9, usually 2", "done": "update left out"},
    ]
    steps, events = read(tmp_path / "run" / "metrics.jsonl")
    assert [(mark.x, mark.kind) for mark in training_curves._marks(steps, events)] == [(4.0, "rewind"), (8.0, "skip")]


def test_a_line_that_is_just_being_written_is_left_out(tmp_path: Path) -> None:
    run = model(tmp_path, [line(1), line(2)], torn='{"step": 3, "lo')

    steps, _ = read(run / "run" / "metrics.jsonl")

    assert [entry["step"] for entry in steps] == [1, 2]


def test_a_long_run_is_thinned_and_loses_no_extreme(tmp_path: Path) -> None:
    lines = [line(step, loss=90.0 if step == 5_432 else 2.0) for step in range(1, 10_001)]

    found = thinned(lines, lambda entry: entry["loss"], "", 300)

    assert len(found.x) == 300
    assert found.x[-1] == 10_000
    assert max(found.high) == 90
    assert sum(found.y) / 300 == pytest.approx(2.0088, rel=1e-3)


def test_a_short_run_is_not_thinned() -> None:
    found = thinned([line(step) for step in range(1, 51)], lambda entry: entry["loss"], "", 300)

    assert list(found.y) == list(found.low) == list(found.high) == [5 - step / 1000 for step in range(1, 51)]


def test_losses_of_a_language_are_weighted_by_its_tokens_and_the_rest_are_one_curve() -> None:
    lines = [
        line(1, by_language={"A": [10.0, 10], "B": [3.0, 1], "C": [2.0, 1], "D": [6.0, 2]}),
        line(2, by_language={"A": [30.0, 10]}),
    ]

    found = {one.label: list(one.y) for one in by_group(lines, "by_language", {}, 1)}

    assert found == {"A": [1.0, 3.0], "others": [11 / 4]}


def test_kinds_have_their_order_whatever_their_share() -> None:
    lines = [line(1, by_kind={"spm": [9.0, 9], "psm": [1.0, 1], "left-to-right": [3.0, 3], "new": [2.0, 2]})]

    found = by_group(lines, "by_kind", training_curves.KINDS, 4)

    assert [one.label for one in found] == ["left to right", "infill, PSM", "infill, SPM", "new"]


def test_the_time_of_several_processes_is_added_up() -> None:
    seconds = [1.0, 2.0, 3.0, 0.5, 1.5, 0.25]

    clock = training_curves._clock([line(step, seconds=found) for step, found in enumerate(seconds, start=1)])

    assert clock == [1.0, 2.0, 3.0, 3.5, 4.5, 4.75]


def test_a_loss_that_is_null_leaves_a_gap_and_no_error(tmp_path: Path) -> None:
    lines = [line(1), line(2, loss=None, gradient_norm=None, by_kind={"psm": [None, 4]}), line(3)]

    assert len(titles(page_of(model(tmp_path / "model", lines), tmp_path))) == 6


def test_the_page_of_a_model_lies_beside_its_log_and_changes_none_of_its_files(tmp_path: Path) -> None:
    directory = model(tmp_path / "model", [line(1), line(2)])

    result = CliRunner().invoke(command, [str(directory)])

    assert result.output.strip() == str(directory / "run" / "report.html")
    assert [entry.name for entry in directory.iterdir()] == ["run"]


def test_a_directory_without_artefact_and_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no artefact"):
        report.write(tmp_path, tmp_path / "page.html", samples=[])


def test_metrics_without_a_step_give_no_curves(tmp_path: Path) -> None:
    run = model(tmp_path, [{"step": 1, "event": "resume"}])

    assert describe(run / "run" / "metrics.jsonl", reference=None, finished=True) is None
