"""Pictures of the masks as a video file."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ocl_edge import durable
from ocl_edge.errors import MissingExtraError, OutputError, UsageError
from ocl_edge.images import OPACITY, Colour, ColourOverlay
from ocl_edge.masks import Mask
from ocl_edge_runtime.pyav import import_av
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks.base import Sink

CODEC = "libx264"
QUALITY = {"crf": "23", "preset": "veryfast", "tune": "zerolatency"}
MILLISECOND = Fraction(1, 1000)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
"""What is there can be played at any time, after a kill too."""
SUFFIXES = (".mp4", ".mkv")


class VideoSink(Sink):
    """H.264 in MP4 or Matroska: the frame with the class colours over it, or the frame beside that.

    The first frame decides the size, rounded down to even numbers; frames of another size are resized to it.

    Args:
        path: of a new file; an older one, which may be the very source, is never written over.
        palette: RGB of each class, 0 to 255.
        frame_s: seconds from a frame to the next; None: ``captured_at`` tells.
        beside: show the frame on the left.
        opacity: of the colours, 0 to 1.

    Raises:
        UsageError: another suffix, or there is such a file.
        MissingExtraError: PyAV is not installed, or lacks the codec.
        OutputError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        palette: list[Colour],
        frame_s: float | None = None,
        beside: bool = False,
        opacity: float = OPACITY,
    ) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path}: a video's name ends with {' or '.join(SUFFIXES)}")
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} is there already; name another file, or remove it")
        self.path = path
        self._av = _pyav()
        self._overlay, self._beside, self._frame_s = ColourOverlay(palette, opacity), beside, frame_s
        self._size: tuple[int, int] | None = None
        self._frames, self._first_at, self._last_pts = 0, 0.0, -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.BufferedWriter(durable.open_for_lines(path, append=False))
        except OSError as error:
            raise OutputError(f"cannot write the video {path}: {error.strerror}") from error
        options = FRAGMENTED if path.suffix.lower() == ".mp4" else {}
        form = "mp4" if options else "matroska"
        self._container: Any = self._av.open(self._file, "w", form, options=options)
        self._stream: Any = self._container.add_stream(CODEC, rate=30, options=QUALITY)
        self._stream.pix_fmt, self._stream.thread_count = "yuv420p", 1
        self._stream.time_base = self._stream.codec_context.time_base = MILLISECOND

    def emit(self, frame: Frame, mask: Mask) -> None:
        """Add a frame.

        Raises:
            OutputError: the disk is full.
        """
        picture = self._overlay.over(frame.image, mask)
        if self._beside:
            picture = np.hstack([frame.image, picture])
        if self._size is None:
            self._size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)
            self._stream.width, self._stream.height = self._size
            self._first_at = frame.captured_at
        if picture.shape[1::-1] != self._size:
            picture = np.array(Image.fromarray(picture).resize(self._size, Image.Resampling.BILINEAR))
        shown = self._av.VideoFrame.from_ndarray(picture, "rgb24")
        shown.pts, shown.time_base = self._moment(frame), MILLISECOND
        self._write(lambda: self._container.mux(self._stream.encode(shown)))

    def close(self) -> None:
        """Finish the file. Calling it twice is fine.

        Raises:
            OutputError: the disk is full.
        """
        container, self._container = self._container, None
        if container is None:
            return
        try:
            if self._size is not None:
                self._write(lambda: container.mux(self._stream.encode()))
            self._write(container.close)
        finally:
            self._file.close()

    def _moment(self, frame: Frame) -> int:
        since = frame.captured_at - self._first_at if self._frame_s is None else self._frames * self._frame_s
        self._frames += 1
        self._last_pts = max(self._last_pts + 1, round(1000 * since))
        return self._last_pts

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
            self._file.flush()
        except (OSError, self._av.FFmpegError) as error:
            raise OutputError(f"cannot write the video {self.path}: {error.strerror or error}") from error


def _pyav() -> Any:
    av = import_av("the video sink")
    if CODEC not in av.codecs_available:
        raise MissingExtraError(f"PyAV with {CODEC}", "video", "the video sink")
    return av
