"""The embedded engine: what it keeps between requests, and what runs beside one, never shows in what it writes."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from plain_runner import VOCABULARY, PlainRunner, asked, written
from starsmith.core.errors import EngineError, InputError
from starsmith.inference.engine import Drafter, GenerationRequest, SamplingParams, never
from starsmith.inference.local import LocalEngine, engine_for
from starsmith.inference.runner import Chunk
from starsmith.inference.scheduler import Limits
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer

pytestmark = pytest.mark.slow  # an engine for each

PROMPT = [5, 9, 40, 3, 77, 12, 60, 8]
SHORT = [1, 2, 3]  # for the runner without a model


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(3)
    config = ModelConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        sliding_window=24,
        initializer_range=0.3,
    )
    return Transformer(config).eval()


def greedy(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """The plain way: the whole sequence anew for every token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


# ---- a model behind it


@pytest.mark.parametrize("inline", [False, True])
def test_greedy_decoding_equals_reading_everything_anew(model: Transformer, inline: bool) -> None:
    with engine_for(model, inline=inline) as engine:
        assert written(engine, PROMPT, max_tokens=40) == greedy(model, PROMPT, 40)


@pytest.mark.parametrize("piece", [1, 3, 512])
def test_reading_the_prompt_in_pieces_changes_nothing(model: Transformer, piece: int) -> None:
    with engine_for(model, limits=Limits(prompt_tokens=piece)) as engine:
        assert written(engine, PROMPT, max_tokens=10) == greedy(model, PROMPT, 10)


def test_what_two_prompts_share_is_computed_once_and_the_answer_is_the_same(model: Transformer) -> None:
    with engine_for(model) as engine:
        written(engine, PROMPT, max_tokens=5)
        longer = [*PROMPT[:6], 33, 34]

        found = written(engine, longer, max_tokens=10)

        assert engine.last_reused_tokens == 6
        assert found == greedy(model, longer, 10)


def test_the_same_prompt_again_reads_its_last_token_only(model: Transformer) -> None:
    with engine_for(model) as engine:
        first = written(engine, PROMPT, max_tokens=5)

        again = written(engine, PROMPT, max_tokens=5)

        assert again == first
        assert engine.last_reused_tokens == len(PROMPT) - 1


def test_what_was_written_is_reused_when_the_text_goes_on(model: Transformer) -> None:
    with engine_for(model) as engine:
        prompt = [*PROMPT, *written(engine, PROMPT, max_tokens=20), 3]

        found = written(engine, prompt, max_tokens=10)

        assert engine.last_reused_tokens == len(PROMPT) + 19  # the last that is written is not read
        assert found == greedy(model, prompt, 10)


def test_a_prompt_that_was_only_read_is_found_by_the_next_request(model: Transformer) -> None:
    with engine_for(model) as engine:
        assert written(engine, PROMPT, max_tokens=0) == []

        assert written(engine, [*PROMPT, 7], max_tokens=3) == greedy(model, [*PROMPT, 7], 3)
        assert engine.last_reused_tokens == len(PROMPT)


def test_generation_ends_after_a_stop_token(model: Transformer) -> None:
    free = greedy(model, PROMPT, 10)

    with engine_for(model) as engine:
        found = written(engine, PROMPT, max_tokens=10, stop_tokens=frozenset({free[4]}))

    assert found == free[: free.index(free[4]) + 1]


def test_generation_ends_with_the_context(model: Transformer) -> None:
    with engine_for(model, context_tokens=12) as engine:
        assert len(written(engine, PROMPT, max_tokens=100)) == 4


def test_a_seed_repeats_a_sample_and_another_gives_another(model: Transformer) -> None:
    with engine_for(model) as engine:
        one, again, other = (written(engine, PROMPT, max_tokens=20, temperature=1.0, seed=seed) for seed in (1, 1, 2))
        unseeded = [written(engine, PROMPT, max_tokens=20, temperature=1.0) for _ in range(2)]

    assert one == again
    assert one != other
    assert unseeded[0] != unseeded[1]


def test_scores_are_the_log_probabilities_of_the_model(model: Transformer) -> None:
    with torch.no_grad():
        logprobs = model(torch.tensor([PROMPT]))[0].log_softmax(-1)

    with engine_for(model, limits=Limits(prompt_tokens=3)) as engine:
        found = engine.score(PROMPT)
        assert engine.score(PROMPT[:1]) == []

    wanted = [float(logprobs[place, token]) for place, token in enumerate(PROMPT[1:])]
    assert found == pytest.approx(wanted, abs=1e-5)


