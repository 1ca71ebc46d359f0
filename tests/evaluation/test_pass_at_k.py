import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.evaluation.pass_at_k import estimate, estimates, pass_at_k


def by_definition(samples: int, right: int, k: int) -> Fraction:
    """The share of all choices of k samples that have a right one among them."""
    return 1 - Fraction(math.comb(samples - right, k), math.comb(samples, k))


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_it_is_the_definition_by_binomials(case: tuple[int, int, int]) -> None:
    samples, right, k = case

    assert pass_at_k(samples, right, k) == pytest.approx(float(by_definition(samples, right, k)), abs=1e-12)


def test_with_fewer_samples_than_k_there_is_no_figure() -> None:
    assert pass_at_k(9, 9, 10) is None
    assert estimate([(10, 3), (9, 9)], 10) is None
    assert set(estimates([(10, 3), (9, 9)])) == {"pass@1", "pass@5"}


def test_no_problem_gives_no_figure() -> None:
    assert estimate([], 1) is None


def test_more_right_samples_than_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="3 right of 2"):
        pass_at_k(2, 3, 1)


def test_one_sample_a_problem_has_wilsons_interval() -> None:
    found = estimate([(1, 1)] * 49 + [(1, 0)] * 115, 1)

    assert found is not None
    assert found.method.startswith("Wilson")
    assert (round(found.low, 3), round(found.high, 3)) == (0.234, 0.373)


def test_several_samples_have_a_bootstrap_that_a_seed_repeats() -> None:
    counts = [(10, right % 11) for right in range(40)]

    first, again, other = (estimate(counts, 1, seed=seed) for seed in (1, 1, 2))

    assert first is not None
    assert first == again
    assert other is not None
    assert (first.low, first.high) != (other.low, other.high)
    assert first.low < first.value < first.high


def test_a_model_that_solves_nothing_is_not_said_to_be_certain_of_it() -> None:
    found = estimate([(20, 0)] * 164, 1)

    assert found is not None
    assert found.value == found.low == 0
    assert found.high > 0.02
