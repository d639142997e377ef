"""Masks as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge import durable
from ocl_edge.errors import OutputError
from ocl_edge_runtime.session.frames import Frame

FAST_COMPRESSION = 1


class MaskSink:
    """``DIR/NAME.png``: 8-bit, one channel, class indices, at the frame's size."""

    def __init__(self, directory: Path) -> None:
        self.directory = _made(directory)

    def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
        write_png(self.directory / f"{frame.name}.png", mask)


class OverlaySink:
    """``DIR/NAME.png``: the frame with the class colours blended over it.

    Args:
        directory: made if it is not there.
        palette: RGB of each class, 0 to 255.
        opacity: of the colours, 0 to 1.
    """

    def __init__(self, directory: Path, palette: list[tuple[int, int, int]], opacity: float = 0.55) -> None:
        self.directory = _made(directory)
        self._colours = (np.array(palette, np.float32) * opacity).round().astype(np.uint8)
        self._dimmed = (np.arange(256, dtype=np.float32) * (1 - opacity)).astype(np.uint8)

    def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
        write_png(self.directory / f"{frame.name}.png", self._dimmed[frame.image] + self._colours[mask])


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG whole or not at all.

    Raises:
        OutputError: it cannot be written, for example because the disk is full.
    """
    with durable.writing(path, durable=False) as file:  # a flush to the disk would cost each frame some ms
        Image.fromarray(pixels).save(file, format="PNG", compress_level=FAST_COMPRESSION)


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the directory {directory}: {error.strerror}") from error
    return directory
