"""Pictures of the masks as a video file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ocl_edge import durable
from ocl_edge.errors import OutputError, UsageError
from ocl_edge.images import OPACITY, Colour
from ocl_edge.masks import Mask
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.h264 import Encoder, Pictures, import_encoder

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
        self._av = import_encoder("the video sink")
        self._pictures, self._frames = Pictures(palette, frame_s, beside, opacity), 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.BufferedWriter(durable.open_for_lines(path, append=False))
        except OSError as error:
            raise OutputError(f"cannot write the video {path}: {error.strerror}") from error
        options = FRAGMENTED if path.suffix.lower() == ".mp4" else {}
        form = "mp4" if options else "matroska"
        self._container: Any = self._av.open(self._file, "w", form, options=options)
        self._encoder = Encoder(self._av, self._container)

    def emit(self, frame: Frame, mask: Mask) -> None:
        """Add a frame.

        Raises:
            OutputError: the disk is full.
        """
        picture, seconds = self._pictures.of(frame, mask), self._pictures.seconds(frame, self._frames)
        self._frames += 1
        self._write(lambda: self._encoder.add(picture, seconds))

    def close(self) -> None:
        """Finish the file. Calling it twice is fine.

        Raises:
            OutputError: the disk is full.
        """
        container, self._container = self._container, None
        if container is None:
            return
        try:
            self._write(self._encoder.finish)
            self._write(container.close)
        finally:
            self._file.close()

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
            self._file.flush()
        except (OSError, self._av.FFmpegError) as error:
            raise OutputError(f"cannot write the video {self.path}: {error.strerror or error}") from error
