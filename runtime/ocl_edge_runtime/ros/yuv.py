"""YUV 4:2:2 to RGB, by ITU-R BT.601 in its limited range, as cameras and OpenCV have it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LEVELS = np.arange(256, dtype=np.float64)


def _table(levels: NDArray[np.float64]) -> bytes:
    return bytes(np.clip(np.round(levels), 0, 255).astype(np.uint8))


FULL_LUMA = _table((_LEVELS - 16) * 255 / 219)
"""Of every byte in the limited range, that in the full one, in which Pillow reckons; likewise for colours."""

FULL_COLOUR = _table((_LEVELS - 128) * 255 / 224 + 128)


def rgb_of_uyvy(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, 2 * W], U Y V Y for two pixels -> uint8 [H, W, 3]."""
    return _rgb(rows[:, 1::2], rows[:, 0::4], rows[:, 2::4])


def rgb_of_yuyv(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, 2 * W], Y U Y V for two pixels -> uint8 [H, W, 3]."""
    return _rgb(rows[:, 0::2], rows[:, 1::4], rows[:, 3::4])


def _rgb(y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma [H, W], colours [H, W / 2] each: two pixels beside each other share theirs."""
    size = y.shape[::-1]
    colours = [_full(plane, FULL_COLOUR).resize(size, Image.Resampling.NEAREST) for plane in (u, v)]
    return np.array(Image.merge("YCbCr", [_full(y, FULL_LUMA), *colours]).convert("RGB"))


def _full(plane: NDArray[np.uint8], table: bytes) -> Image.Image:
    return Image.frombytes("L", plane.shape[::-1], plane.tobytes().translate(table))
