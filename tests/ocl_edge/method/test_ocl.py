"""The loss against the quadratic formula of the published code, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ocl_edge.method.ocl import output_contrastive_loss


def quadratic_loss(
    view: Tensor, flipped_back: Tensor, pos_coeff: float = 3.0, neg_coeff: float = 1.0
) -> Tensor:
    """Straight from the paper: all pixel pairs, one Gram matrix a view."""
    q = [F.normalize(F.softmax(v.flatten(-2), dim=-2), dim=-2) for v in (view, flipped_back)]
    pos = -(q[0] * q[1]).sum(-2).mean(-1)
    neg = sum((v.transpose(-2, -1) @ v).mean((-2, -1)) for v in q) / 2
    return (pos_coeff * pos + neg_coeff * neg).mean()


@pytest.mark.parametrize("shape", [(1, 19, 6, 9), (3, 5, 4, 7), (19, 8, 8), (1, 2, 1, 1)])
def test_equals_the_quadratic_formula_in_value_and_gradient(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(shape, generator=generator, dtype=torch.float64) * 4 for _ in range(2)]
    ours = [v.clone().requires_grad_() for v in views]
    theirs = [v.clone().requires_grad_() for v in views]
    loss, reference = output_contrastive_loss(*ours), quadratic_loss(*theirs)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-12)
    loss.backward()
    reference.backward()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-9, atol=1e-15)  # type: ignore[arg-type]
        assert a.grad.abs().max() > 0 or shape[-1] == 1  # type: ignore[union-attr]


def test_gradient_passes_gradcheck() -> None:
    views = [torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(output_contrastive_loss, views)


def test_coefficients_weigh_the_two_terms() -> None:
    view, other = torch.randn(2, 1, 5, 4, 4, dtype=torch.float64).unbind(0)
    agreement = output_contrastive_loss(view, other, 1.0, 0.0)
    spread = output_contrastive_loss(view, other, 0.0, 1.0)
    assert output_contrastive_loss(view, other, 3.0, 1.0).item() == pytest.approx(
        (3 * agreement + spread).item()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    views = [(torch.randn(1, 19, 32, 32) * 30).to(dtype).requires_grad_() for _ in range(2)]
    loss = output_contrastive_loss(*views)
    loss.backward()
    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(
        quadratic_loss(*(v.detach().double() for v in views)).item(), rel=1e-5
    )
    assert all(v.grad is not None and v.grad.isfinite().all() for v in views)


def test_huge_and_constant_logits_stay_finite() -> None:
    for logits in (torch.full((1, 5, 3, 3), 7.0), torch.randn(1, 5, 3, 3) * 1e30):
        logits.requires_grad_()
        loss = output_contrastive_loss(logits, logits.detach())
        loss.backward()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_one_class_has_no_gradient_and_one_pixel_the_known_value() -> None:
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    loss = output_contrastive_loss(logits, logits.detach())
    loss.backward()
    assert loss.item() == pytest.approx(-2.0)
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0
    pixel = torch.randn(1, 7, 1, 1)
    assert output_contrastive_loss(pixel, pixel).item() == pytest.approx(-2.0, rel=1e-6)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        output_contrastive_loss(torch.zeros(1, 5, 4, 4), torch.zeros(1, 5, 4, 3))
    with pytest.raises(ValueError, match="expected logits"):
        output_contrastive_loss(torch.zeros(5, 4), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="no pixels"):
        output_contrastive_loss(torch.zeros(1, 5, 0, 4), torch.zeros(1, 5, 0, 4))
