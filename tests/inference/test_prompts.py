"""Long pieces by bytes say what PyTorch's own operations say, however threads share them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from starsmith.inference.prompts import PromptReader, reads_bytes
from starsmith.inference.runner import TorchRunner
from starsmith.inference.team import Team
from starsmith.model.kernels import native, tile_attention, tiles
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.tables import Table
from starsmith.model.kv_cache import Chunk
from tiny_models import assert_near, of_kind, pool_of, random_ids

pytestmark = pytest.mark.slow  # what lies between the products is compiled, where that was not kept

TOLERANCE = 2e-2
WORSE = 1.25  # than what PyTorch's own operations lose by the same rounding, and at other places
LONG, OTHER = [5, 1, 3, 0, 9], [7, 4, 11]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sliding_window": 20},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4},
        {"use_bias": False},
        {"tie_word_embeddings": False},
        {"num_hidden_layers": 1},
        {"intermediate_size": 64},
        {"num_attention_heads": 2, "num_key_value_heads": 1},
        {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 128, "sliding_window": 20},
        {"num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 256},
    ],
    ids=str,
)
def test_pieces_of_several_sequences_have_the_logits_of_the_model(
    settings: dict[str, object], threads: int, tmp_path: Path
) -> None:
    model, reference = of_kind("w8a8", tmp_path, **settings)
    pool, other_pool = pool_of(model, torch.bfloat16), pool_of(model, torch.bfloat16)
    reader, by_torch = PromptReader(model, pool, Team(threads)), TorchRunner(model, other_pool)
    exact = TorchRunner(reference, pool_of(reference))
    first = [Chunk(random_ids(30, 1), 0, LONG, 1)]
    then = [Chunk(random_ids(41, 2), 30, LONG, 12), Chunk(random_ids(37, 3), 0, OTHER, 2)]

    for chunks in (first, then):
        for seen, other, wanted in zip(*(one.forward(chunks) for one in (reader, by_torch, exact)), strict=True):
            assert error(seen, wanted) < WORSE * error(other, wanted)

    for mine, theirs in ((pool.keys, other_pool.keys), (pool.values, other_pool.values)):
        assert torch.equal(mine.isnan(), theirs.isnan())


def error(seen: Tensor, wanted: Tensor) -> float:
    """As a part of the length of all rows."""
    return ((seen - wanted).norm() / wanted.norm()).item()


def test_a_share_of_few_tokens_is_nobodys(tmp_path: Path) -> None:
    model, _ = of_kind("w8a8", tmp_path)
    chunk = Chunk(random_ids(2 * LANES + 1), 0, LONG, 3)

    (seen,) = PromptReader(model, pool_of(model, torch.bfloat16), Team(7)).forward([chunk])

    (wanted,) = TorchRunner(model, pool_of(model, torch.bfloat16)).forward([chunk])
    assert_near(seen, wanted, TOLERANCE)


def test_weights_that_are_no_numbers_give_logits_that_are_none(tmp_path: Path) -> None:
    model, _ = of_kind("w8a8", tmp_path)
    with torch.inference_mode():
        model.get_submodule("model.layers.0.mlp.c_fc").weight_scale[3] = torch.nan  # type: ignore[index, operator]

    (seen,) = PromptReader(model, pool_of(model, torch.bfloat16), Team(2)).forward([Chunk(random_ids(40), 0, LONG, 1)])

    assert seen.isnan().all()


def test_an_error_in_one_share_is_told_and_the_next_prompt_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = of_kind("w8a8", tmp_path)
    reader = PromptReader(model, pool_of(model, torch.bfloat16), Team(2))
    chunk = Chunk(random_ids(40), 0, LONG, 1)
    (wanted,) = reader.forward([chunk])
    run, calls = native.run, iter(range(99))

    def broken(table: Table) -> None:
        if next(calls) == 3:
            raise MemoryError("no memory")
        run(table)

    with monkeypatch.context() as patched:
        patched.setattr(native, "run", broken)
        with pytest.raises(MemoryError, match="no memory"):
            reader.forward([chunk])

    (seen,) = reader.forward([chunk])
    assert torch.equal(seen, wanted)


def test_tiles_and_pytorch_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not tiles.is_available():
        pytest.skip("SKIPPED: this processor has no tiles (Intel AMX)")
    model, reference = of_kind("w8a8", tmp_path, num_attention_heads=2)
    chunks = [Chunk(random_ids(50), 0, LONG, 50)]
    (wanted,) = TorchRunner(reference, pool_of(reference)).forward(chunks)
    errors = []
    for is_tiled in (True, False):
        reader = PromptReader(model, pool_of(model, torch.bfloat16), Team(2))
        assert reader.in_tiles == is_tiled
        errors.append(error(reader.forward(chunks)[0], wanted))
        monkeypatch.setattr(tile_attention, "address", lambda: None)

    assert max(errors) < WORSE * min(errors)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("int8", torch.bfloat16), ("int4", torch.bfloat16), ("w8a8", torch.float32)]
)
def test_other_weights_and_caches_are_not_for_it(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model, _ = of_kind(kind, tmp_path)

    assert not reads_bytes(model, pool_of(model, dtype))
    assert not reads_bytes(of_kind("float32", tmp_path / "plain")[0], pool_of(model, torch.bfloat16))


def test_threads_of_a_team_multiply_alone_and_leave_others_as_they_are() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    team = Team(3)
    team.begin([lambda: seen.append(torch.get_num_threads())] * 3).wait()

    assert seen == [1, 1, 1]
    assert torch.get_num_threads() == before
