"""The newest picture of a camera with its classes over it, made when somebody looks."""

from __future__ import annotations

import io
import threading

import numpy as np
from PIL import Image

from ocl_edge.images import Colour, ColourOverlay
from ocl_edge.masks import Mask
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks.base import Sink

LONGEST_SIDE_PX = 960
JPEG_QUALITY = 80


class NewestPicture(Sink):
    """Keeps the last frame and its mask; nobody waits, and nothing is drawn until it is asked for.

    Args:
        palette: RGB of each class.
    """

    def __init__(self, palette: list[Colour]) -> None:
        self._overlay = ColourOverlay(palette)
        self._newest: tuple[Frame, Mask] | None = None
        self._drawn: tuple[Frame, bytes] | None = None
        self._drawing = threading.Lock()

    def emit(self, frame: Frame, mask: Mask) -> None:
        self._newest = frame, mask

    def jpeg(self) -> bytes | None:
        """The picture, at most `LONGEST_SIDE_PX` wide and high; None before the first frame."""
        with self._drawing:  # several viewers of one frame share it
            newest = self._newest
            if newest is None:
                return None
            if self._drawn is None or self._drawn[0] is not newest[0]:
                self._drawn = newest[0], self._draw(*newest)
            return self._drawn[1]

    def _draw(self, frame: Frame, mask: Mask) -> bytes:
        image = Image.fromarray(frame.image)
        image.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.BILINEAR)
        file = io.BytesIO()
        Image.fromarray(self._overlay.over(np.asarray(image), mask)).save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()
