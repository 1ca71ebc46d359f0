"""Muon on one process, and who owns which matrix on many."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from starsmith.training.muon import Muon, cost, orthogonalize, owners

pytestmark = pytest.mark.slow

SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=30)


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


def test_a_step_is_the_plain_formula_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(12, 5, generator=generator))
    weights, momentum = parameter.detach().clone(), torch.zeros(12, 5)
    optimizer = Muon([parameter], lr=0.1, momentum=0.9)

    for _ in range(3):
        gradient = torch.randn(12, 5, generator=generator)
        parameter.grad = gradient.clone()
        optimizer.step()
        momentum = momentum.lerp(gradient, 1 - 0.9)
        weights -= orthogonalize(gradient.lerp(momentum, 0.9)[None])[0] * (0.1 * (12 / 5) ** 0.5)

    torch.testing.assert_close(parameter.detach(), weights, rtol=0, atol=1e-7)


def test_a_matrix_without_a_gradient_stays() -> None:
    moved, still = nn.Parameter(torch.eye(3)), nn.Parameter(torch.eye(3))
    moved.grad = torch.ones(3, 3)

    Muon([moved, still], lr=0.1).step()

    assert torch.equal(still, torch.eye(3))
    assert not torch.equal(moved, torch.eye(3))


@given(shapes=SIZES, ranks=st.integers(1, 9))
def test_no_rank_has_more_than_its_share_and_one_matrix_to_do(shapes: list[tuple[int, int]], ranks: int) -> None:
    found = owners(shapes, ranks)

    loads = [0] * ranks
    for shape, owner in zip(shapes, found, strict=True):
        loads[owner] += cost(*shape)
    costs = [cost(*shape) for shape in shapes]
    assert max(loads) <= sum(costs) / ranks + max(costs)


def test_the_matrices_of_a_model_divide_evenly() -> None:
    layer = [(3072, 3072), (256, 3072), (256, 3072), (3072, 3072), (12_288, 3072), (3072, 12_288)]

    found = owners(layer * 30, 8)

    loads = [sum(cost(*shape) for shape, owner in zip(layer * 30, found, strict=True) if owner == r) for r in range(8)]
    assert max(loads) < 1.1 * min(loads)
