"""Frames like those that the small network was trained on, and others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.network.preprocess import InputSpec


def home_frame(seed: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """What `tests.doubles.small_network.trained` saw, as a picture: uint8 [height, width, 3]."""
    seen = torch.randn(height, width, 3, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.3
    spec = InputSpec(height=height, width=width)
    pixels = (seen * torch.tensor(spec.std) + torch.tensor(spec.mean)) * 255
    return pixels.clamp(0, 255).to(torch.uint8).numpy()


def write_frames(directory: Path, frames: list[NDArray[np.uint8]]) -> Path:
    """Each as a file, in order."""
    directory.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(directory / f"{index}.png")
    return directory
