"""How far ahead the best class is, shut and wide open: whether a network knows a frame better unmixed.

Norm statistics are averages over the picture. Drops on a lens, mild noise and snow change a few places of it,
and move them no farther than a dark street does. What mixing makes of such a frame shows in the logits: where
it helps, the best class moves away from the second; at home it comes nearer. How the limit was found:
docs/ablation.md.
"""

from __future__ import annotations

import numpy as np

from ocl_edge.tensors import Tensor

GROWN = 0.12
"""The lead wide open is larger than the lead shut by this share: the frame is best seen open."""
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


def has_grown(shut: float, open_: float, apart: float) -> bool:
    """Whether a frame is best seen open, by its lead at two openings; False where one is not finite.

    Args:
        shut: lead at the smaller opening.
        open_: at the larger one.
        apart: how far the openings are from each other, 0 to 1.
    """
    return open_ > (1 + GROWN * apart) * shut
