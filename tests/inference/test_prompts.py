"""Long pieces by bytes say what PyTorch's own operations say, however threads share them."""

from pathlib import Path

import pytest
import torch

from starsmith.inference.prompts import PromptReader, reads_bytes
from starsmith.inference.runner import TorchRunner
from starsmith.inference.team import Team
from starsmith.model.kv_cache import Chunk
from starsmith.model.kernels.lanes import LANES
from tiny_models import assert_near, of_kind, pool_of, random_ids

pytestmark = pytest.mark.slow  # what lies between the products is compiled, where that was not kept

TOLERANCE = 2e-2
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
    model, _ = of_kind("w8a8", tmp_path, **settings)
    pool, other_pool = pool_of(model, torch.bfloat16), pool_of(model, torch.bfloat16)
    reader, by_torch = PromptReader(model, pool, Team(threads)), TorchRunner(model, other_pool)
    first = [Chunk(random_ids(30, 1), 0, LONG, 1)]
    then = [Chunk(random_ids(41, 2), 30, LONG, 12), Chunk(random_ids(37, 3), 0, OTHER, 2)]

    for chunks in (first, then):
        for seen, wanted in zip(reader.forward(chunks), by_torch.forward(chunks), strict=True):
            assert_near(seen, wanted, TOLERANCE)

    for mine, theirs in ((pool.keys, other_pool.keys), (pool.values, other_pool.values)):
        assert torch.equal(mine.isnan(), theirs.isnan())
        assert_near(mine.nan_to_num().flatten(1), theirs.nan_to_num().flatten(1), TOLERANCE)


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

    with monkeypatch.context() as patched:
        patched.setattr(reader, "_share", broken)
        with pytest.raises(RuntimeError, match="no memory"):
            reader.forward([chunk])

    (seen,) = reader.forward([chunk])
    assert torch.equal(seen, wanted)


def broken(prompt: object, index: int, heads: slice) -> None:
    if heads.start == 0:
        raise RuntimeError("no memory")


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
