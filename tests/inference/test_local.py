"""The embedded engine: what it keeps between requests never shows in what it writes."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from starsmith.core.errors import InputError
from starsmith.inference import local
from starsmith.inference.engine import SamplingParams
from starsmith.inference.local import LocalEngine
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer

PROMPT = [5, 9, 40, 3, 77, 12, 60, 8]


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


def written(engine: LocalEngine, prompt: list[int], **params: object) -> list[int]:
    return [token.id for token in engine.generate(prompt, SamplingParams(**params))]  # type: ignore[arg-type]


def test_greedy_decoding_equals_reading_everything_anew(model: Transformer) -> None:
    assert written(LocalEngine(model), PROMPT, max_tokens=40) == greedy(model, PROMPT, 40)


@pytest.mark.parametrize("piece", [1, 3, 512])
def test_reading_the_prompt_in_pieces_changes_nothing(
    model: Transformer, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "PREFILL_TOKENS", piece)

    assert written(LocalEngine(model), PROMPT, max_tokens=10) == greedy(model, PROMPT, 10)


def test_what_two_prompts_share_is_computed_once_and_the_answer_is_the_same(model: Transformer) -> None:
    engine = LocalEngine(model)
    written(engine, PROMPT, max_tokens=5)
    longer = [*PROMPT[:6], 33, 34]

    found = written(engine, longer, max_tokens=10)

    assert engine.last_reused_tokens == 6
    assert found == greedy(model, longer, 10)


def test_the_same_prompt_again_reads_its_last_token_only(model: Transformer) -> None:
    engine = LocalEngine(model)
    first = written(engine, PROMPT, max_tokens=5)

    again = written(engine, PROMPT, max_tokens=5)

    assert again == first
    assert engine.last_reused_tokens == len(PROMPT) - 1


def test_generation_ends_after_a_stop_token(model: Transformer) -> None:
    free = greedy(model, PROMPT, 10)

    found = written(LocalEngine(model), PROMPT, max_tokens=10, stop_tokens=frozenset({free[4]}))

    assert found == free[: free.index(free[4]) + 1]


def test_generation_ends_with_the_context(model: Transformer) -> None:
    assert len(written(LocalEngine(model, context_tokens=12), PROMPT, max_tokens=100)) == 4


@pytest.mark.parametrize("prompt", [[], list(range(64)), list(range(70))])
def test_a_prompt_that_leaves_no_room_is_refused(model: Transformer, prompt: list[int]) -> None:
    with pytest.raises(InputError):
        written(LocalEngine(model), prompt)


def test_a_seed_repeats_a_sample_and_another_gives_another(model: Transformer) -> None:
    engine = LocalEngine(model)
    one, again, other = (written(engine, PROMPT, max_tokens=20, temperature=1.0, seed=seed) for seed in (1, 1, 2))

    assert one == again
    assert one != other


def test_scores_are_the_log_probabilities_of_the_model(model: Transformer) -> None:
    with torch.no_grad():
        logprobs = model(torch.tensor([PROMPT]))[0].log_softmax(-1)

    found = LocalEngine(model).score(PROMPT)

    wanted = [float(logprobs[place, token]) for place, token in enumerate(PROMPT[1:])]
    assert found == pytest.approx(wanted, abs=1e-5)


def test_log_probabilities_are_of_the_unmodified_distribution(model: Transformer) -> None:
    with torch.no_grad():
        logprobs = model(torch.tensor([PROMPT]))[0, -1].log_softmax(-1)

    params = SamplingParams(max_tokens=1, temperature=0.3, top_k=2, seed=0, top_logprobs=3)
    token = next(iter(LocalEngine(model).generate(PROMPT, params)))

    assert token.logprob == pytest.approx(float(logprobs[token.id]), abs=1e-5)
    assert [value for _, value in token.top_logprobs] == pytest.approx(logprobs.topk(3).values.tolist(), abs=1e-5)


def test_a_cancelled_request_stops_within_one_token(model: Transformer) -> None:
    seen: list[int] = []

    for token in LocalEngine(model).generate(PROMPT, SamplingParams(max_tokens=50), lambda: len(seen) >= 3):
        seen.append(token.id)

    assert len(seen) == 3


def test_a_waiting_request_gives_up_when_it_is_cancelled(model: Transformer) -> None:
    engine = LocalEngine(model)
    holder = engine.generate(PROMPT, SamplingParams(max_tokens=50))
    next(holder)  # holds the model from now on
    cancel = threading.Event()
    found: list[list[int]] = []
    waiter = threading.Thread(target=lambda: found.append(_drain(engine, cancel.is_set)))
    waiter.start()

    cancel.set()
    waiter.join(timeout=10)

    assert found == [[]]


def test_a_consumer_that_walks_away_frees_the_model(model: Transformer) -> None:
    engine = LocalEngine(model)
    abandoned = engine.generate(PROMPT, SamplingParams(max_tokens=50))
    next(abandoned)

    abandoned.close()  # type: ignore[attr-defined]

    assert written(engine, PROMPT, max_tokens=5) == greedy(model, PROMPT, 5)


@pytest.mark.slow
def test_requests_from_several_threads_do_not_mix(model: Transformer) -> None:
    engine = LocalEngine(model)
    prompts = [[seed, *PROMPT] for seed in range(6)]
    found: dict[int, list[int]] = {}
    threads = [
        threading.Thread(target=lambda prompt=prompt: found.update({prompt[0]: written(engine, prompt, max_tokens=8)}))
        for prompt in prompts
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {prompt[0]: greedy(model, prompt, 8) for prompt in prompts}


def _drain(engine: LocalEngine, cancelled: Callable[[], bool]) -> list[int]:
    tokens: Iterator[int] = (token.id for token in engine.generate(PROMPT, SamplingParams(), cancelled))
    return list(tokens)
