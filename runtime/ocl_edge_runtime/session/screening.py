"""Which frames nothing is learned from: they show nothing, or nothing new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.tensors import Tensor, torch

BLANK_RANGE = 8
"""A frame whose sampled pixels lie this close together (of 255) shows nothing."""

PIXEL_STRIDE = 8


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Whether a frame shows nothing, uint8 [H, W, 3]."""
    sample = image[::PIXEL_STRIDE, ::PIXEL_STRIDE]
    return int(sample.max()) - int(sample.min()) <= BLANK_RANGE


class Screening:
    """Looks at every frame before it is learned from."""

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None

    def problem_of(self, image: NDArray[np.uint8]) -> Verdict | None:
        """Why a frame must not be learned from: it is blank, or repeats the last one that was not.

        Args:
            image: uint8 [H, W, 3].
        """
        sample = image[::PIXEL_STRIDE, ::PIXEL_STRIDE]
        if is_blank(image):
            return Verdict(Reason.BLANK)
        if self._last is not None and np.array_equal(sample, self._last):
            return Verdict(Reason.REPEATED)
        self._last = sample.copy()
        return None

    def export_state(self) -> dict[str, Tensor]:
        """The sampled pixels of the last frame, where there was one."""
        return {} if self._last is None else {"last_adapted": torch.from_numpy(self._last)}

    def import_state(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `export_state` gave."""
        last = tensors.get("last_adapted")
        self._last = None if last is None else last.numpy()
