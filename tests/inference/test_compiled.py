"""The compiled step says what the model says, to the bit whatever else it reads."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from starsmith.inference.compiled import CompiledRunner
from starsmith.inference.plan import STEP_TOKENS, is_supported
from starsmith.inference.runner import TorchRunner
from starsmith.model.kernels import vectors
from starsmith.model.kv_cache import BlockPool, Chunk
from tiny_models import VOCABULARY, assert_near, of_kind, pool_of, random_ids, random_model

pytestmark = pytest.mark.slow  # the step is compiled, where that was not kept

KINDS = ["float32", "bfloat16", "int8", "w8a8", "int4"]
LONG, OTHER, THIRD = [5, 1, 3, 0], [7, 4], [2, 6]  # blocks, in no order


def read(runner: CompiledRunner | TorchRunner, text: Sequence[int], blocks: Sequence[int], *, past: int = 0) -> Tensor:
    """Logits after every token; in pieces that the compiled step takes."""
    rows = []
    for start in range(past, len(text), STEP_TOKENS):
        piece = text[start : start + STEP_TOKENS]
        rows += runner.forward([Chunk(piece, start, blocks, len(piece))])
    return torch.cat(rows)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_sequences_read_together_have_the_logits_of_the_model(
    kind: str, window: int | None, threads: int, tmp_path: Path
) -> None:
    model, reference = of_kind(kind, tmp_path, sliding_window=window)
    runner = CompiledRunner(model, pool_of(model), threads=threads)
    long, other, third = random_ids(50, 1), random_ids(18, 2), random_ids(3, 3)
    read(runner, long[:45], LONG)
    read(runner, other[:17], OTHER)

    after_long, after_other, after_third = runner.forward(
        [Chunk(long[45:], 45, LONG, 5), Chunk(other[17:], 17, OTHER, 1), Chunk(third, 0, THIRD, 0)]
    )

    tolerance = 2e-2 if kind in ("w8a8", "int4") else 2e-4  # a rounding that just goes the other way is seen
    assert_near(after_long, reference(torch.tensor([long]))[0, 45:], tolerance)
    assert_near(after_other, reference(torch.tensor([other]))[0, 17:], tolerance)
    assert after_third.shape == (0, VOCABULARY)
    assert_near(read(runner, [*third, 1], THIRD, past=3), reference(torch.tensor([[*third, 1]]))[0, 3:], tolerance)
    runner.close()


@pytest.mark.parametrize("kind", ["bfloat16", "w8a8"])
def test_keys_and_values_may_be_kept_in_bfloat16(kind: str, tmp_path: Path) -> None:
    model, reference = of_kind(kind, tmp_path)
    runner = CompiledRunner(model, pool_of(model, torch.bfloat16), threads=1)

    logits = read(runner, random_ids(40), LONG)

    assert_near(logits, reference(torch.tensor([random_ids(40)]))[0], 4e-2)
    assert (logits - reference(torch.tensor([random_ids(40)]))[0]).norm() > 0  # it is rounded


@pytest.mark.parametrize("kind", KINDS)
def test_both_runners_continue_what_the_other_read(kind: str, tmp_path: Path) -> None:
    model, _ = of_kind(kind, tmp_path)
    pool = pool_of(model, torch.bfloat16)
    compiled, by_torch = CompiledRunner(model, pool, threads=1), TorchRunner(model, pool)
    text = random_ids(60)

    (long,) = compiled.forward([Chunk(text[:40], 0, LONG, 1)])  # longer than a step: by PyTorch
    short = read(compiled, text, LONG, past=40)
    again = read(by_torch, text, THIRD + OTHER, past=0)

    assert_near(long, again[39:40], 2e-2)  # pieces of another size, in bfloat16
    assert_near(short, again[40:], 0.15 if kind == "int4" else 5e-2)  # where PyTorch does not round activations


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_token_has_the_same_bits_alone_with_guesses_behind_it_and_beside_others(
    kind: str, threads: int, tmp_path: Path
) -> None:
    model, _ = of_kind(kind, tmp_path, sliding_window=24)
    pool = pool_of(model, torch.bfloat16)
    runner = CompiledRunner(model, pool, threads=threads)
    text, other = random_ids(40, 1), random_ids(9, 2)
    read(runner, text[:37], LONG)
    read(runner, other[:4], OTHER)

    (alone,) = runner.forward([Chunk(text[37:38], 37, LONG, 1)])
    kept = pool.keys.clone()
    (guessed,) = runner.forward([Chunk([text[37], 1, 2, 3, 4, 5, 6, 7], 37, LONG, 8)])
    _, beside = runner.forward([Chunk(other[4:], 4, OTHER, 1), Chunk(text[37:40], 37, LONG, 3)])

    assert torch.equal(guessed[0], alone[0])
    assert torch.equal(beside[0], alone[0])
    assert torch.equal(pool.keys[:, :, LONG[2], 5], kept[:, :, LONG[2], 5])  # position 37
    assert not torch.equal(beside[1], beside[0])


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_how_many_threads_there_are_or_how_a_text_is_cut(kind: str, tmp_path: Path) -> None:
    model, _ = of_kind(kind, tmp_path)
    text = random_ids(30)
    at_once = read(CompiledRunner(model, pool_of(model), threads=1), text, LONG)
    runner = CompiledRunner(model, pool_of(model), threads=5)

    one_by_one = [runner.forward([Chunk([token], place, LONG, 1)])[0] for place, token in enumerate(text)]

    assert torch.equal(torch.cat(one_by_one), at_once)


@pytest.mark.parametrize("kind", ["w8a8", "int4"])
def test_a_processor_without_the_fast_instructions_has_the_same_numbers(kind: str, tmp_path: Path) -> None:
    model, _ = of_kind(kind, tmp_path)
    best = read(CompiledRunner(model, pool_of(model), threads=1), random_ids(20), LONG)

    for form in ("avx2", "plain"):
        if form == "avx2" and vectors.best() == "plain":
            continue
        seen = read(
            CompiledRunner(model, pool_of(model), threads=1, instructions=form),
            random_ids(20),
            LONG,
        )
        if kind == "w8a8":  # sums are exact
            assert torch.equal(seen, best)
        assert_near(seen, best, 2e-2)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4},
        {"hidden_size": 192, "num_attention_heads": 12},  # six heads that share keys, more than the loops take at once
        {"tie_word_embeddings": False},
        {"use_bias": False},
        {"vocab_size": 4},
        {"vocab_size": 35},
        {"intermediate_size": 64, "num_hidden_layers": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["float32", "w8a8", "int4"])
def test_every_shape_has_the_logits_of_the_model(kind: str, settings: dict[str, object], tmp_path: Path) -> None:
    model, reference = of_kind(kind, tmp_path, **settings)
    text = [one % model.config.vocab_size for one in random_ids(20)]

    logits = read(CompiledRunner(model, pool_of(model), threads=2), text, OTHER)

    assert_near(logits, reference(torch.tensor([text]))[0], 2e-4 if kind == "float32" else 2e-2)


def test_copied_blocks_hold_the_same(tmp_path: Path) -> None:
    model, _ = of_kind("w8a8", tmp_path)
    runner = CompiledRunner(model, pool_of(model), threads=1)
    text = random_ids(12)
    read(runner, text[:10], [5])
    runner.copy_block(5, 3)

    (first,) = runner.forward([Chunk(text[10:], 10, [3], 2)])
    (again,) = runner.forward([Chunk(text[10:], 10, [5], 2)])

    assert torch.equal(first, again)


def test_more_short_chunks_than_a_step_takes_are_answered_in_their_order(tmp_path: Path) -> None:
    model, _ = of_kind("w8a8", tmp_path)
    runner = CompiledRunner(model, pool_of(model), threads=1)
    texts = [random_ids(7 if number else 40, number) for number in range(6)]  # the first is PyTorch's
    blocks = [[6, 7, 0], [1], [2], [3], [4], [5]]

    together = runner.forward([Chunk(text, 0, own, 1) for text, own in zip(texts, blocks, strict=True)])

    for text, own, seen in zip(texts, blocks, together, strict=True):
        assert torch.equal(seen, runner.forward([Chunk(text, 0, own, 1)])[0])


@pytest.mark.parametrize("kind", ["float32", "w8a8", "int4"])
def test_a_weight_that_is_no_number_gives_logits_that_are_none_to_who_meets_it(kind: str, tmp_path: Path) -> None:
    model, _ = of_kind(kind, tmp_path, tie_word_embeddings=False)
    embedding = model.model.embed_tokens
    with torch.inference_mode():
        (embedding.weight_scale if kind != "float32" else embedding.weight)[3] = torch.nan
    runner = CompiledRunner(model, pool_of(model), threads=2)
    (wanted,) = runner.forward([Chunk([1, 2, 4], 0, OTHER, 3)])

    met, not_met = runner.forward([Chunk([1, 3, 4], 0, LONG, 3), Chunk([1, 2, 4], 0, OTHER, 3)])

    assert met[0].isfinite().all()
    assert met[1:].isnan().all()
    assert torch.equal(not_met, wanted)
    (later,) = runner.forward([Chunk([1, 2, 4], 0, LONG, 3)])  # in blocks that held what was none
    assert torch.equal(later, wanted)


def test_what_lies_before_the_window_may_be_anything(tmp_path: Path) -> None:
    model, _ = of_kind("float32", tmp_path, sliding_window=20)
    pool = pool_of(model)
    runner = CompiledRunner(model, pool, threads=1)
    read(runner, random_ids(41), LONG)
    (wanted,) = runner.forward([Chunk([1], 41, LONG, 1)])  # sees positions 22 to 41

    for held in (pool.keys, pool.values):
        held[:, :, LONG[0]] = torch.nan  # 0 to 15
        held[:, :, LONG[1], :6] = torch.nan  # 16 to 21
    (seen,) = runner.forward([Chunk([1], 41, LONG, 1)])

    assert torch.equal(seen, wanted)
    pool.values[:, :, LONG[1], 6] = torch.nan  # 22
    assert runner.forward([Chunk([1], 41, LONG, 1)])[0].isnan().all()


@pytest.mark.parametrize("window", [None, 20])
def test_pytorch_never_reads_what_a_failed_request_left_in_blocks(window: int | None) -> None:
    model = random_model(sliding_window=window)
    text = random_ids(50)

    (logits,) = TorchRunner(model, pool_of(model)).forward([Chunk(text, 0, LONG, 50)])

    assert_near(logits, model(torch.tensor([text]))[0], 1e-5)


def test_what_the_step_cannot_read_is_not_supported(tmp_path: Path) -> None:
    plain = random_model()
    quantized, _ = of_kind("w8a8", tmp_path)

    assert is_supported(plain, pool_of(plain))
    assert is_supported(quantized, pool_of(quantized))
    assert not is_supported(plain, BlockPool(plain.config, blocks=1, dtype=torch.float16))
    for settings in (
        {"num_attention_heads": 8},  # 8 numbers a head
        {"intermediate_size": 100},
        {"vocab_size": 3},
    ):
        other = random_model(**settings)
        assert not is_supported(other, pool_of(other)), settings
    assert not is_supported(random_model().half(), pool_of(plain))
