"""The learning rate over a run, and the average of the weights."""

import itertools
import math

import pytest
import torch
from torch import nn

from starsmith.core.errors import ConfigError
from starsmith.training.averaging import WeightAverage
from starsmith.training.schedule import ScheduleConfig, learning_rate_factor


def factors(config: ScheduleConfig, steps: int = 100) -> list[float]:
    return [learning_rate_factor(config, step, steps) for step in range(steps)]


def test_wsd_warms_up_stays_and_decays_to_zero() -> None:
    found = factors(ScheduleConfig())

    assert found[0] == pytest.approx(1 / 3)
    assert found[2:61] == [1.0] * 59
    assert all(later < earlier for earlier, later in itertools.pairwise(found[61:]))
    assert found[-1] == pytest.approx(1 / 40)


def test_cosine_falls_from_the_peak_to_its_final_share() -> None:
    found = factors(ScheduleConfig(shape="cosine", warmup=10, final=0.1))

    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10] == 1.0
    assert found[55] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert 0.1 < found[-1] < 0.101
    assert all(later < earlier for earlier, later in itertools.pairwise(found[10:]))


def test_warmup_may_be_longer_than_the_run() -> None:
    assert factors(ScheduleConfig(warmup=1000), steps=3) == pytest.approx([0.001, 0.002, 0.003])


def test_a_decay_of_zero_stays_at_the_peak() -> None:
    assert factors(ScheduleConfig(decay=0.0, warmup=0), steps=5) == [1.0] * 5


@pytest.mark.parametrize("changes", [{"shape": "linear"}, {"decay": 1.5}, {"final": -0.1}, {"warmup": -1.0}])
def test_what_is_no_schedule_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ScheduleConfig(**changes)  # type: ignore[arg-type]


def test_the_average_is_the_mean_at_first_and_exponential_later() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.9)
    values, expected = [1.0, 3.0, 8.0, *range(20)], 0.0
    for number, value in enumerate(values, start=1):
        nn.init.constant_(model.weight, value)
        average.update()
        expected += max(0.1, 1 / number) * (value - expected)

    assert float(average.values["weight"].detach()) == pytest.approx(expected, rel=1e-6)


def test_within_the_model_has_the_average_and_afterwards_its_own_weights() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.5)
    before = model.weight.detach().clone()
    average.update()
    nn.init.constant_(model.weight, 7.0)

    with average.in_place():
        torch.testing.assert_close(model.weight.detach(), before)

    assert bool((model.weight == 7.0).all())
    torch.testing.assert_close(average.values["weight"], before)
