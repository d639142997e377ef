"""What one adaptation does to the head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ocl_edge.head import TrainableHead
from ocl_edge.ocl import output_contrastive_loss
from ocl_edge.timings import Stopwatch


@dataclass(frozen=True)
class Update:
    """The outcome of one adaptation: the loss before it, whether the step was applied, and why not."""

    loss: float
    applied: bool
    reason: str


def align_views(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of a view pair [2, C, h, w] -> two [1, C, h, w] whose pixels correspond."""
    return logits[:1], logits[1:].flip(3)


def mean_of_views(logits: Tensor) -> Tensor:
    """Flip-averaged logits: [2, C, h, w] -> [1, C, h, w]."""
    view, flipped_back = align_views(logits.detach())
    return (view + flipped_back).mul_(0.5)


def adapt_head(head: TrainableHead, logits: Tensor, watch: Stopwatch) -> Update:
    """One OCL step on the head, then restoration (OCL paper, section 3; head only).

    Args:
        head: its parameters produced ``logits`` with gradients enabled.
        logits: of a view pair, [2, C, h, w].
        watch: receives the laps loss, backward, step and restore.

    Returns:
        What happened. A loss or gradient that is not finite leaves the head as it was.
    """
    settings = head.settings
    loss = output_contrastive_loss(*align_views(logits), settings.pos_coeff, settings.neg_coeff)
    value = loss.item()
    watch.lap("loss")
    if not torch.isfinite(loss):
        return Update(value, False, "the loss is not finite")
    loss.backward()  # type: ignore[no-untyped-call]
    watch.lap("backward")
    if not head.gradients_are_finite():
        head.discard_gradients()
        return Update(value, False, "a gradient is not finite")
    head.step()
    watch.lap("step")
    head.restore_toward_source()
    watch.lap("restore")
    return Update(value, True, "adapted")
