"""The architecture: packed documents, caching and the sliding window all say the same."""

import itertools

import pytest
import torch

from starsmith.model.config import PRESETS, ModelConfig
from starsmith.model.kv_cache import BlockPool, Chunk, ChunkCache
from starsmith.model.transformer import Transformer


def tiny(**changes: object) -> Transformer:
    values = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "sliding_window": None,
        **changes,
    }
    model = Transformer(ModelConfig(**values))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # random norms and biases too, or an omission would not show
        parameter.data.normal_(std=0.3, generator=generator)
    return model.eval()


def ids(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 97, (1, count), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["starcoder2-3b", "starcoder2-7b", "starcoder2-15b"])
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    published = {"starcoder2-3b": 3_030_371_328, "starcoder2-7b": 7_173_923_840, "starcoder2-15b": 15_957_889_024}
    with torch.device("meta"):
        counted = sum(parameter.numel() for parameter in Transformer(PRESETS[name]).parameters())

    assert PRESETS[name].parameters == counted == published[name]


@pytest.mark.parametrize("window", [None, 5])
def test_packed_documents_equal_documents_by_themselves(window: int | None) -> None:
    model = tiny(sliding_window=window)
    documents = [ids(length, seed) for seed, length in enumerate([7, 12, 7, 1])]

    with torch.no_grad():
        packed = model(torch.cat(documents, 1), lengths=[7, 12, 7, 1])
        alone = torch.cat([model(document) for document in documents], 1)

    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


def test_packed_documents_have_the_gradients_of_documents_by_themselves() -> None:
    model = tiny()
    documents = [ids(length, seed) for seed, length in enumerate([6, 9])]

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(loss, list(model.parameters())))

    packed = gradients(model(torch.cat(documents, 1), lengths=[6, 9]).square().mean() * 15)
    alone = gradients(sum(model(document).square().mean() * document.size(1) for document in documents))  # type: ignore[arg-type]

    for one, other in zip(packed, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("pieces", [[40], [1] * 40, [8, 1, 17, 6, 8]])
def test_reading_through_a_cache_equals_reading_at_once(window: int | None, pieces: list[int]) -> None:
    model = tiny(sliding_window=window)
    prompt = ids(40)
    pool = BlockPool(model.config, blocks=4)
    starts = list(itertools.accumulate([0, *pieces]))

    with torch.no_grad():
        whole = model(prompt)
        found = [
            model(prompt[:, past:end], cache=ChunkCache(pool, [Chunk(prompt[0, past:end].tolist(), past, [3, 0, 2])]))
            for past, end in itertools.pairwise(starts)
        ]

    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-5)


def test_sequences_read_together_do_not_see_one_another() -> None:
    model = tiny(sliding_window=7)
    one, other = ids(20), ids(30, seed=4)
    chunks = [Chunk(one[0].tolist(), 0, [1, 2]), Chunk(other[0].tolist(), 0, [0, 3])]

    with torch.no_grad():
        found = model(torch.cat([one, other], 1), cache=ChunkCache(BlockPool(model.config, blocks=4), chunks))
        alone = torch.cat([model(one), model(other)], 1)

    torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


def test_a_token_outside_the_window_changes_nothing() -> None:
    model = tiny(sliding_window=3, num_hidden_layers=1)
    one, other = ids(8), ids(8)
    other[0, 4] = (other[0, 4] + 1) % 97

    with torch.no_grad():
        differs = (model(one) - model(other)).abs().amax(-1)[0] > 0

    assert differs.tolist() == [False] * 4 + [True] * 3 + [False]


def test_dropout_acts_in_training_only() -> None:
    model = tiny(attention_dropout=0.2, residual_dropout=0.2, embedding_dropout=0.2)

    with torch.no_grad():
        quiet = [model(ids(9)) for _ in range(2)]
        model.train()
        noisy = [model(ids(9)) for _ in range(2)]

    assert torch.equal(*quiet)
    assert not torch.equal(*noisy)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_any_number_of_key_value_heads_that_divides_the_heads_trains(kv_heads: int) -> None:
    model = tiny(num_key_value_heads=kv_heads, sliding_window=5)

    model(ids(16), lengths=[9, 7]).square().mean().backward()

    assert all(parameter.grad is not None for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == model.config.parameters


@pytest.mark.parametrize("lengths", [None, [9, 3, 8]])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointed_layers_give_the_same_gradients(dropout: float, lengths: list[int] | None) -> None:
    model = tiny(attention_dropout=dropout, residual_dropout=dropout, embedding_dropout=dropout).train()

    def gradients(checkpoint_layers: bool) -> list[torch.Tensor]:
        model.checkpoint_layers = checkpoint_layers
        torch.manual_seed(5)
        return list(torch.autograd.grad(model(ids(20), lengths=lengths).square().mean(), list(model.parameters())))

    for one, other in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(one, other)


def test_checkpointed_layers_keep_less_in_memory() -> None:
    model = tiny(num_hidden_layers=4).train()

    def kept_bytes(checkpoint_layers: bool) -> int:
        model.checkpoint_layers = checkpoint_layers
        sizes = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(ids(64))
        return sum(sizes)

    assert kept_bytes(True) < kept_bytes(False) / 4


def test_operations_of_a_token_are_six_for_each_weight_and_the_attention() -> None:
    config = PRESETS["starcoder2-3b"]
    short, window, long = (config.flops_per_token(context) for context in (1, 4096, 16_384))

    assert config.seen_tokens(4096) == (4096 + 1) / 2
    assert config.seen_tokens(16_384) == pytest.approx(4096 * (1 - 4095 / 2 / 16_384))
    assert short == pytest.approx(6 * config.parameters, rel=1e-3)  # biases and norms are the rest
    assert (window - short) / window == pytest.approx(0.11, abs=0.005)
    assert window < long < 6 * config.parameters + 12 * 30 * 3072 * 4096


def test_counted_operations_equal_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny(hidden_size=64, intermediate_size=256, num_attention_heads=4, num_hidden_layers=3)
    config = model.config

    with FlopCounterMode(display=False) as counter:
        model(ids(32)).sum().backward()

    # torch multiplies what the mask hides too: 32 positions seen instead of 16.5
    hidden_by_mask = 12 * 3 * 64 * (32 - config.seen_tokens(32))
    assert counter.get_total_flops() / 32 == pytest.approx(config.flops_per_token(32) + hidden_by_mask, rel=0.1)
