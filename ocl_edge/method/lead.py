"""How far ahead the best class is, shut and wide open: whether a network knows a frame better unmixed.

Norm statistics are averages over the picture. Drops on a lens, mild noise and snow change a few places of it,
and move them no farther than a dark street does. What mixing makes of such a frame shows in the logits: where
it helps, the best class moves away from the second; at home it comes nearer. How far that tells:
docs/ablation.md.
"""

from __future__ import annotations

import math

import numpy as np

from ocl_edge.tensors import Tensor

STRIDE = 4
"""Every n-th pixel counts, in both directions."""


def lead_of_best(logits: Tensor) -> float:
    """Mean over views and pixels of the best class's logit minus the second's, at least 0.

    Args:
        logits: [N, C, h, w]; of one class, its distance from 0 counts.
    """
    values = logits.detach()[:, :, ::STRIDE, ::STRIDE].cpu().numpy()
    if values.shape[1] == 1:
        return float(np.abs(values).mean())
    second, best = np.moveaxis(np.partition(values, -2, axis=1)[:, -2:], 1, 0)
    return float((best - second).mean())


def growth_of_lead(shut: float, wide: float, apart: float) -> float:
    """By which share of itself the lead grows from shut to wide open; NaN where that cannot be told.

    Args:
        shut: lead at the smaller opening.
        wide: at the larger one.
        apart: how far the openings are from each other, above 0 to 1; the rest grows alike.
    """
    if not (shut > 0 and math.isfinite(wide)):
        return math.nan
    return (wide / shut - 1) / apart