def test_log_probabilities_are_of_the_unmodified_distribution(model: Transformer) -> None:
    with torch.no_grad():
        logprobs = model(torch.tensor([PROMPT]))[0, -1].log_softmax(-1)

    with engine_for(model) as engine:
        request = asked(PROMPT, max_tokens=1, temperature=0.3, top_k=2, seed=0, top_logprobs=3)
        token = next(iter(engine.generate(request)))

    assert token.logprob == pytest.approx(float(logprobs[token.id]), abs=1e-5)
    assert [value for _, value in token.top_logprobs] == pytest.approx(logprobs.topk(3).values.tolist(), abs=1e-5)


@pytest.mark.slow
def test_requests_from_several_threads_do_not_mix(model: Transformer) -> None:
    prompts = [[seed, *PROMPT] for seed in range(6)]
    found: dict[int, list[int]] = {}
    with engine_for(model) as engine:
        threads = [
            threading.Thread(
                target=lambda prompt=prompt: found.update({prompt[0]: written(engine, prompt, max_tokens=8)})
            )
            for prompt in prompts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == {prompt[0]: greedy(model, prompt, 8) for prompt in prompts}


@pytest.mark.parametrize("prompt", [[], list(range(64)), list(range(70))])
def test_a_prompt_that_leaves_no_room_is_refused(model: Transformer, prompt: list[int]) -> None:
    with engine_for(model) as engine, pytest.raises(InputError):
        engine.generate(asked(prompt))


@pytest.mark.parametrize("unknown", [-1, 97, 1 << 40])
def test_an_id_that_the_model_does_not_know_is_named_with_its_place(model: Transformer, unknown: int) -> None:
    with engine_for(model) as engine:
        for ask in (lambda: engine.generate(asked([1, 2, unknown, 3])), lambda: engine.score([1, 2, unknown])):
            with pytest.raises(InputError, match=f"token 2 is {unknown}, the model knows ids from 0 to 96"):
                ask()


# ---- guesses


class Known:
    """Guesses a text that is known."""

    def __init__(self, text: Sequence[int]) -> None:
        self.text = list(text)

    def propose(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        return self.text[len(ids) : len(ids) + limit]


class Broken:
    def propose(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        raise ValueError("no index")


def with_guesses(engine: LocalEngine, drafter: Drafter, **params: object) -> list[int]:
    request = GenerationRequest(prompt=SHORT, params=SamplingParams(**params), drafter=drafter)  # type: ignore[arg-type]
    return [token.id for token in engine.generate(request)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_right_guesses_save_steps_and_change_nothing(temperature: float) -> None:
    with LocalEngine(PlainRunner()) as engine:
        plain = written(engine, SHORT, max_tokens=40, temperature=temperature, seed=4)
        before = engine.stats.steps

        found = with_guesses(engine, Known([*SHORT, *plain]), max_tokens=40, temperature=temperature, seed=4)

        assert found == plain
        assert engine.stats.steps - before <= 8  # of 40
        assert engine.stats.accepted_guesses == engine.stats.proposed_guesses == 40 - (engine.stats.steps - before)


def test_a_stop_token_among_right_guesses_ends_the_text() -> None:
    with LocalEngine(PlainRunner()) as engine:
        plain = written(engine, SHORT, max_tokens=40)
        stop = plain[5]

        found = with_guesses(engine, Known([*SHORT, *plain]), max_tokens=40, stop_tokens=frozenset({stop}))

        assert found == plain[: plain.index(stop) + 1]


def test_guesses_that_fail_are_given_up_for_a_while() -> None:
    with LocalEngine(PlainRunner()) as engine:
        wrong = [(token + 1) % VOCABULARY for token in written(engine, SHORT, max_tokens=100)]

        with_guesses(engine, Known([*SHORT, *wrong]), max_tokens=100)

        assert 0 < engine.stats.proposed_guesses < 20


def test_a_guesser_that_breaks_ends_its_request_alone() -> None:
    with LocalEngine(PlainRunner()) as engine:
        with pytest.raises(EngineError, match="ValueError: no index"):
            with_guesses(engine, Broken())

        assert len(written(engine, SHORT, max_tokens=5)) == 5


# ---- who asks


@pytest.mark.parametrize("inline", [False, True])
def test_a_cancelled_request_stops_within_one_token(inline: bool) -> None:
    seen: list[int] = []
    with LocalEngine(PlainRunner(), inline=inline) as engine:
        for token in engine.generate(asked(SHORT, max_tokens=50), lambda: len(seen) >= 3):
            seen.append(token.id)

    assert len(seen) == 3


class Halting(PlainRunner):
    """Waits, from the second step on, until it may go on."""

    def __init__(self, blocks: int = 64) -> None:
        super().__init__(blocks)
        self.reached, self.may_go_on = threading.Event(), threading.Event()

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        if self.steps:
            self.reached.set()
            assert self.may_go_on.wait(10)
        return super().forward(chunks)


def in_thread(
    engine: LocalEngine, request: GenerationRequest, cancelled: Callable[[], bool] = never
) -> Callable[[], list[int]]:
    """Ask in another thread; a function that waits for the text."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(one.id for one in engine.generate(request, cancelled)))
    thread.start()

    def wait() -> list[int]:
        thread.join(10)
        assert not thread.is_alive()
        return found

    return wait


def test_a_cancel_ends_a_request_within_the_step_that_runs() -> None:
    runner, cancel = Halting(), threading.Event()
    with LocalEngine(runner) as engine:
        text = in_thread(engine, asked(SHORT, max_tokens=100), cancel.is_set)
        assert runner.reached.wait(10)

        cancel.set()
        runner.may_go_on.set()

        assert len(text()) <= 2
        written(engine, [4], max_tokens=1)
        assert [[list(chunk.ids[:1]) for chunk in step] for step in runner.steps][2:] == [[[4]]]


def test_a_waiting_request_gives_up_when_it_is_cancelled() -> None:
    cancel = threading.Event()
    with LocalEngine(Slow(), limits=Limits(requests=1)) as engine:
        holder = engine.generate(asked([1, 2], max_tokens=200))
        next(holder)  # its blocks are the only ones that may be held
        text = in_thread(engine, asked(SHORT), cancel.is_set)

        cancel.set()

        assert text() == []
        assert len(list(holder)) == 199


class Slow(PlainRunner):
    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        time.sleep(0.002)
        return super().forward(chunks)


def test_a_newer_request_of_a_session_ends_the_older_one_and_finds_what_that_read() -> None:
    with LocalEngine(Slow()) as engine:
        older = engine.generate(asked([5] * 20, "editor", max_tokens=450))
        next(older)

        newer = list(engine.generate(asked([*[5] * 20, 4], "editor", max_tokens=10)))

        assert len(newer) == 10
        assert len(list(older)) < 449
        assert engine.last_reused_tokens == 20
        assert engine.stats.superseded == 1


@pytest.mark.parametrize("inline", [False, True])
def test_a_consumer_that_walks_away_frees_the_blocks(inline: bool) -> None:
    with LocalEngine(PlainRunner(30), inline=inline) as engine:
        abandoned = engine.generate(asked(SHORT, max_tokens=400))
        next(abandoned)

        abandoned.close()  # type: ignore[attr-defined]

        assert len(written(engine, [7] * 70, max_tokens=400)) == 400  # which needs all blocks
        assert engine.stats.held_blocks == 0


def test_a_request_that_nobody_reads_is_never_made() -> None:
    with LocalEngine(PlainRunner()) as engine:
        engine.generate(asked(SHORT))

        assert engine.stats.requests == 0


def test_an_engine_that_nobody_holds_ends_its_thread() -> None:
    before = set(threading.enumerate())
    engine = LocalEngine(PlainRunner())
    written(engine, SHORT, max_tokens=2)
    (thread,) = set(threading.enumerate()) - before
    gone = weakref.ref(engine)

    del engine
    gc.collect()

    assert gone() is None
    assert not thread.is_alive()


@pytest.mark.parametrize("inline", [False, True])
def test_closing_ends_what_runs_and_refuses_what_comes(inline: bool) -> None:
    engine = LocalEngine(PlainRunner(), inline=inline)
    running = engine.generate(asked(SHORT, max_tokens=500))
    next(running)

    engine.close()

    with pytest.raises(EngineError, match="closed"):
        list(running)
    with pytest.raises(EngineError, match="closed"):
        written(engine, SHORT)
