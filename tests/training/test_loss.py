"""The fused loss equals the plain one, and so do its gradients."""

import pytest
import torch
from torch.nn import functional

from starsmith.training import loss
from starsmith.training.loss import IGNORED, cross_entropy_sum


@pytest.mark.parametrize("piece_elements", [2**22, 200])
def test_the_fused_loss_and_its_gradients_equal_the_plain_ones(
    piece_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "PIECE_ELEMENTS", piece_elements)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 50, (37,), generator=generator)
    targets[[3, 20, 36]] = IGNORED

    plain = functional.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORED, reduction="sum")
    wanted = torch.autograd.grad(plain * 0.5, (hidden, weight))
    fused = cross_entropy_sum(hidden, weight, targets)
    found = torch.autograd.grad(fused * 0.5, (hidden, weight))

    torch.testing.assert_close(fused, plain, check_dtype=False, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_without_gradients_the_loss_is_the_same() -> None:
    hidden, weight, targets = torch.randn(2000, 8), torch.randn(50, 8), torch.randint(0, 50, (2000,))

    with torch.no_grad():
        found = cross_entropy_sum(hidden, weight, targets)

    torch.testing.assert_close(found, functional.cross_entropy(hidden @ weight.T, targets, reduction="sum"))
