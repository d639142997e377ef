"""What one adaptation does."""

from __future__ import annotations

import math
from collections.abc import Callable

from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.method.weights import TrainableWeights
from ocl_edge.tensors import Tensor, torch
from ocl_edge.timings import Stopwatch

Loss = Callable[[Tensor, Tensor, AdaptationDefaults], Tensor]


def align_views(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of a view pair [2, C, h, w] -> two [1, C, h, w] whose pixels correspond."""
    return logits[:1], logits[1:].flip(3)


def mean_of_views(logits: Tensor) -> Tensor:
    """Flip-averaged logits: [2, C, h, w] -> [1, C, h, w]."""
    view, flipped_back = align_views(logits.detach())
    return (view + flipped_back).mul_(0.5)


def views_for_the_tail(logits: Tensor, of_probabilities: bool) -> Tensor:
    """What a tail takes of a view pair's logits [2, C, h, w].

    Args:
        logits: of the image and its flip.
        of_probabilities: the network gives probabilities, and a mean of two outputs is no function of the
            mean of their logits: the tail gets both views, aligned, and averages what it makes of them.
    """
    return torch.cat(align_views(logits.detach())) if of_probabilities else mean_of_views(logits)


def adapt_step(weights: TrainableWeights, logits: Tensor, loss_of: Loss, watch: Stopwatch) -> Verdict:
    """One step of gradient descent on a view pair, then restoration (OCL paper, section 3).

    Args:
        weights: they produced ``logits`` with gradients enabled.
        logits: of a view pair, [2, C, h, w].
        loss_of: (logits, logits flipped back, settings) -> scalar.
        watch: receives the laps loss, backward, step and restore.

    Returns:
        What happened. A loss or gradient that is not finite leaves the weights as they were.
    """
    loss = loss_of(*align_views(logits), weights.settings)
    value = loss.item()
    watch.lap("loss")
    if not math.isfinite(value):
        return Verdict(Reason.LOSS_NOT_FINITE, value)
    loss.backward()  # type: ignore[no-untyped-call]
    watch.lap("backward")
    if not weights.gradients_are_finite():
        weights.discard_gradients()
        return Verdict(Reason.GRADIENT_NOT_FINITE, value)
    weights.step()
    watch.lap("step")
    weights.restore_toward_trained()
    watch.lap("restore")
    return Verdict(Reason.ADAPTED, value)
