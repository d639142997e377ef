"""Images that the parity gate compares on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ocl_edge.errors import FrameError, UsageError
from ocl_edge.images import SUFFIXES, decode_image, image_files
from ocl_edge.network.preprocess import InputSpec, Preprocessor

AT_MOST = 4


def noise_images(spec: InputSpec, count: int = 2, seed: int = 0) -> Tensor:
    """Smooth random images, normalised: float32 [count, C, H, W].

    White noise has no structure that survives a network's pooling; blobs of several
    sizes exercise every layer.
    """
    generator = torch.Generator().manual_seed(seed)
    size = (spec.height, spec.width)
    image = torch.zeros(count, spec.channels, *size)
    for cells in (2, 4, 8, 16, 32):
        coarse = torch.randn(count, spec.channels, cells, cells, generator=generator)
        image += F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return image / image.std()


def read_images(directory: Path, spec: InputSpec, at_most: int = AT_MOST) -> Tensor:
    """The first, last and evenly spaced images of a directory: float32 [N, C, H, W], normalised.

    Raises:
        UsageError: no directory, no images, or one that cannot be read.
    """
    return torch.cat([read_image_as(file, spec) for file in choose_images(directory, at_most)])


def choose_images(directory: Path, at_most: int = AT_MOST) -> list[Path]:
    """The first, last and evenly spaced image files of a directory, in order of name.

    Raises:
        UsageError: no directory, or no images.
    """
    files = image_files(directory) if directory.is_dir() else []
    if not files:
        raise UsageError(f"--calibration {directory}: no images ({', '.join(SUFFIXES)}) there")
    return [
        files[i] for i in sorted({round(i) for i in np.linspace(0, len(files) - 1, min(at_most, len(files)))})
    ]


def _mode(spec: InputSpec) -> str:
    """Pillow's mode of the pixels that a network takes.

    Raises:
        FrameError: image files hold no such pixels.
    """
    modes = {1: "RGB", 3: "RGB", 4: "RGBA"}
    if spec.channels not in modes:
        raise FrameError(f"the network takes {spec.channels} channels, an image file has at most 4")
    return modes[spec.channels]


def read_image_as(file: Path, spec: InputSpec) -> Tensor:
    """An image file as a network's input, float32 [1, C, H, W], normalised.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        pixels = decode_image(file, lambda image: np.array(image.convert(_mode(spec))))
        return Preprocessor(spec).single(pixels)
    except FrameError as error:
        raise UsageError(f"--calibration: {file} cannot be read: {error}") from error
