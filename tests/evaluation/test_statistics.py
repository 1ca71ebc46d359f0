import numpy as np
import pytest

from starsmith.evaluation.statistics import bootstrap_mean, mcnemar, paired_shares


def test_the_bootstrap_is_that_of_drawing_problems_one_by_one() -> None:
    values = [0.0] * 30 + [0.5] * 10 + [1.0] * 20
    random = np.random.Generator(np.random.Philox(7))
    means = random.choice(values, size=(20_000, len(values))).mean(axis=1)

    low, high = bootstrap_mean(values)

    assert (low, high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.01)


def test_mcnemar_is_the_sign_test_on_the_problems_that_changed() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(400, 600) < 1e-9  # 2**1000 is no float


def test_the_interval_of_no_change_is_no_point() -> None:
    low, high = paired_shares(0, 0, 164)

    assert low == -high
    assert 0.005 < high < 0.05


@pytest.mark.slow
def test_the_paired_interval_holds_its_level() -> None:
    """Two models that solve 20 and 28 % of 164 problems and mostly the same ones."""
    random = np.random.Generator(np.random.Philox(1))
    outcomes = random.choice(4, p=(0.16, 0.04, 0.12, 0.68), size=(4000, 164))  # both, first, second, neither
    lost, gained = (outcomes == 1).sum(axis=1), (outcomes == 2).sum(axis=1)

    inside = [
        low <= 0.08 <= high for low, high in (paired_shares(*pair, 164) for pair in zip(lost, gained, strict=True))
    ]

    assert 0.93 < np.mean(inside) < 0.98
