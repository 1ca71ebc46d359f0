"""What the engine benchmark believes: only where the peer agrees with itself and both did the same work."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from engine import Q8_0, W8A8, Row, memory_ratio
from engines.models import SHAPES
from engines.sides import Bracket, Round
from engines.work import Report, Work, measure

pytestmark = pytest.mark.slow

REPORT = Report(
    load_s=1.0, prefill_s=[2.0, 2.0, 9.0], decode_s=[0.2] * 3, step_s=[0.3] * 3, weights_bytes=1000,
    before_bytes=0, peak_bytes=0, likeliest=[(5, -1.0)],
)  # fmt: skip


def one_round(before: float, ours: float, after: float, *, same_work: bool = True) -> Round:
    """Seconds of decoding a token."""
    reports = [replace(REPORT, decode_s=[seconds] * 3) for seconds in (before, ours, after)]
    return Round(reports[0], {W8A8: reports[1]}, reports[2], same_work)


def test_the_first_round_in_which_the_peer_agrees_with_itself_is_believed() -> None:
    rounds = one_round(0.1, 0.3, 0.2), one_round(0.10, 0.05, 0.105), one_round(0.1, 0.01, 0.1)

    found = Bracket("mini", Q8_0, rounds).compare("decode_s")

    assert found.resolved
    assert (found.ours, found.side) == (0.05, W8A8)
    assert found.peer == pytest.approx(0.1025)
    assert found.speedup == pytest.approx(2.05)


@pytest.mark.parametrize(
    "last", [one_round(0.1, 0.05, 0.12), one_round(0.1, 0.05, 0.1, same_work=False)], ids=["apart", "other work"]
)
def test_a_row_that_is_not_resolved_does_not_hold(last: Round) -> None:
    found = Bracket("mini", Q8_0, (last,)).compare("decode_s")
    row = Row("decode", found.ours, found.peer, "peer", "s", found.speedup, 1.0, resolved=found.resolved)

    assert found.speedup > 1.0
    assert (row.to_json()["holds"], row.to_json()["resolved"]) == (False, False)


@pytest.mark.parametrize(("at_most", "holds"), [(True, False), (False, True)])
def test_a_bar_says_whether_less_or_more_is_better(at_most: bool, holds: bool) -> None:
    assert Row("x", 2.0, 1.0, "peer", "s", 2.0, 1.0, at_most=at_most).to_json()["holds"] is holds


def test_one_slow_repeat_does_not_count() -> None:
    found = Bracket("mini", Q8_0, (Round(REPORT, {W8A8: REPORT}, REPORT, True),)).compare("prefill_s")

    assert (found.ours, found.peer) == (2.0, 2.0)


def test_memory_is_what_loading_added_over_weights_and_keys_and_values() -> None:
    model = SHAPES["mini"]
    kept = 2 * 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * 512
    report = replace(REPORT, weights_bytes=10**6, before_bytes=500, peak_bytes=500 + 2 * (10**6 + kept))

    assert memory_ratio("mini", report) == pytest.approx(2.0)


class Counting:
    """An engine that notes what it is asked for."""

    weights_bytes, about = 7, ""

    def __init__(self, _: Work) -> None:
        self.prompts: list[list[int]] = []

    def likeliest(self, ids: Sequence[int]) -> list[tuple[int, float]]:
        return [(ids[0], -1.0)]

    def prefill(self, ids: Sequence[int]) -> float:
        self.prompts.append(list(ids))
        return 1.0

    def decode(self, ids: Sequence[int], count: int) -> float:
        return float(count)

    def step(self, ids: Sequence[int], new: Sequence[int]) -> float | None:
        return float(len(new))


def test_every_engine_is_given_the_same_prompts_and_none_twice() -> None:
    work = Work(model="", weights="", device="cpu", threads=1, vocabulary=1000, repeats=3)
    engines: list[Counting] = []

    def opened(asked: Work) -> Counting:
        engines.append(Counting(asked))
        return engines[-1]

    reports = [measure(opened, work) for _ in range(2)]

    one, other = engines
    assert one.prompts == other.prompts
    assert len({tuple(prompt) for prompt in one.prompts}) == work.repeats
    assert all(len(prompt) == work.prompt for prompt in one.prompts)
    assert min(min(prompt) for prompt in one.prompts) >= 64  # no control token
    assert reports[0].likeliest == reports[1].likeliest
    assert reports[0].decode_s == [float(work.decode)] * work.repeats
    assert reports[0].step_s == [float(work.step)] * work.repeats
    assert 0 < reports[0].before_bytes <= reports[0].peak_bytes
