"""Frames of noise, where the profile has no footage."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from ocl_edge_runtime.session.frames import Frame


class NoiseSource:
    """``count`` different frames of uniform noise, uint8 [height, width, 3]."""

    def __init__(self, height: int, width: int, count: int, seed: int = 0) -> None:
        self.size = (height, width)
        self.count = count
        self._seed = seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Frame]:
        generator = np.random.default_rng(self._seed)
        for index in range(self.count):
            image = generator.integers(0, 256, (*self.size, 3), dtype=np.uint8)
            yield Frame(image, index, f"{index:06d}", time.monotonic())
