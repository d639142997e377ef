"""The Output Contrastive Loss (OCL), Zhang et al. 2023, arXiv 2311.07877.

Two views of one image should agree pixel by pixel (``pos``), while the predictions of
one view should not all be the same (``neg``). With q_v(i) the softmax of pixel i in
view v, L2-normalised over the classes:

    pos  = - mean_i <q_1(i), q_2(i)>
    neg  =   mean_v mean_{i,j} <q_v(i), q_v(j)>
    loss = pos_coeff * pos + neg_coeff * neg

The published code builds the N x N Gram matrix for ``neg``. Its mean is the squared
norm of the mean vector, ``|| mean_i q_v(i) ||^2``, exactly: time and memory are linear
in the number of pixels here.

The gradient has a closed form. With g = d loss / d q, softmax and normalisation together
pass back ``q * (g - q <q, g>)``: the softmax's own correction vanishes, because
``<q, g - q <q, g>> = 0``. Only q, and ``<q_1(i), q_2(i)>`` of every pixel,
are kept for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ocl_edge.method.settings import NEG_COEFF, POS_COEFF


def output_contrastive_loss(
    view: Tensor, flipped_back: Tensor, pos_coeff: float = POS_COEFF, neg_coeff: float = NEG_COEFF
) -> Tensor:
    """The OCL of two views' logits.

    Args:
        view: logits of the image, [N, C, h, w] or [C, h, w], any float dtype.
        flipped_back: logits of the flipped image, flipped back so that pixels
            correspond; same shape.
        pos_coeff: weight of the agreement term.
        neg_coeff: weight of the collapse term.

    Returns:
        Scalar float32 (float64 for float64 logits), mean over the N images.

    Raises:
        ValueError: the shapes differ or are not those above, or there is no pixel.
    """
    if view.shape != flipped_back.shape:
        raise ValueError(f"the two views differ: {tuple(view.shape)} and {tuple(flipped_back.shape)}")
    if view.dim() not in (3, 4):
        raise ValueError(f"expected logits [N, C, h, w] or [C, h, w], got {tuple(view.shape)}")
    if view.numel() == 0:
        raise ValueError(f"no pixels in logits of shape {tuple(view.shape)}")
    loss: Tensor = _OutputContrastiveLoss.apply(view, flipped_back, pos_coeff, neg_coeff)  # type: ignore[no-untyped-call]
    return loss


class _OutputContrastiveLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, view: Tensor, flipped_back: Tensor, pos_coeff: float, neg_coeff: float) -> Tensor:
        q1, q2 = unit_predictions(view), unit_predictions(flipped_back)
        m1, m2 = q1.mean(-1, keepdim=True), q2.mean(-1, keepdim=True)
        agreement = (q1 * q2).sum(-2, keepdim=True)
        spread = (m1.square().sum((-2, -1)) + m2.square().sum((-2, -1))) / 2
        ctx.save_for_backward(q1, q2, m1, m2, agreement)
        ctx.coefficients, ctx.shape, ctx.dtype = (pos_coeff, neg_coeff), view.shape, view.dtype
        loss: Tensor = (neg_coeff * spread - pos_coeff * agreement.mean((-2, -1))).mean()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        q1, q2, m1, m2, agreement = ctx.saved_tensors
        images = q1.shape[0] if q1.dim() == 3 else 1
        scale = float(incoming) / (q1.shape[-1] * images)
        pos, neg = (coefficient * scale for coefficient in ctx.coefficients)

        def through_softmax(q: Tensor, other: Tensor, mean: Tensor) -> Tensor:
            # g = neg mean - pos other, so <q, g> needs one product of a matrix and a vector
            q_dot_g = torch.matmul(mean.mT, q).mul_(neg).sub_(agreement, alpha=pos)
            gradient = torch.addcmul(neg * mean, q, q_dot_g, value=-1).sub_(other, alpha=pos).mul_(q)
            return gradient.view(ctx.shape).to(ctx.dtype)

        return (
            through_softmax(q1, q2, m1) if ctx.needs_input_grad[0] else None,
            through_softmax(q2, q1, m2) if ctx.needs_input_grad[1] else None,
            None,
            None,
        )


def unit_predictions(logits: Tensor) -> Tensor:
    """Softmax over the classes, then L2-normalised: [..., C, h, w] -> [..., C, h*w].

    Half precision is computed in float32. The norm of a probability vector is at
    least 1/sqrt(C), so no epsilon is needed.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    p = torch.softmax(logits.flatten(-2), dim=-2, dtype=dtype)
    return p.mul_(p.square().sum(-2, keepdim=True).rsqrt_())
