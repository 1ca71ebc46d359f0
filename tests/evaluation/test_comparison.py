import pytest

from starsmith.core.errors import InputError
from starsmith.evaluation.comparison import compare

FIRST = {"a": (1, 1), "b": (1, 0), "c": (1, 0), "d": (1, 1)}
SECOND = {"a": (1, 1), "b": (1, 1), "c": (1, 1), "d": (1, 0)}


def test_the_problems_that_changed_are_named() -> None:
    found = compare(FIRST, SECOND)

    assert [change.problem for change in found.gained] == ["b", "c"]
    assert [change.problem for change in found.lost] == ["d"]
    assert found.difference == pytest.approx(0.25)
    assert found.p == 1.0


def test_exchanged_the_difference_turns_its_sign() -> None:
    one, other = compare(FIRST, SECOND), compare(SECOND, FIRST)

    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_problems_that_only_one_has_are_left_out_and_said() -> None:
    found = compare(FIRST, {"a": (1, 0), "e": (1, 1)})

    assert found.problems == 1
    assert found.left_out == ("b", "c", "d", "e")


def test_several_samples_have_a_bootstrap_and_no_mcnemar() -> None:
    first = {str(number): (10, number % 7) for number in range(50)}
    second = {str(number): (10, min(10, number % 7 + 2)) for number in range(50)}

    found = compare(first, second)

    assert found.p is None
    assert found.low == found.high == pytest.approx(0.2)
    assert "bootstrap" in found.method


def test_nothing_in_common_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="share no problem"):
        compare(FIRST, {"z": (1, 1)})
