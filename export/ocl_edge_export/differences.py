"""How far two tensors are apart."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_difference(value: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest finite absolute expected value."""
    size = torch.where(expected.isfinite(), expected.abs(), 0.0)
    return max_difference(value, expected) / max(float(size.max()), 1e-12)


def max_difference(value: Tensor, expected: Tensor) -> float:
    """NaN where one of them is; equal infinities do not differ (a class that is ruled out)."""
    return float(torch.where(value == expected, 0.0, (value - expected).abs()).max())
