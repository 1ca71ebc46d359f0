"""Sampling: the distribution is what the settings say, and a number decides it."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from plain_runner import PlainRunner, logits_after
from starsmith.core.errors import ConfigError, EngineError
from starsmith.inference.engine import GenerationRequest, SamplingParams
from starsmith.inference.local import LocalEngine
from starsmith.inference.sampling import choose, distribution, uniform

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5])


def test_temperature_zero_takes_the_most_probable_token() -> None:
    assert choose(LOGITS, SamplingParams(temperature=0), 0.99).id == 0


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 1e-3])
def test_a_tiny_temperature_takes_the_most_probable_token(temperature: float) -> None:
    assert choose(LOGITS, SamplingParams(temperature=temperature), 0.99).id == 0


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


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])  # all alike, a broad nucleus, a narrow one
@pytest.mark.parametrize("top_p", [0.2, 0.9, 0.9999])
def test_a_nucleus_found_among_the_first_is_that_of_the_whole_vocabulary(scale: float, top_p: float) -> None:
    logits = torch.randn(5000, generator=torch.Generator().manual_seed(0)).round(decimals=1) * scale  # with many ties

    found = distribution(logits, SamplingParams(temperature=1, top_p=top_p)).nonzero()[:, 0]

    ordered, ids = logits.softmax(-1).sort(descending=True, stable=True)
    assert found.tolist() == sorted(ids[ordered.cumsum(-1) - ordered < top_p].tolist())


def chi_squared(drawn: Tensor, expected: Tensor) -> float:
    """Of counts; expected ones that are 0 must be seen as such."""
    observed = drawn.bincount(minlength=len(expected)).float()
    kept = expected > 0
    assert observed[~kept].sum() == 0
    return float(((observed - expected)[kept] ** 2 / expected[kept]).sum())


@pytest.mark.slow
@pytest.mark.parametrize("by_seed", [True, False])
def test_drawn_tokens_have_the_frequencies_of_the_distribution(by_seed: bool) -> None:
    params = SamplingParams(temperature=0.8, top_k=4)

    numbers = [uniform(one, 7) if by_seed else uniform(7, one) for one in range(4000)]
    drawn = torch.tensor([choose(LOGITS, params, number).id for number in numbers])

    assert chi_squared(drawn, distribution(LOGITS, params) * 4000) < 16.3  # 3 degrees of freedom, p = 0.001


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=50), st.floats(0, 1, exclude_max=True))
def test_a_token_that_cannot_be_drawn_is_not(logits: list[float], number: float) -> None:
    params = SamplingParams(temperature=1, top_k=3, top_p=0.7)

    token = choose(torch.tensor(logits), params, number).id

    assert distribution(torch.tensor(logits), params)[token] > 0


def test_numbers_belong_to_the_seed_and_the_place() -> None:
    numbers = np.array([[uniform(seed, place) for place in range(200)] for seed in (-1, 0, 1, 2**63, 2**70 + 1)])

    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert len(np.unique(numbers)) == numbers.size - 200  # 2**70 + 1 is 1 in 64 bits
    assert uniform(1, 5) == numbers[2, 5]


@pytest.mark.parametrize("lag", [(0, 1), (1, 0), (1, 1), (2, -1)])
def test_numbers_of_neighbouring_seeds_and_places_are_independent(lag: tuple[int, int]) -> None:
    pairs = [(uniform(s, p), uniform(s + lag[0], p + lag[1])) for s in range(60) for p in range(1, 61)]

    cells = torch.tensor([int(one * 6) * 6 + int(other * 6) for one, other in pairs])
    assert chi_squared(cells, torch.full((36,), len(pairs) / 36)) < 66.6  # 35 degrees of freedom, p = 0.001


class Likeliest:
    """Guesses the most probable tokens."""

    def propose(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        seen = list(ids)
        for _ in range(limit):
            seen.append(int(logits_after(seen).argmax()))
        return seen[len(ids) :]


@pytest.mark.slow
def test_texts_with_guesses_are_those_without_and_have_the_distribution_of_the_model() -> None:
    trials, prompt = 1500, [1, 2, 3]
    params = {"max_tokens": 3, "temperature": 0.8, "top_k": 5, "top_p": 0.9}
    with LocalEngine(PlainRunner(), inline=True) as engine:
        texts = [
            [
                tuple(token.id for token in engine.generate(GenerationRequest(
                    prompt=prompt, drafter=drafter, params=SamplingParams(seed=seed, **params),  # type: ignore[arg-type]
                )))
                for seed in range(trials)
            ]
            for drafter in (None, Likeliest())
        ]  # fmt: skip
        stats = engine.stats

    assert texts[0] == texts[1]
    assert 0 < stats.accepted_guesses < stats.proposed_guesses
    expected = _chances(prompt, SamplingParams(**params))  # type: ignore[arg-type]
    common = [text for text, chance in expected.items() if chance * trials >= 5]
    counts = np.array([texts[1].count(text) for text in common] + [sum(text not in common for text in texts[1])])
    wanted = np.array([expected[text] * trials for text in common] + [0.0])
    wanted[-1] = trials - wanted.sum()
    statistic = float(((counts - wanted) ** 2 / wanted).sum())
    freedom = len(common)
    assert statistic < freedom + 3.1 * math.sqrt(2 * freedom) + 5  # about p = 0.001


def _chances(prompt: list[int], params: SamplingParams, depth: int = 3) -> dict[tuple[int, ...], float]:
    """The probability of every text of `depth` tokens."""
    if depth == 0:
        return {(): 1.0}
    chances = distribution(logits_after(prompt), params)
    return {
        (token, *rest): float(chances[token]) * chance
        for token in chances.nonzero()[:, 0].tolist()
        for rest, chance in _chances([*prompt, token], params, depth - 1).items()
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("params", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 2, "top_p": 0.5}])
def test_logits_that_are_no_numbers_are_an_error(bad: float, params: dict[str, float]) -> None:
    logits = LOGITS.clone()
    logits[3] = bad

    with pytest.raises(EngineError, match="not finite"):
        choose(logits, SamplingParams(**params), 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"max_tokens": -1}, {"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": 0}]
)
def test_settings_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SamplingParams(**changes)  # type: ignore[arg-type]
