"""The fused loss equals the plain one, and so do its gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from starsmith.training import loss
from starsmith.training.loss import IGNORED, cross_entropy_sum, linear_cross_entropy

ONE_PIECE, MANY_PIECES = 2**22, 200


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, an output head and targets, three of them ignored."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 8, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(50, 8, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, 50, (37,), generator=generator)
    targets[[3, 20, 36]] = IGNORED
    return hidden, weight, targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """The objective and each target's loss as the formulas say it."""
    logits = hidden @ weight.T
    nats = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
    squares = logits.logsumexp(-1)[targets != IGNORED].square()
    return nats.sum() + z_loss * squares.sum(), nats.detach()


@pytest.mark.parametrize("piece_elements", [ONE_PIECE, MANY_PIECES])
@pytest.mark.parametrize("z_loss", [0.0, 0.03])
def test_the_fused_loss_and_its_gradients_equal_the_plain_ones(
    piece_elements: int, z_loss: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "PIECE_ELEMENTS", piece_elements)
    hidden, weight, targets = problem()

    objective, nats = plain(hidden, weight, targets, z_loss)
    wanted = torch.autograd.grad(objective * 0.5, (hidden, weight))
    fused = linear_cross_entropy(hidden, weight, targets, z_loss=z_loss)
    found = torch.autograd.grad(fused.objective * 0.5, (hidden, weight))

    torch.testing.assert_close(fused.objective, objective, check_dtype=False, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused.nats, nats, check_dtype=False, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_losses_of_tokens_take_no_gradient_and_ignored_ones_are_zero() -> None:
    hidden, weight, targets = problem()

    found = linear_cross_entropy(hidden, weight, targets, z_loss=0.03)

    assert not found.nats.requires_grad
    assert found.nats[targets == IGNORED].tolist() == [0, 0, 0]
    assert (found.nats[targets != IGNORED] > 0).all()


def test_a_z_loss_pulls_the_denominator_towards_one() -> None:
    _, weight, targets = problem()
    hidden = torch.zeros(37, 8, dtype=torch.float64)
    bias = torch.full((37, 1), 5.0, dtype=torch.float64, requires_grad=True)  # every logit is 5
    lifted = torch.cat((hidden, bias), dim=1)
    head = torch.cat((weight.detach(), torch.ones(50, 1, dtype=torch.float64)), dim=1)

    without = torch.autograd.grad(linear_cross_entropy(lifted, head, targets).objective, bias, retain_graph=True)[0]
    with_it = torch.autograd.grad(linear_cross_entropy(lifted, head, targets, z_loss=0.01).objective, bias)[0]

    torch.testing.assert_close(without, torch.zeros_like(without), atol=1e-5, rtol=0)
    assert (with_it[targets != IGNORED] > 0).all()


def test_half_precision_gradients_of_many_pieces_are_as_near_as_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(2000, 8, generator=generator), torch.randn(50, 8, generator=generator)
    targets = torch.randint(0, 50, (2000,), generator=generator)
    reference = torch.autograd.grad(plain(hidden, weight.requires_grad_(), targets, 0.0)[0], weight)[0]

    errors = []
    for piece_elements in (ONE_PIECE, 50):  # 50: one position a piece, so 2,000 sums
        monkeypatch.setattr(loss, "PIECE_ELEMENTS", piece_elements)
        head = weight.detach().bfloat16().requires_grad_()
        found = torch.autograd.grad(linear_cross_entropy(hidden.bfloat16(), head, targets).objective, head)[0]
        errors.append(float((found.float() - reference).norm() / reference.norm()))

    assert errors[1] < 1.5 * errors[0] < 0.03


def test_without_gradients_the_loss_is_the_same() -> None:
    hidden, weight, targets = torch.randn(2000, 8), torch.randn(50, 8), torch.randint(0, 50, (2000,))

    with torch.no_grad():
        found = cross_entropy_sum(hidden, weight, targets)

    torch.testing.assert_close(found, functional.cross_entropy(hidden @ weight.T, targets, reduction="sum"))
