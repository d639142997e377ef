"""YUV 4:2:2 to RGB, by ITU-R BT.601 in its limited range, as cameras and OpenCV have it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEVELS = np.arange(256, dtype=np.float64)
LUMA = np.round(32 * 255 / 219 * (_LEVELS - 16)).astype(np.int16)
"""Of every byte, in 32nds of a level, so that a sum of two fits into 16 bits; so are those below."""

RED_OF_V = np.round(32 * 1.596027 * (_LEVELS - 128)).astype(np.int16)
GREEN_OF_U = np.round(32 * -0.391762 * (_LEVELS - 128)).astype(np.int16)
GREEN_OF_V = np.round(32 * -0.812968 * (_LEVELS - 128)).astype(np.int16)
BLUE_OF_U = np.round(32 * 2.017232 * (_LEVELS - 128)).astype(np.int16)


def rgb_of_uyvy(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, 2 * W], U Y V Y for two pixels -> uint8 [H, W, 3]."""
    return _rgb(rows[:, 1::2], rows[:, 0::4], rows[:, 2::4])


def rgb_of_yuyv(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, 2 * W], Y U Y V for two pixels -> uint8 [H, W, 3]."""
    return _rgb(rows[:, 0::2], rows[:, 1::4], rows[:, 3::4])


def _rgb(y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma [H, W], colours [H, W / 2] each."""
    height, width = y.shape
    luma = LUMA[y].reshape(height, width // 2, 2)
    rgb = np.empty((height, width // 2, 2, 3), np.uint8)
    for channel, colour in enumerate((RED_OF_V[v], GREEN_OF_U[u] + GREEN_OF_V[v], BLUE_OF_U[u])):
        rgb[..., channel] = np.clip((luma + colour[..., None] + 16) >> 5, 0, 255)
    return rgb.reshape(height, width, 3)
