"""Pictures of the masks as H.264."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.errors import MissingExtraError
from ocl_edge.images import OPACITY, Colour, ColourOverlay
from ocl_edge.masks import Mask
from ocl_edge_runtime.pyav import import_av
from ocl_edge_runtime.session.frames import Frame

CODEC = "libx264"
QUALITY = {"crf": "23", "preset": "veryfast", "tune": "zerolatency"}
MILLISECOND = Fraction(1, 1000)


class Pictures:
    """What is shown for frames: the class colours over them, or the frame beside that.

    Args:
        palette: RGB of each class, 0 to 255.
        frame_s: seconds from a frame to the next; None: ``captured_at`` tells.
        beside: show the frame on the left.
        opacity: of the colours, 0 to 1.
    """

    def __init__(
        self, palette: list[Colour], frame_s: float | None, beside: bool = False, opacity: float = OPACITY
    ) -> None:
        self._overlay, self._beside, self._frame_s = ColourOverlay(palette, opacity), beside, frame_s

    def of(self, frame: Frame, mask: Mask) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], or twice as wide."""
        picture = self._overlay.over(frame.image, mask)
        return np.hstack([frame.image, picture]) if self._beside else picture

    def seconds(self, frame: Frame, number: int) -> float:
        """When a frame is shown, seconds from any moment; the number counts the frames."""
        return frame.captured_at if self._frame_s is None else number * self._frame_s


class Encoder:
    """Puts pictures into an open container.

    The first one decides the size, rounded down to even numbers; those of another size are resized to it.

    Args:
        av: PyAV.
        container: open for writing.
        options: of the codec, beside `QUALITY`.
    """

    def __init__(self, av: Any, container: Any, options: Mapping[str, str] | None = None) -> None:
        self._av, self._container = av, container
        self._size: tuple[int, int] | None = None
        self._first_at, self._last_pts = 0.0, -1
        self._stream: Any = container.add_stream(CODEC, rate=30, options={**QUALITY, **(options or {})})
        self._stream.pix_fmt, self._stream.thread_count = "yuv420p", 1
        self._stream.time_base = self._stream.codec_context.time_base = MILLISECOND

    def add(self, picture: NDArray[np.uint8], seconds: float) -> None:
        """Encode and write a picture.

        Raises:
            OSError: it cannot be written; so are the errors of FFmpeg.
        """
        if self._size is None:
            self._size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)
            self._stream.width, self._stream.height = self._size
            self._first_at = seconds
        if picture.shape[1::-1] != self._size:
            picture = np.array(Image.fromarray(picture).resize(self._size, Image.Resampling.BILINEAR))
        shown = self._av.VideoFrame.from_ndarray(picture, "rgb24")
        self._last_pts = max(self._last_pts + 1, round(1000 * (seconds - self._first_at)))
        shown.pts, shown.time_base = self._last_pts, MILLISECOND
        self._container.mux(self._stream.encode(shown))

    def finish(self) -> None:
        """Write what the codec holds back."""
        if self._size is not None:
            self._container.mux(self._stream.encode())


def import_encoder(purpose: str) -> Any:
    """PyAV with the codec.

    Raises:
        MissingExtraError: it is not installed, or lacks the codec.
    """
    av = import_av(purpose)
    if CODEC not in av.codecs_available:
        raise MissingExtraError(f"PyAV with {CODEC}", "video", purpose)
    return av
