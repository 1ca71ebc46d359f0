"""Spikes are found, nothing else is, and a loss that is no number names its documents."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import ConfigError
from starsmith.training.data import Batch
from starsmith.training.spikes import DivergedError, Spike, SpikeConfig, SpikeDetector, non_finite


def losses(steps: int, *, noise: float, seed: int = 0) -> np.ndarray:
    """A loss that falls as those of language models do, with noise around it."""
    random = np.random.default_rng(seed)
    falling = 1.8 + 9 * (1 + np.arange(steps)) ** -0.3
    return falling * (1 + noise * random.standard_normal(steps))


def norms(steps: int, *, seed: int = 1) -> np.ndarray:
    """Gradient norms: log-normal."""
    return 0.4 * np.exp(0.35 * np.random.default_rng(seed).standard_normal(steps))


def spikes(detector: SpikeDetector, values: Any, gradients: Any = None, *, first: int = 1) -> list[Spike]:
    gradients = norms(len(values)) if gradients is None else gradients
    seen = (detector.see(first + i, float(values[i]), float(gradients[i])) for i in range(len(values)))
    return [spike for spike in seen if spike is not None]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.08])
def test_a_noisy_loss_that_falls_has_no_spike_in_a_hundred_thousand_steps(noise: float) -> None:
    assert spikes(SpikeDetector(SpikeConfig()), losses(100_000, noise=noise)) == []


@pytest.mark.slow
def test_noise_with_heavy_tails_gives_a_false_alarm_in_less_than_a_thousand_steps() -> None:
    random = np.random.default_rng(3)
    values = losses(100_000, noise=0) * (1 + 0.01 * random.standard_t(4, 100_000))

    assert len(spikes(SpikeDetector(SpikeConfig()), values)) < 100


@pytest.mark.parametrize("places", [[400], [300, 301, 302], [250, 700, 1200]])
def test_planted_spikes_are_found_and_no_others(places: list[int]) -> None:
    values = losses(1_500, noise=0.02)
    values[places] *= 1.5

    found = spikes(SpikeDetector(SpikeConfig()), values)

    assert [spike.step for spike in found] == [place + 1 for place in places]
    assert {spike.what for spike in found} == {"loss"}
    assert all(spike.value > spike.median and spike.deviations > 8 for spike in found)


def test_of_a_row_of_spikes_the_first_is_told_as_such() -> None:
    values = losses(600, noise=0.02)
    values[[300, 301, 302, 450]] *= 2

    assert [spike.first for spike in spikes(SpikeDetector(SpikeConfig()), values)] == [True, False, False, True]


def test_a_gradient_that_jumps_is_found_before_the_loss_does() -> None:
    gradients = norms(600)
    gradients[400] = 60.0

    found = spikes(SpikeDetector(SpikeConfig()), losses(600, noise=0.02), gradients)

    assert [(spike.step, spike.what) for spike in found] == [(401, "gradient_norm")]
    assert found[0].median == pytest.approx(0.4, rel=0.3)


def test_the_first_steps_are_not_judged() -> None:
    values = losses(200, noise=0.02)
    values[[5, 100, 127]] *= 10

    assert spikes(SpikeDetector(SpikeConfig()), values) == []


def test_a_calm_loss_may_move_a_little() -> None:
    values = np.full(400, 2.0)
    values[300:] = 2.09  # more deviations than can be counted, and under 5 %

    assert spikes(SpikeDetector(SpikeConfig()), values) == []


def test_a_loss_that_stays_high_is_a_new_level_and_is_judged_from_there() -> None:
    values = losses(1_000, noise=0.02)
    values[400:] *= 3
    values[900] *= 2

    found = [spike.step for spike in spikes(SpikeDetector(SpikeConfig()), values)]

    assert found == [*range(401, 401 + 32), 901]


def test_spikes_do_not_change_what_later_steps_are_judged_by() -> None:
    plain, planted = losses(600, noise=0.02), losses(600, noise=0.02)
    planted[[200, 201, 202, 203]] = 50.0
    one, other = SpikeDetector(SpikeConfig(window=32)), SpikeDetector(SpikeConfig(window=32))

    spikes(one, np.delete(plain, [200, 201, 202, 203]), np.delete(norms(600), [200, 201, 202, 203]))
    spikes(other, planted)

    assert one.state_dict() == other.state_dict()


@given(cut=st.integers(0, 300))
def test_a_detector_goes_on_from_its_saved_state_as_if_nothing_had_been(cut: int) -> None:
    values, gradients = losses(300, noise=0.02), norms(300)
    values[[100, 101, 250]] *= 2
    whole, before, after = (SpikeDetector(SpikeConfig(window=32)) for _ in range(3))

    wanted = spikes(whole, values, gradients)
    found = spikes(before, values[:cut], gradients[:cut])
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    found += spikes(after, values[cut:], gradients[cut:], first=cut + 1)

    assert found == wanted
    assert after.state_dict() == whole.state_dict()


def test_a_run_that_keeps_spiking_is_stopped() -> None:
    values = losses(600, noise=0.02)
    values[200::20] *= 3
    detector = SpikeDetector(SpikeConfig(window=32, action="skip", most=5))

    with pytest.raises(DivergedError, match=r"step 301: loss .* one spike more than the 5") as raised:
        spikes(detector, values)

    assert "learning_rate" in raised.value.hint


def test_a_spike_that_is_only_noted_never_stops_a_run() -> None:
    values = losses(900, noise=0.02)
    values[200::20] *= 3

    assert len(spikes(SpikeDetector(SpikeConfig(window=32, most=0)), values)) == 35


def test_the_event_of_a_spike_says_what_was_done() -> None:
    spike = Spike(100, "loss", 9.0, 2.0, 51.26, True)

    assert spike.event("skip") == {
        "step": 100, "event": "skip", "what": "loss", "value": 9.0, "median": 2.0, "deviations": 51.3,
    }  # fmt: skip
    assert spike.event("note")["event"] == "spike"
    assert str(spike) == "step 100: loss 9.000, 51.3 deviations above 2.000"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"action": "jump"}, "action='jump'"), ({"threshold": 0}, "threshold=0"), ({"window": 4}, "window=4")],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpikeConfig(**settings)


def documents(count: int) -> pa.Table:
    names = ("repository", "commit", "path", "license", "swhid")
    return pa.table({name: [f"{name}-{row}" for row in range(count)] for name in names})


def batch(*numbers: int) -> Batch:
    """A sequence of three tokens for each document."""
    count = len(numbers)
    nothing = np.zeros(3 * count, np.int64)
    places = tuple((number,) for number in numbers)
    return Batch(nothing, nothing, [3] * count, places, ("psm",) * count, ("Rust",) * count)


def test_a_loss_that_is_no_number_stops_with_the_documents_of_the_sequence(tmp_path: Path) -> None:
    nats = np.asarray([1, 1, 0, 1, math.nan, 0], np.float32)
    rows = [(64, batch(0, 1), np.ones(6, np.float32)), (65, batch(2, 3), nats)]

    error = non_finite(17, math.nan, 1.0, rows=rows, documents=documents(4), run=tmp_path)

    assert isinstance(error, DivergedError)
    assert error.message == (
        "step 17: the loss is nan, in row 65, 1 of the step's 2, read from 1 document:\n  repository-3 path-3 swhid-3"
    )
    assert str(tmp_path / "bad_batch.json") in error.hint
    written = json.loads((tmp_path / "bad_batch.json").read_text())
    assert (written["step"], written["loss"]) == (17, "nan")
    assert [sequence["finite"] for row in written["rows"] for sequence in row["sequences"]] == [True, True, True, False]
    assert written["rows"][1]["sequences"][1]["documents"] == [
        {name: f"{name}-3" for name in ("repository", "commit", "path", "license", "swhid")}
    ]


def test_where_the_gradient_is_no_number_all_documents_are_named_ten_of_them_in_the_message(tmp_path: Path) -> None:
    error = non_finite(3, 2.0, math.inf, rows=[(8, batch(*range(13), 0), None)], documents=documents(13), run=tmp_path)

    assert error is not None
    first, *named = error.message.split("\n  ")
    assert first == "step 3: the gradient's norm is inf, in row 8, read from 13 documents:"
    assert named == [*(f"repository-{i} path-{i} swhid-{i}" for i in range(10)), "and 3 more"]
    assert len(json.loads((tmp_path / "bad_batch.json").read_text())["rows"][0]["sequences"]) == 14


def test_finite_losses_stop_nothing(tmp_path: Path) -> None:
    assert non_finite(3, 2.0, 1.0, rows=[], documents=documents(0), run=tmp_path) is None
    assert list(tmp_path.iterdir()) == []
