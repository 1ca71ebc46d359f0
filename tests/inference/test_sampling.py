"""Sampling: the distribution is what the settings say."""

import pytest
import torch

from starsmith.core.errors import ConfigError
from starsmith.inference.engine import SamplingParams
from starsmith.inference.sampling import choose, distribution

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5])


def test_temperature_zero_takes_the_most_probable_token() -> None:
    assert choose(LOGITS, SamplingParams(temperature=0), None).id == 0


@pytest.mark.slow
def test_temperature_divides_the_logits() -> None:
    found = distribution(LOGITS, SamplingParams(temperature=0.5))

    torch.testing.assert_close(found, (LOGITS * 2).softmax(-1))


def test_top_k_keeps_the_k_most_probable() -> None:
    found = distribution(LOGITS, SamplingParams(temperature=1, top_k=2))

    assert found.nonzero().flatten().tolist() == [0, 4]
    assert float(found.sum()) == pytest.approx(1)


@pytest.mark.parametrize(("top_p", "kept"), [(0.01, [0]), (0.5, [0, 4]), (0.75, [0, 1, 4]), (1.0, [0, 1, 2, 3, 4])])
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float, kept: list[int]) -> None:
    found = distribution(LOGITS, SamplingParams(temperature=1, top_p=top_p))

    assert found.nonzero().flatten().tolist() == kept
    assert float(found.sum()) == pytest.approx(1)


@pytest.mark.slow
def test_drawn_tokens_have_the_frequencies_of_the_distribution() -> None:
    params = SamplingParams(temperature=0.8, top_k=4)
    generator = torch.Generator().manual_seed(0)

    drawn = torch.tensor([choose(LOGITS, params, generator).id for _ in range(4000)])

    expected = distribution(LOGITS, params) * 4000
    observed = drawn.bincount(minlength=5).float()
    kept = expected > 0
    statistic = float(((observed - expected)[kept] ** 2 / expected[kept]).sum())
    assert observed[~kept].sum() == 0
    assert statistic < 16.3  # chi-squared, 3 degrees of freedom, p = 0.001


@pytest.mark.parametrize("changes", [{"max_tokens": -1}, {"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_settings_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SamplingParams(**changes)  # type: ignore[arg-type]
