"""Muon, AdamW and the schedule."""

import itertools

import pytest
import torch
from torch import nn

from starsmith.training.optimizer import Muon, build_optimizers, learning_rate_factor, orthogonalize


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 32), (2, 32, 8)])
def test_an_orthogonalized_matrix_has_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    values = torch.linalg.svdvals(orthogonalize(matrices))

    assert values.min() > 0.3  # five steps of the iteration bring tiny singular values only part of the way
    assert values.max() < 1.3
    assert values.median() == pytest.approx(1.0, abs=0.3)


def test_an_orthogonalized_matrix_keeps_its_row_and_column_spaces() -> None:
    low_rank = torch.randn(8, 2, generator=torch.Generator().manual_seed(1)) @ torch.randn(
        2, 12, generator=torch.Generator().manual_seed(2)
    )

    found = orthogonalize(low_rank[None])[0]

    u, _, vh = torch.linalg.svd(low_rank)
    assert torch.linalg.norm(found - u[:, :2] @ (u[:, :2].T @ found @ vh[:2].T) @ vh[:2]) < 1e-3


def test_matrices_of_equal_shape_are_updated_as_if_alone() -> None:
    gradients = [torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]

    def updated(chosen: list[torch.Tensor]) -> list[torch.Tensor]:
        parameters = [nn.Parameter(torch.zeros(6, 4)) for _ in chosen]
        for parameter, gradient in zip(parameters, chosen, strict=True):
            parameter.grad = gradient.clone()
        Muon(parameters, lr=0.1).step()
        return [parameter.detach() for parameter in parameters]

    together, alone = updated(gradients), [updated([gradient])[0] for gradient in gradients]

    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_the_rate_warms_up_stays_and_decays_to_zero() -> None:
    factors = [learning_rate_factor(step, 100) for step in range(100)]

    assert factors[0] == pytest.approx(1 / 3)
    assert factors[2:61] == [1.0] * 59
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[61:]))
    assert factors[-1] == pytest.approx(1 / 40)


def test_embeddings_norms_and_biases_stay_with_adamw() -> None:
    model = nn.Module()
    model.model = nn.ModuleDict(
        {"embed_tokens": nn.Embedding(7, 4), "layers": nn.ModuleList([nn.Linear(4, 4)]), "norm": nn.LayerNorm(4)}
    )

    adamw, muon = build_optimizers(model, learning_rate=1e-3, matrix_learning_rate=0.02, weight_decay=0.1)

    assert [tuple(p.shape) for group in muon.param_groups for p in group["params"]] == [(4, 4)]
    decayed, others = adamw.param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(7, 4)]
    assert others["weight_decay"] == 0.0
    assert len(others["params"]) == 3


def test_without_a_matrix_rate_adamw_trains_everything() -> None:
    model = nn.Linear(4, 4)

    optimizers = build_optimizers(model, learning_rate=1e-3, matrix_learning_rate=None, weight_decay=0.1)

    assert len(optimizers) == 1
    assert sum(len(group["params"]) for group in optimizers[0].param_groups) == 2
