"""Whether a picture differs so much from the last one that was measured that it may no longer be home.

At home a session measures its norms once a second; fog, noise or another exposure must not wait for that.
A few thousand pixels tell them from a street that goes by. A wrong answer costs little: the time of one
measurement, or up to a second until the next.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ocl_edge.tensors import Tensor, torch

ROW_STRIDE, COLUMN_STRIDE = 16, 8
MOST_ROWS = 540
"""Of an image of twice as many rows, every second sample is left out in both directions, and so on."""
LEVELS, CONTRAST, DETAIL = 13.0, 0.15, 0.25
"""A change of a channel's mean, of the logarithm of its deviation, or of that of its mean step from pixel to
pixel. Frames of two drives, a second apart, stay below in 9 of 10 cases; the mildest fog, snow, frost, noise,
blur, contrast and brightness of `evaluate` are above (median), each in at least one of the three."""


class Glance:
    """Remembers how the picture looked that was measured last."""

    def __init__(self) -> None:
        self._measured: NDArray[np.float64] | None = None
        self._seen: NDArray[np.float64] | None = None

    def looks_new(self, image: NDArray[np.uint8]) -> bool:
        """Whether an image, uint8 [H, W, C], is unlike the one that was measured; True before the first."""
        self._seen = _seen(image)
        if self._measured is None or self._measured.shape != self._seen.shape:
            return True
        return bool((np.abs(self._seen - self._measured) > 1).any())

    def keep(self) -> None:
        """The image that was looked at last was measured."""
        if self._seen is not None:
            self._measured = self._seen

    def export_state(self) -> dict[str, Tensor]:
        """One tensor, float64 [3, C]; none before the first measurement."""
        return {} if self._measured is None else {"glance": torch.from_numpy(self._measured)}

    def import_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `export_state` gave."""
        held = tensors.get("glance")
        self._measured = None if held is None else held.numpy()


def _seen(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean, contrast and detail of each channel, in units of the changes that count, [3, C]."""
    sparser = max(1, image.shape[0] // MOST_ROWS)
    rows, columns = ROW_STRIDE * sparser, COLUMN_STRIDE * sparser
    sample = image[::rows, ::columns].astype(np.float32)
    beside = image[::rows, 1::columns]
    steps = np.abs(sample[:, : beside.shape[1]] - beside)
    return np.stack(
        [
            sample.mean((0, 1)) / LEVELS,
            np.log(sample.std((0, 1)) + 1) / CONTRAST,
            np.log((steps.mean((0, 1)) if steps.size else np.zeros(image.shape[2])) + 0.5) / DETAIL,
        ]
    ).astype(np.float64)
