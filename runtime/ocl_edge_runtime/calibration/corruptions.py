"""Corrupted copies of frames: light, colour, noise, blur and haze, in a few lines each.

They stand for weather that nobody has frames of. What matters is that each moves the statistics of
other channels: contrast and veil all alike, noise and blur the high frequencies in opposite directions, cast
and brightness the means.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Pixels = NDArray[np.uint8]
Corruption = Callable[[Pixels, np.random.Generator], Pixels]
"""Frame uint8 [H, W, 3] and a source of randomness -> its copy."""

BLUR_PX = 5
HAZE_CELLS = 4
PHOTONS = 20.0
"""Of a white pixel, under shot noise."""


def contrast(frame: Pixels, _: np.random.Generator) -> Pixels:
    mean = frame.mean((0, 1))
    return _pixels((frame - mean) * 0.4 + mean)


def veil(frame: Pixels, _: np.random.Generator) -> Pixels:
    return _pixels(frame * (145 / 255) + 110.0)


def dark(frame: Pixels, _: np.random.Generator) -> Pixels:
    return _pixels(frame * 0.5)


def shot_noise(frame: Pixels, random: np.random.Generator) -> Pixels:
    return _pixels(random.poisson(frame / 255 * PHOTONS) / PHOTONS * 255)


def blur(frame: Pixels, _: np.random.Generator) -> Pixels:
    """Twice the mean over a square."""
    planes = torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1)[None]
    for _again in range(2):
        padded = F.pad(planes, [BLUR_PX // 2] * 4, mode="replicate")
        planes = F.avg_pool2d(padded, BLUR_PX, stride=1)
    return _pixels(planes[0].permute(1, 2, 0).numpy())


def colour_cast(frame: Pixels, _: np.random.Generator) -> Pixels:
    return _pixels(frame * np.array([1.2, 1.0, 0.75])[: frame.shape[2]])


def bright(frame: Pixels, _: np.random.Generator) -> Pixels:
    return _pixels(frame + 70.0)


def haze(frame: Pixels, random: np.random.Generator) -> Pixels:
    """Banks of fog of another depth everywhere, as bright as the brightest pixel."""
    cells = torch.from_numpy(random.standard_normal((1, 1, HAZE_CELLS, HAZE_CELLS)))
    depth = F.interpolate(cells, frame.shape[:2], mode="bicubic", align_corners=True)[0, 0].numpy()
    depth = (depth - depth.min()) / (np.ptp(depth) + 1e-6)
    share = np.clip(0.25 + 0.5 * depth, 0, 1)[..., None]
    return _pixels(frame * (1 - share) + frame.max() * share)


CORRUPTIONS: dict[str, Corruption] = {
    "contrast": contrast,
    "veil": veil,
    "dark": dark,
    "shot noise": shot_noise,
    "blur": blur,
    "colour cast": colour_cast,
    "bright": bright,
    "haze": haze,
}


def _pixels(values: NDArray[np.floating]) -> Pixels:
    result: Pixels = np.clip(values, 0, 255).astype(np.uint8)
    return result
