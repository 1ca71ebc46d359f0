"""Whatever comes, goes and runs beside it, a request writes what it would have written alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plain_runner import VOCABULARY, PlainRunner, logits_after
from starsmith.inference.decoding import Decoder
from starsmith.inference.engine import Drafter, GeneratedToken, SamplingParams
from starsmith.inference.jobs import Generation, Outcome, Scoring
from starsmith.inference.runner import TorchRunner
from starsmith.inference.sampling import choose, uniform
from starsmith.inference.scheduler import Limits
from starsmith.model.config import ModelConfig
from starsmith.model.kv_cache import BlockPool
from starsmith.model.transformer import Transformer

pytestmark = pytest.mark.slow

FEWEST_BLOCKS = 6  # enough for the longest request alone: 60 ids and 30 tokens


def alone(prompt: Sequence[int], params: SamplingParams) -> list[int]:
    """The plain way: everything anew for every token."""
    ids = list(prompt)
    while len(ids) < len(prompt) + params.max_tokens:
        ids.append(choose(logits_after(ids), params, uniform(params.seed or 0, len(ids))).id)
        if ids[-1] in params.stop_tokens:
            break
    return ids[len(prompt) :]


class Prophet:
    """Knows what will be written, and is wrong at every `wrong`-th place."""

    def __init__(self, text: Sequence[int], prompt_tokens: int, wrong: int) -> None:
        self.text, self.prompt_tokens, self.wrong = text, prompt_tokens, wrong

    def propose(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        written = len(ids) - self.prompt_tokens
        coming = list(self.text[written : written + limit])
        return [
            (token + (self.wrong > 0 and (written + place) % self.wrong == 0)) % VOCABULARY
            for place, token in enumerate(coming)
        ]


class Babbler:
    """Guesses what is no guess: the wrong tokens, too many of them, and some that do not exist."""

    def propose(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        return [(ids[-1] * 7 + place) % (VOCABULARY + 3) for place in range(limit + 2)]


@dataclass(eq=False)
class Asked:
    """One request of a schedule, and what became of it."""

    arrival: int
    prompt: list[int]
    params: SamplingParams
    session: str | None
    guesser: str
    leaves_after: int | None  # tokens, then its `cancelled` says so
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def text(self) -> list[int]:
        return [token.id for outcome in self.outcomes if isinstance(outcome, list) for token in outcome]

    def generation(self) -> Generation:
        return Generation(
            ids=list(self.prompt),
            session=self.session,
            put=self.outcomes.append,
            cancelled=lambda: self.leaves_after is not None and len(self.text) >= self.leaves_after,
            params=self.params,
            seed=self.params.seed or 0,
            end=len(self.prompt) + self.params.max_tokens,
            vocab_size=VOCABULARY,
            drafter=self._drafter(),
        )

    def _drafter(self) -> Drafter | None:
        if self.guesser == "babbler":
            return Babbler()
        if self.guesser == "none":
            return None
        wrong = {"right": 0, "often wrong": 2, "seldom wrong": 5}[self.guesser]
        return Prophet(alone(self.prompt, self.params), len(self.prompt), wrong)


# Few different beginnings, so that requests share blocks and part inside them.
beginnings = st.sampled_from([[], [1] * 20, [1] * 20 + [2] * 20, [3, 4] * 17])
prompts = st.builds(
    lambda beginning, cut, rest: [*beginning[: len(beginning) - cut], *rest],
    beginnings, st.integers(0, 4), st.lists(st.integers(0, 4), min_size=1, max_size=18),
)  # fmt: skip
parameters = st.builds(
    SamplingParams,
    max_tokens=st.integers(0, 30),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([None, 3]),
    top_p=st.sampled_from([1.0, 0.8]),
    seed=st.integers(0, 3),
    stop_tokens=st.sampled_from([frozenset[int](), frozenset({5, 6})]),
)
requests = st.builds(
    Asked,
    arrival=st.integers(0, 25),
    prompt=prompts,
    params=parameters,
    session=st.sampled_from([None, None, "a", "b"]),
    guesser=st.sampled_from(["none", "right", "often wrong", "seldom wrong", "babbler"]),
    leaves_after=st.sampled_from([None, None, None, 0, 1, 6]),
)
limits = st.builds(
    Limits,
    prompt_tokens=st.sampled_from([1, 5, 16, 100]),
    shared_prompt_tokens=st.sampled_from([1, 7, 40]),
    requests=st.integers(1, 6),
    guesses=st.integers(1, 9),
    verified_tokens=st.integers(1, 20),
    aging_tokens=st.sampled_from([1, 10, 1000]),
)


def play(schedule: Sequence[Asked], decoder: Decoder) -> None:
    """Requests in the order of their arrival, counted in steps, until all are answered."""
    coming = sorted(schedule, key=lambda one: one.arrival)
    for step in range(10_000):
        while coming and coming[0].arrival <= step:
            decoder.submit(coming.pop(0).generation())
        if not coming and decoder.idle:
            return
        decoder.step()
    pytest.fail("the schedule does not end")


@settings(max_examples=35)
@given(st.lists(requests, min_size=1, max_size=10), limits, st.integers(FEWEST_BLOCKS, 20))
def test_every_text_is_that_of_its_request_alone_and_no_block_is_lost(
    schedule: list[Asked], limits: Limits, blocks: int
) -> None:
    decoder = Decoder(PlainRunner(blocks), limits)

    play(schedule, decoder)

    newest = {one.session: one for one in sorted(schedule, key=lambda one: one.arrival)}
    for one in schedule:
        wanted = alone(one.prompt, one.params)
        whole = one.leaves_after is None and (one.session is None or newest[one.session] is one)
        assert one.outcomes[-1] is None
        assert one.text == wanted if whole else one.text == wanted[: len(one.text)]
    stats = decoder.snapshot()
    assert (stats.held_blocks, stats.running, stats.waiting, stats.failed) == (0, 0, 0, 0)


@settings(max_examples=30)
@given(st.lists(requests, max_size=5), st.lists(prompts, min_size=1, max_size=3), limits, st.integers(6, 12))
def test_scores_among_other_requests_are_those_of_the_text_alone(
    schedule: list[Asked], texts: list[list[int]], limits: Limits, blocks: int
) -> None:
    decoder = Decoder(PlainRunner(blocks), limits)
    ended: list[Outcome] = []
    scorings = [Scoring(ids=text, targets=[*text[1:], 9], put=ended.append) for text in texts]
    for scoring in scorings:
        decoder.submit(scoring)

    play(schedule, decoder)

    assert ended == [None] * len(texts)
    for scoring in scorings:
        ids = [*scoring.ids, 9]
        wanted = [float(logits_after(ids[:end]).log_softmax(-1)[ids[end]]) for end in range(1, len(ids))]
        assert scoring.scores == pytest.approx(wanted, abs=1e-5)


def test_schedules_do_evict_preempt_and_accept_guesses() -> None:
    """What the schedules above are to withstand does happen in such a one."""
    params = SamplingParams(max_tokens=30)
    schedule = [
        Asked(number, [number] * 40, params, None, "right" if number % 2 else "often wrong", None)
        for number in range(8)
    ]
    decoder = Decoder(PlainRunner(12), Limits(prompt_tokens=20))

    play(schedule, decoder)

    stats = decoder.snapshot()
    assert min(stats.evictions, stats.preemptions, stats.reused_tokens + stats.accepted_guesses) > 0
    assert stats.accepted_guesses < stats.proposed_guesses
    assert [one.text for one in schedule] == [alone(one.prompt, params) for one in schedule]


def test_the_same_schedule_makes_the_same_steps() -> None:
    def steps() -> list[list[tuple[int, int]]]:
        runner = PlainRunner(12)
        params = SamplingParams(max_tokens=12)
        play([Asked(n, [n % 3] * 33, params, None, "often wrong", None) for n in range(5)], Decoder(runner, Limits()))
        return [[(chunk.past, len(chunk.ids)) for chunk in step] for step in runner.steps]

    assert steps() == steps()


def test_tokens_are_put_as_they_come() -> None:
    asked = Asked(0, [1, 2, 3], SamplingParams(max_tokens=3), None, "none", None)

    play([asked], Decoder(PlainRunner(), Limits()))

    assert [len(one) for one in asked.outcomes if isinstance(one, list)] == [1, 1, 1]
    assert all(isinstance(one, GeneratedToken) for outcome in asked.outcomes[:-1] for one in outcome or ())


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ModelConfig(
        vocab_size=VOCABULARY, num_key_value_heads=1, sliding_window=24, initializer_range=0.5, **sizes
    )
    return Transformer(config).double().eval()  # so that the order of sums decides nothing


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=st.lists(requests, min_size=2, max_size=6), limits=limits, blocks=st.integers(FEWEST_BLOCKS, 12))
def test_a_real_model_writes_in_company_what_it_writes_alone(
    model: Transformer, schedule: list[Asked], limits: Limits, blocks: int
) -> None:
    decoder = Decoder(TorchRunner(model, BlockPool(model.config, blocks=blocks, dtype=torch.float64)), limits)

    play(schedule, decoder)

    for one in schedule:
        ids = [*one.prompt, *one.text]
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0, len(one.prompt) - 1 : -1].float()
        numbers = [uniform(one.params.seed or 0, place) for place in range(len(one.prompt), len(ids))]
        wanted = [choose(row, one.params, number).id for row, number in zip(logits, numbers, strict=True)]
        assert one.text == wanted
    assert decoder.snapshot().held_blocks == 0
