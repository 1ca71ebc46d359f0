"""Weights: natural unless a recipe says otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import ConfigError
from starsmith.corpus.sampling import SamplingConfig, language_weights

SIZES = st.dictionaries(st.sampled_from(["C", "Java", "HTML", "JSON"]), st.integers(0, 10**12))


@given(sizes=SIZES)
def test_the_natural_distribution_is_the_default(sizes: dict[str, int]) -> None:
    weights = language_weights(SamplingConfig(), sizes)

    assert weights == {language: 1.0 for language, size in sizes.items() if size}


@given(sizes=SIZES, most=st.floats(1, 1e12))
def test_no_more_than_the_cap_is_drawn_of_a_language(sizes: dict[str, int], most: float) -> None:
    weights = language_weights(SamplingConfig(most_bytes={"Java": most}), sizes)

    for language, weight in weights.items():
        assert weight * sizes[language] <= (most if language == "Java" else sizes[language]) * (1 + 1e-9)
        assert weight == 1.0 or language == "Java"


def test_a_weight_and_a_cap_are_multiplied() -> None:
    config = SamplingConfig(languages={"HTML": 0.5, "C": 2.0}, most_bytes={"HTML": 100.0})

    assert language_weights(config, {"HTML": 400, "C": 10, "Java": 10}) == {"HTML": 0.125, "C": 2.0, "Java": 1.0}


@pytest.mark.parametrize("table", ["languages", "repositories", "most_bytes"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_weight_below_nothing_is_refused(table: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{table} C = "):
        SamplingConfig(**{table: {"C": value}})  # type: ignore[arg-type]
