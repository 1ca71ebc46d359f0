"""A model in training is watched at the same places each time, and is left as it was."""

import math
from pathlib import Path

import pytest
import torch

from starsmith.core.records import HELD_OUT
from starsmith.evaluation import watch
from starsmith.evaluation.bits_per_byte import measure, score_document
from starsmith.evaluation.infilling import Filled, choose_holes, fill
from starsmith.evaluation.watch import Watch
from starsmith.inference.completion import Completer
from starsmith.inference.local import engine_for
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.tokenizer.tokens import TokenStore

CONTEXT = 256


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="module")
def store(tokens_directory: Path, tokenizer: Tokenizer) -> TokenStore:
    return TokenStore(tokens_directory, vocab_size=tokenizer.vocab_size, split=HELD_OUT)


@pytest.fixture
def model(tokenizer: Tokenizer) -> Transformer:
    torch.manual_seed(0)
    return Transformer(
        ModelConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=CONTEXT,
            initializer_range=0.3,
        )
    )


def test_bits_per_byte_are_those_that_the_evaluation_measures(
    tokens_directory: Path, tokenizer: Tokenizer, store: TokenStore, model: Transformer
) -> None:
    found = Watch(tokens_directory, tokenizer, context_tokens=10_000)(model)

    engine = engine_for(model, context_tokens=10_000)
    documents = [store.ids(document) for document in range(len(store))]
    wanted = measure(lambda ids: score_document(engine, ids), tokenizer, documents)
    assert found["held_out_bits_per_byte"] == pytest.approx(wanted.value, rel=1e-5)


@pytest.mark.slow
def test_the_share_of_exact_infills_is_that_of_whole_completions(
    tokens_directory: Path, tokenizer: Tokenizer, store: TokenStore, model: Transformer
) -> None:
    trained_on(model, store, tokenizer)

    found = Watch(tokens_directory, tokenizer, context_tokens=CONTEXT, holes=12)(model)

    holes = choose_holes(watch._texts(store, tokenizer, 12), 12)
    filled: list[Filled] = list(fill(Completer(engine_for(model), tokenizer), holes, lambda: None))
    wanted = sum(one.exact for one in filled) / len(filled)
    assert found["held_out_exact_match"] == wanted
    assert 0 < wanted < 1


def test_it_gives_the_same_figures_each_time_and_leaves_the_model_as_it_was(
    tokens_directory: Path, tokenizer: Tokenizer, model: Transformer
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = Watch(tokens_directory, tokenizer, context_tokens=CONTEXT)
    model.train()
    random = torch.get_rng_state()

    first, second = seen(model), seen(model.eval())

    assert first == second
    assert set(first) == {"held_out_bits_per_byte", "held_out_exact_match"}
    assert not model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and not parameter.is_inference() for parameter in model.parameters())


def test_a_model_in_training_stays_in_training(
    tokens_directory: Path, tokenizer: Tokenizer, model: Transformer
) -> None:
    model.train()

    Watch(tokens_directory, tokenizer, context_tokens=CONTEXT, holes=1)(model)

    assert model.training


def test_another_model_gives_another_figure(tokens_directory: Path, tokenizer: Tokenizer, model: Transformer) -> None:
    seen = Watch(tokens_directory, tokenizer, context_tokens=CONTEXT, holes=0)
    before = seen(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(0)

    after = seen(model)

    assert set(before) == {"held_out_bits_per_byte"}
    bits_per_token = math.log2(tokenizer.vocab_size)
    assert after["held_out_bits_per_byte"] < bits_per_token < 3 * after["held_out_bits_per_byte"]
    assert after != before


def trained_on(model: Transformer, store: TokenStore, tokenizer: Tokenizer) -> None:
    """Teach a model some of the infills that it will be asked for: enough to get a few right."""
    from starsmith.tokenizer import fim

    holes = choose_holes(watch._texts(store, tokenizer, 12), 12)
    budget = CONTEXT - watch.COMPLETION_TOKENS
    examples = []
    for number, hole in enumerate(holes[:3]):
        layout: fim.Layout = "spm" if number % 2 else "psm"
        prompt = fim.infill_prompt(tokenizer, hole.prefix, hole.suffix, budget_tokens=budget, layout=layout)
        examples.append([*prompt, *tokenizer.encode(hole.truth), min(fim.STOP_TOKENS)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        for example in examples:
            ids = torch.tensor(example)
            logits = model(ids[None])[0, -16:-1]
            torch.nn.functional.cross_entropy(logits, ids[-15:]).backward()
        optimizer.step()
        optimizer.zero_grad()
