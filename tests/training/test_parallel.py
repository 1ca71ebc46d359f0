"""Ranks: who reads what, and what the settings refuse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from starsmith.core.errors import ConfigError, InputError
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.training.parallel import (
    ParallelConfig,
    Ranks,
    clip_gradients,
    launched,
    own_parameters,
    place,
    whole_weights,
)
from starsmith.training.tensor_parallel import check_heads

pytestmark = pytest.mark.slow  # torch.distributed takes seconds to import

TINY = ModelConfig(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
)


@given(size=st.integers(1, 12), times=st.integers(1, 6), step=st.integers(0, 10**9))
def test_each_row_of_a_step_is_read_by_one_rank(size: int, times: int, step: int) -> None:
    rows_per_step = size * times

    read = [row for rank in range(size) for row in Ranks(rank, size).rows(step, rows_per_step)]

    assert sorted(read) == list(range(step * rows_per_step, (step + 1) * rows_per_step))


def test_rows_that_do_not_divide_over_the_ranks_are_refused() -> None:
    with pytest.raises(ConfigError, match="10 rows does not divide over 4 ranks") as refused:
        Ranks(0, 4).rows(0, 10)

    assert "multiple of 4" in refused.value.hint


def test_without_a_launcher_there_is_one_process() -> None:
    with launched(ParallelConfig()) as ranks:
        assert (ranks.rank, ranks.size, ranks.data_rank, ranks.data_size) == (0, 1, 0, 1)
        assert ranks.is_first
        assert ranks.sum(1.5, 2) == (1.5, 2)
        assert ranks.gather("x") == ["x"]
        assert ranks.from_first("y") == "y"
        ranks.agree({"torch": "any"})
        ranks.wait_for_all()


def test_one_process_has_a_plain_model_and_goes_on_with_its_random_stream() -> None:
    torch.manual_seed(3)
    wanted = Transformer(TINY)
    after = torch.rand(1)

    torch.manual_seed(3)
    model = place(lambda: Transformer(TINY), TINY, Ranks())

    assert type(model) is Transformer
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(value, wanted.state_dict()[name]) for name, value in model.state_dict().items())
    weights = whole_weights(model, Ranks())
    assert list(weights) == [name for name, _ in wanted.named_parameters()]


def test_one_process_clips_as_torch_does() -> None:
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    for parameter in (ours, theirs):
        parameter.grad = torch.arange(5.0)

    norm = clip_gradients([ours], Ranks(), max_norm=1.0)

    assert norm == float(nn.utils.clip_grad_norm_([theirs], 1.0))
    assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


def test_names_do_not_show_the_wrappers_of_torch() -> None:
    model = nn.ModuleDict({"layer": nn.ModuleDict({"_orig_mod": nn.Linear(2, 2)})})

    assert list(own_parameters(model)) == ["layer.weight", "layer.bias"]


@pytest.mark.parametrize("tensor", [3, 4])
def test_tensor_ranks_that_cannot_share_the_key_value_heads_are_refused(tensor: int) -> None:
    with pytest.raises(ConfigError, match=f"{tensor} tensor ranks cannot share 2 key/value heads"):
        check_heads(TINY, tensor)


def test_settings_that_make_no_grid_are_refused() -> None:
    with pytest.raises(ConfigError, match="tensor=0"):
        ParallelConfig(tensor=0)


def test_a_grid_that_the_ranks_cannot_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "6")

    with (
        pytest.raises(ConfigError, match="6 ranks cannot form 2 replicas of 2 tensor ranks each"),
        launched(ParallelConfig(tensor=2, replicas=2)),
    ):
        pass


@pytest.mark.parametrize(("name", "value", "found"), [("WORLD_SIZE", "2", "RANK"), ("RANK", "x", "'x'")])
def test_a_launcher_that_sets_half_of_it_is_refused(
    name: str, value: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv(name, value)

    with pytest.raises(InputError, match=found), launched(ParallelConfig()):
        pass
