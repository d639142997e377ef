"""Masks as PNG files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge import durable
from ocl_edge.errors import OutputError
from ocl_edge.images import OPACITY, Colour, ColourOverlay
from ocl_edge.masks import Mask
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.names import file_name

FAST_COMPRESSION = 1


class MaskSink(Sink):
    """``DIR/NAME.png``: one channel, class indices, at the frame's size; 16 bits from 256 classes on."""

    def __init__(self, directory: Path) -> None:
        self.directory = _made(directory)

    def emit(self, frame: Frame, mask: Mask) -> None:
        write_png(self.directory / file_name(frame.name), mask)


class OverlaySink(Sink):
    """``DIR/NAME.png``: the frame with the class colours blended over it.

    Args:
        directory: made if it is not there.
        palette: RGB of each class, 0 to 255.
        opacity: of the colours, 0 to 1.
    """

    def __init__(self, directory: Path, palette: list[Colour], opacity: float = OPACITY) -> None:
        self.directory = _made(directory)
        self._overlay = ColourOverlay(palette, opacity)

    def emit(self, frame: Frame, mask: Mask) -> None:
        write_png(self.directory / file_name(frame.name), self._overlay.over(frame.image, mask))


def write_png(path: Path, pixels: NDArray[np.uint8 | np.uint16]) -> None:
    """Write a PNG whole or not at all.

    Raises:
        OutputError: it cannot be written, for example because the disk is full.
    """
    with durable.writing(path, durable=False) as file:  # a flush to the disk would cost each frame some ms
        Image.fromarray(pixels).save(file, format="PNG", compress_level=FAST_COMPRESSION)


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):  # found out before the work, not after it
            pass
    except OSError as error:
        raise OutputError(f"cannot write into the directory {directory}: {error.strerror}") from error
    return directory
