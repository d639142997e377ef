"""Pictures that nobody has to keep."""

from __future__ import annotations

import numpy as np
from PIL import Image


def random_image(seed: int, height: int = 40, width: int = 50) -> np.ndarray:
    """Blobs of colour, uint8 [height, width, 3]."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
