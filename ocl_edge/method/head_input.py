"""Networks without BatchNorm: the head's input, how far from home it is, and the way back.

No norm remembers what such a network was trained on, so home frames must tell: the mean of every channel of
the head's input, and how it varies from frame to frame. Weather moves that mean. Moving the input back by the
difference of home's mean and the stream's is, for a linear head, a bias of b + W (mean at home - mean now):
no graph changes, and nothing is measured but what the head gets anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ocl_edge.tensors import Tensor, torch

TAU_S = 2.0
"""Time constant of the stream's mean, seconds of stream time."""
IMAGE_DIMS = 4
LEAST_DEVIATION = 0.1
"""A channel that hardly varies at home counts as if it varied by this share of the mean of all."""
SMALLEST_BORDER = 1e-6
"""Where nothing varies at home."""


def means_of(features: Sequence[Tensor]) -> Tensor:
    """Mean of every channel of the head's inputs over views and places, packed float32 [F].

    Args:
        features: images [N, F, h, w], or tokens [N, T, F].
    """
    return torch.cat(
        [f.mean(tuple(axis for axis in range(f.dim()) if axis != _channels_of(f))).cpu() for f in features]
    )


def _channels_of(features: Tensor) -> int:
    return 1 if features.dim() == IMAGE_DIMS else features.dim() - 1


class HeadInput:
    """The mean of the head's input along a stream, against home's.

    Args:
        home: mean of each channel over home frames (row 0), its deviation from frame to frame (row 1),
            float32 [2, F].
        border: distance in home's deviations that counts as 1.
        share: of the way back that is taken, wide open.

    Attributes:
        home: mean of each channel over home frames, float32 [F].
        running: of the stream, likewise.
    """

    def __init__(self, home: Tensor, border: float, share: float) -> None:
        self.home, deviation = home
        self._scale = 1 / (deviation + LEAST_DEVIATION * deviation.mean() + 1e-12)
        self._border = max(border, SMALLEST_BORDER)
        self._share = share
        self.running = self.home.clone()

    def distance(self, statistics: Tensor) -> float:
        """Mean over the channels of the distance from home, about 1 at its border; NaN where one is not.

        Args:
            statistics: `means_of` a frame.
        """
        return float(((statistics - self.home).abs() * self._scale).mean()) / self._border

    def follow(self, means: Tensor, since_s: float | None) -> None:
        """Take in a frame that came ``since_s`` seconds after the one before; None: the first one."""
        weight = 1.0 if since_s is None else 1 - math.exp(-max(0.0, since_s) / TAU_S)
        self.running = self.running.lerp(means, weight)

    def way_home(self, opening: float) -> Tensor | None:
        """What is added to the head's input, float32 [F]; None at home."""
        if opening == 0 or self._share == 0:
            return None
        way: Tensor = opening * self._share * (self.home - self.running)
        return way


def moved(features: Sequence[Tensor], way: Tensor | None) -> list[Tensor]:
    """The head's inputs with ``way`` added at every place; the very same ones where it is None."""
    if way is None:
        return list(features)
    result, start = [], 0
    for f in features:
        axis = _channels_of(f)
        end = start + f.shape[axis]
        shape = [1] * f.dim()
        shape[axis] = end - start
        result.append(f + way[start:end].reshape(shape).to(f.device))
        start = end
    return result
