"""What a run tells of itself is whole, in order, and read by others as it was meant."""

import json
import math
import statistics
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import ArtifactError
from starsmith.training import metrics
from starsmith.training.data import Batch
from starsmith.training.event_file import crc32c, frame
from starsmith.training.metrics import MetricsLog, Speed, Tally, keep_lines, progress_text, scalars_of

pytestmark = pytest.mark.slow  # TensorBoard reads what was written


def packed(lengths: list[int], kinds: tuple[str, ...], languages: tuple[str, ...]) -> Batch:
    nothing = np.zeros(sum(lengths), np.int64)
    return Batch(nothing, nothing, lengths, kinds=kinds, languages=languages)


def line(step: int, **more: Any) -> dict[str, Any]:
    known = {"step": step, "loss": 5 - step / 100, "tokens": step * 8192, "learning_rate": 1e-3, "gradient_norm": 0.5}
    return {**known, "tokens_per_second": 12_345.6, "mfu": 0.412, "epoch": step / 300, **more}


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]


def write(run: Path, steps: range, *, step: int = 0, **more: Any) -> None:
    with MetricsLog(run, step=step) as log:
        for number in steps:
            log.write(line(number, **more))


def read_board(run: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, as TensorBoard itself reads them."""
    pytest.importorskip("tensorboard", reason="SKIPPED: tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_every_step_stands_on_a_line_of_its_own_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write(line(1))
        seen = lines_of(tmp_path)
        log.write({"step": 1, "event": "spike", "value": 9.0})

    assert seen == [line(1)]
    assert [found.get("event") for found in lines_of(tmp_path)] == [None, "spike"]


def test_a_resumed_run_forgets_the_steps_that_it_takes_again(tmp_path: Path) -> None:
    write(tmp_path, range(1, 10))

    write(tmp_path, range(6, 12), step=5, loss=1.0)

    assert [found["step"] for found in lines_of(tmp_path)] == list(range(1, 12))
    assert [found["loss"] == 1.0 for found in lines_of(tmp_path)] == [False] * 5 + [True] * 6


@given(torn_at=st.integers(1, 60))
def test_a_last_line_torn_by_a_kill_is_dropped_wherever_it_was_torn(
    tmp_path_factory: pytest.TempPathFactory, torn_at: int
) -> None:
    run = tmp_path_factory.mktemp("run")
    write(run, range(1, 4))
    path = run / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps(line(4)).encode()[:torn_at])

    write(run, range(4, 6), step=3)

    assert [found["step"] for found in lines_of(run)] == [1, 2, 3, 4, 5]
    assert path.read_bytes().startswith(whole)


def test_a_line_that_was_broken_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"ste\n{"step": 3}\n')

    with pytest.raises(ArtifactError, match=r"metrics\.jsonl line 2 is no line of metrics"):
        keep_lines(tmp_path / "metrics.jsonl", 9)


def test_a_run_that_went_back_has_each_step_once_and_says_why(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        for step in range(1, 9):
            log.write(line(step))
        log.write({"step": 9, "event": "spike"})
        log.rewind(4, {"from_step": 9, "what": "loss"})
        for step in range(5, 7):
            log.write(line(step, loss=1.0))

    found = lines_of(tmp_path)
    assert [row["step"] for row in found] == [1, 2, 3, 4, 4, 5, 6]
    assert found[4] == {"event": "rewind", "from_step": 9, "what": "loss", "step": 4}


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    write(tmp_path, range(1, 2), loss=math.nan, by_kind={"psm": [math.inf, 4]})

    assert lines_of(tmp_path)[0]["loss"] is None
    assert lines_of(tmp_path)[0]["by_kind"] == {"psm": [None, 4]}


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    more = {"by_kind": {"psm": [12.0, 4]}, "by_language": {"C++": [9.0, 6]}, "held_out_bits_per_byte": 2.5}

    write(tmp_path, range(1, 301), **more)

    board = read_board(tmp_path)
    assert set(board) == {*metrics.TAGS.values(), "loss_by_kind/psm", "loss_by_language/C++"} - {"held_out/exact_match"}
    assert [step for step, _ in board["training/loss"]] == list(range(1, 301))
    assert board["training/loss"][199][1] == pytest.approx(3.0)
    assert board["loss_by_kind/psm"][0][1] == 3.0
    assert board["data/tokens"][-1][1] == 300 * 8192


def test_tensorboard_shows_every_step_of_a_resumed_run_once(tmp_path: Path) -> None:
    write(tmp_path, range(1, 10))
    first = next((tmp_path / "tensorboard").iterdir())
    first.write_bytes(first.read_bytes()[:-7])  # torn by a kill

    write(tmp_path, range(6, 12), step=5, loss=1.0)

    board = read_board(tmp_path)
    assert [step for step, _ in board["training/loss"]] == list(range(1, 12))
    assert [value for _, value in board["training/loss"][5:]] == [1.0] * 6


def test_checksums_are_those_of_the_standard() -> None:
    # RFC 3720, appendix B.4
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


@given(content=st.binary(max_size=200))
def test_a_frame_says_how_long_it_is(content: bytes) -> None:
    framed = frame(content)

    assert struct.unpack("<Q", framed[:8])[0] == len(content)
    assert framed[12:-4] == content


def test_losses_are_counted_by_kind_and_language() -> None:
    batch = packed([3, 2, 4], ("psm", "left-to-right", "psm"), ("Python", "Rust", "Rust"))
    nats = np.asarray([1, 2, 0, 5, 0, 1, 1, 1, 0], np.float32)  # 0 at each sequence's end
    tally, other = Tally(), Tally()

    tally.add(batch, nats)
    other.add(packed([2], ("spm",), ("Rust",)), np.asarray([7, 0], np.float32))
    tally.merge(other)

    assert tally.fields() == {
        "by_kind": {"left-to-right": [5, 1], "psm": [6, 5], "spm": [7, 1]},
        "by_language": {"Python": [3, 2], "Rust": [15, 5]},
    }


def test_the_speed_is_of_the_latest_steps() -> None:
    speed = Speed()

    found = [speed.step(100, 1.0 if step < 5 else 0.1) for step in range(30)]

    assert found[4] == pytest.approx(100)
    assert found[-1] == pytest.approx(1000)


def test_the_progress_line_says_it_all_in_eighty_columns() -> None:
    text = progress_text(line(200), seconds_left=3 * 3600 + 1200)

    assert len(text) < 78
    assert text == "loss 3.000, 12.3k tok/s, MFU 41 %, 3h20m left, grad 0.50, epoch 0.67 (1.64M)"


def test_the_progress_line_leaves_out_what_is_not_known() -> None:
    text = progress_text({"loss": 2.0, "tokens_per_second": 950.0, "tokens": 999, "mfu": None})

    assert text == "loss 2.000, 950 tok/s, 999 tokens"


@given(
    tokens=st.integers(0, 10**14),
    rate=st.floats(1, 1e9),
    left=st.floats(0, 1e7),
    loss=st.floats(0, 99),
    norm=st.floats(0, 999),
)
def test_the_progress_line_stays_a_line(tokens: int, rate: float, left: float, loss: float, norm: float) -> None:
    found = line(1, tokens=tokens, tokens_per_second=rate, loss=loss, gradient_norm=norm, epoch=99.0)

    assert len(progress_text(found, seconds_left=left)) <= 90


def test_utilisation_is_of_the_peak_and_unknown_without_one() -> None:
    assert metrics.model_flops_utilisation(1000, 6e6, 12e9) == pytest.approx(0.5)
    assert metrics.model_flops_utilisation(1000, 6e6, None) is None


@pytest.mark.slow
def test_the_measured_peak_is_no_less_than_another_product_reaches() -> None:
    peak = metrics.measured_peak(torch.device("cpu"), torch.float32)
    one, times = torch.randn(512, 512), []
    for _ in range(20):
        started = time.perf_counter()
        one @ one
        times.append(time.perf_counter() - started)

    assert 0.5 * 2 * 512**3 / statistics.median(times) < peak < 1e15


def test_values_that_are_missing_or_null_are_not_shown() -> None:
    assert scalars_of({"step": 1, "loss": None, "mfu": None, "by_kind": {"psm": [0.0, 0]}, "epoch": 2}) == {
        "data/epoch": 2.0
    }
