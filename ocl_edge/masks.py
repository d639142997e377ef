"""Masks: the index of a class for every pixel, in 8 bits where they suffice, else in 16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8 | np.uint16]
"""[H, W]."""

MOST_CLASSES = 65535
"""The last value of 16 bits, as that of 8 bits, is what labels leave out."""
MOST_IN_8_BITS = 255


def mask_dtype(classes: int) -> np.dtype[Any]:
    """Of the masks of a network with so many classes: uint8 up to 255, else uint16."""
    return np.dtype(np.uint8 if classes <= MOST_IN_8_BITS else np.uint16)


def ignored_label(classes: int) -> int:
    """The value that labels of so many classes leave out, unless they say otherwise: 255 or 65535."""
    return int(np.iinfo(mask_dtype(classes)).max)
