"""Frames without a camera."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge_runtime.session.frames import Frame

OCTAVES = 6


class NoiseSource:
    """``count`` different frames of noise, uint8 [height, width, channels].

    Its spectrum is that of pictures, amplitude over wavelength: fields and edges instead of a class for every
    pixel, so that what depends on the content of a mask takes about as long as in a street.
    """

    def __init__(self, height: int, width: int, count: int, seed: int = 0, channels: int = 3) -> None:
        self.size = (height, width)
        self.channels = channels
        self.count = count
        self._seed = seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Frame]:
        generator = np.random.default_rng(self._seed)
        for index in range(self.count):
            yield Frame(self._picture(generator), index, f"{index:06d}", time.monotonic())

    def _picture(self, generator: np.random.Generator) -> NDArray[np.uint8]:
        height, width = self.size
        summed = np.full((height, width, self.channels), 128, np.float32)
        for octave in range(OCTAVES):
            step = 2**octave
            cells = (-(-height // step), -(-width // step), self.channels)
            coarse = generator.integers(0, 256, cells, dtype=np.uint8)
            field = np.dstack([_enlarged(coarse[..., each], height, width) for each in range(self.channels)])
            summed += (field - 128) * (step / 2**OCTAVES)
        picture: NDArray[np.uint8] = summed.clip(0, 255).astype(np.uint8)
        return picture


def _enlarged(cells: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR), np.float32)
