"""Video files, cameras and network streams, decoded by FFmpeg through PyAV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError, SourceError
from ocl_edge.images import MOST_PIXELS
from ocl_edge.plain_text import without_secrets, without_secrets_of
from ocl_edge_runtime.clock import Clock, RealClock
from ocl_edge_runtime.pyav import import_av
from ocl_edge_runtime.sources.base import Arrival, refuse
from ocl_edge_runtime.sources.ffmpeg_limits import recording_options

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream

FRAMES_TIMED = 64
"""So many frames tell how fast a video is."""


FASTEST_FPS = 10_000.0
"""A video that claims more does not say how fast it is."""


class VideoReader:
    """The first video stream of a file, a camera or a URL.

    Args:
        location: path, device or URL.
        clock: of ``captured_at``.
        form: FFmpeg's input format, ``v4l2`` for a camera; None: found out.
        options: of FFmpeg's input, for example ``video_size``.
        timeout_s: of opening, and of every read, where FFmpeg can interrupt it; None: never.

    Raises:
        MissingExtraError: PyAV is not installed.
        SourceError: it cannot be opened, or holds no video.
    """

    def __init__(
        self,
        location: str,
        clock: Clock,
        form: str | None = None,
        options: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        av = import_av("reading a video, camera or stream")
        self._library_error: type[Exception] = av.FFmpegError
        self._clock = clock
        self.name = without_secrets_of(location)
        is_file = form is None and "://" not in location
        given = {**(recording_options() if is_file else {}), **(options or {})}
        try:
            # file: because a name may look like one of FFmpeg's protocols
            opened = f"file:{location}" if is_file else location
            self._container = av.open(opened, format=form, options=given, timeout=timeout_s)
        except Exception as error:  # PyAV raises whatever a damaged file makes it stumble over
            raise SourceError(f"cannot open {self.name}: {reason_of(error)}") from error
        problem = _problem_of(self._container)
        if problem:
            self._container.close()
            raise SourceError(f"{self.name} {problem}")
        self._stream: VideoStream = self._container.streams.video[0]
        decoder = self._stream.codec_context
        decoder.options = {"max_pixels": str(MOST_PIXELS)}
        # damaged frames come out marked, rather than not at all: they are counted
        decoder.flags |= av.codec.context.Flags.output_corrupt
        rate = float(self._stream.average_rate or 0)
        self.rate = rate if 0 < rate <= FASTEST_FPS else None
        """Frames a second, as the container says."""
        self.total: int | None = self._stream.frames or None
        self.tells_times = self.ends = False
        self._starts_at = float((self._stream.start_time or 0) * (self._stream.time_base or 0))

    def __iter__(self) -> Iterator[Arrival]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (self._library_error, OSError) as error:
                raise SourceError(f"{self.name} broke off: {reason_of(error)}") from error
            yield from self._decoded(packet, self._clock.now())

    def _decoded(self, packet: Packet[VideoStream], arrived_at: float) -> Iterator[Arrival]:
        try:
            frames = packet.decode()
        except Exception as error:
            yield Arrival(arrived_at, partial(refuse, f"cannot be decoded: {reason_of(error)}"))
            return
        for frame in frames:
            shown_at = None if frame.time is None else frame.time - self._starts_at
            yield Arrival(arrived_at, partial(upright_pixels, frame), shown_at)

    def first_times(self, wanted: int) -> list[float]:
        """When the first frames are shown, in seconds, in the order in which they are stored."""
        times = []
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is not None and packet.time_base is not None:
                    times.append(float(packet.pts * packet.time_base))
                if len(times) == wanted:
                    break
        except (self._library_error, OSError):
            return times  # whoever plays the file says what is wrong with it
        return times

    def close(self) -> None:
        self._container.close()


def rate_of_times(path: Path) -> float | None:
    """Frames a second by the times of a video file's first frames; None where too few have one.

    The container's own word can be far off: a recording from a browser says 1000 and has 30.

    Raises:
        SourceError: the file cannot be opened, or holds no video.
    """
    reader = VideoReader(str(path), RealClock())
    try:
        times = sorted(reader.first_times(FRAMES_TIMED))
    finally:
        reader.close()
    steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return 1 / median(steps) if steps else None


def upright_pixels(frame: VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as uint8 [H, W, 3] RGB, turned as its metadata says, in quarter turns.

    Raises:
        FrameError: it is damaged.
    """
    if frame.is_corrupt:
        raise FrameError("is damaged")
    if frame.width * frame.height > MOST_PIXELS:
        raise FrameError(f"claims {frame.width}x{frame.height}, larger than {MOST_PIXELS:,} pixels")
    try:
        pixels: NDArray[Any] = frame.to_ndarray(format="rgb24")
    except Exception as error:
        raise FrameError(f"cannot be turned into RGB: {error}") from error
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels


def _problem_of(container: Any) -> str | None:
    """Why the video of an opened container cannot be read."""
    if not container.streams.video:
        return "holds no video"
    decoder = container.streams.video[0].codec_context
    if decoder is None:
        return "holds a video of a codec that FFmpeg does not have here"
    if decoder.width * decoder.height > MOST_PIXELS:
        return f"claims {decoder.width}x{decoder.height}, larger than {MOST_PIXELS:,} pixels"
    return None


def reason_of(error: Exception) -> str:
    """What went wrong, without the location: it may hold a password."""
    return str(getattr(error, "strerror", None) or without_secrets(f"{type(error).__name__}: {error}"))
