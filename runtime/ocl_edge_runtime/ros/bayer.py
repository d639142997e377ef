"""A mosaic of red, green and blue pixels to RGB, by bilinear interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError

PATTERNS = ("rggb", "bggr", "gbrg", "grbg")
"""Colours of the first two pixels of the first row, and of the second row."""

BLOCK = 32
"""Rows at a time, which the processor's caches hold."""


def rgb_of(mosaic: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """Mosaic uint8 [H, W], one colour a pixel -> uint8 [H, W, 3] RGB.

    A missing colour is the mean of the two or four nearest pixels that have it; borders are mirrored.

    Args:
        mosaic: at least 2 x 2.
        pattern: one of `PATTERNS`.

    Raises:
        FrameError: smaller than 2 x 2.
    """
    height, width = mosaic.shape
    if height < 2 or width < 2:
        raise FrameError(f"is a mosaic of {width}x{height} pixels, at least 2x2 are needed")
    # an odd size is made even by its mirror image, and cut off again
    even = np.pad(mosaic, ((0, height % 2), (0, width % 2)), "reflect")
    around = np.pad(even, 1, "reflect")
    rgb = np.empty((*even.shape, 3), np.uint8)
    for top in range(0, len(rgb), BLOCK):
        block, around_it = rgb[top : top + BLOCK], around[top : top + BLOCK + 2].astype(np.uint16)
        for row in range(2):
            for column in range(2):
                _interpolate(block[row::2, column::2], around_it, row, column, pattern)
    return np.ascontiguousarray(rgb[:height, :width])


def _interpolate(
    out: NDArray[np.uint8], around: NDArray[np.uint16], row: int, column: int, pattern: str
) -> None:
    """Fill the pixels [h, w, 3] of one place in the pattern."""
    height, width, _ = out.shape

    def at(down: int, right: int) -> NDArray[np.uint16]:
        top, left = 1 + row + down, 1 + column + right
        return around[top : top + 2 * height - 1 : 2, left : left + 2 * width - 1 : 2]

    own, beside = pattern[2 * row + column], pattern[2 * row + 1 - column]
    sides, stacked = at(0, -1) + at(0, 1), at(-1, 0) + at(1, 0)
    if own == "g":
        across, upright = _CHANNEL[beside], _CHANNEL["b" if beside == "r" else "r"]
        out[..., 1] = at(0, 0)
        out[..., across] = (sides + 1) >> 1
        out[..., upright] = (stacked + 1) >> 1
    else:
        corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
        out[..., _CHANNEL[own]] = at(0, 0)
        out[..., 1] = (sides + stacked + 2) >> 2
        out[..., _CHANNEL["b" if own == "r" else "r"]] = (corners + 2) >> 2


_CHANNEL = {"r": 0, "g": 1, "b": 2}
