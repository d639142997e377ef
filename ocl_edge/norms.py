"""Norm statistics and the norm vectors made from them.

Statistics of all norms of a backbone are packed float32 [2, S] (mean, variance; S = sum
of channels), norm vectors likewise (scale, shift).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DEFAULT_PRIOR = 0.85


@dataclass(frozen=True)
class SourceNorms:
    """What training left in the norms: statistics, affine weights and eps, each packed float32 [S]."""

    mean: Tensor
    var: Tensor
    weight: Tensor
    bias: Tensor
    eps: Tensor

    @property
    def statistics(self) -> Tensor:
        """Source statistics, float32 [2, S]."""
        return torch.stack((self.mean, self.var))

    def mixed_with(self, current: Tensor, prior: float) -> Tensor:
        """``prior * source + (1 - prior) * current``, float32 [2, S]."""
        return torch.lerp(current, self.statistics, prior)

    def vectors(self, statistics: Tensor) -> Tensor:
        """The scale and shift that normalise with these statistics: [2, S] -> [2, S].

        ``scale = weight / sqrt(var + eps)``, ``shift = bias - mean * scale``.
        """
        mean, var = statistics
        scale = self.weight * torch.rsqrt(var + self.eps)
        return torch.stack((scale, self.bias - mean * scale))
