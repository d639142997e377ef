"""Cameras and streams through GStreamer: hardware decoders, MIPI cameras, whatever has an element."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError, MissingExtraError, SourceError, UsageError
from ocl_edge.images import MOST_PIXELS
from ocl_edge.plain_text import without_secrets
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.sources.base import Arrival

POLL_S = 0.1
APPSINK = "ocl_edge_frames"
TAIL = f"videoconvert ! appsink name={APPSINK} caps=video/x-raw,format=RGB max-buffers=1 drop=true"
"""What every pipeline ends with: RGB, and only the newest frame is kept."""


class GstReader:
    """The frames of a pipeline.

    A pipeline that is live, as cameras and streams are, gives each frame when it is there, and its end is a
    loss. Another one plays by its own clock and may end.

    Args:
        pipeline: as ``gst-launch-1.0`` takes it, without a sink.
        name: for messages.
        clock: of ``captured_at``.
        timeout_s: how long to wait for the first frame.

    Raises:
        MissingExtraError: the binding of GStreamer is not installed.
        UsageError: the pipeline cannot be built.
        SourceError: it fails, ends, or gives no frame in time.
    """

    def __init__(self, pipeline: str, name: str, clock: Clock, timeout_s: float) -> None:
        self.name = name
        self._gst, self._video, glib_error = _library()
        self._clock = clock
        self._interrupted = False
        try:
            self._pipeline = self._gst.parse_launch(f"{pipeline} ! {TAIL}")
        except glib_error as error:
            raise UsageError(f"{name} cannot be built: {without_secrets(error.message)}") from error
        self._sink, self._bus = self._pipeline.get_by_name(APPSINK), self._pipeline.get_bus()
        try:
            self.ends = not self._begin(timeout_s)
            self._first: Any = self._pull(timeout_s)
            if self._first is None:
                raise SourceError(f"{name} {'ended' if self._at_its_end() else 'gave no frame in time'}")
        except BaseException:
            self.close()
            raise
        info = self._info(self._first)
        self.rate: float | None = info.fps_n / info.fps_d if info.fps_n and info.fps_d else None

    def __iter__(self) -> Iterator[Arrival]:
        sample, self._first = self._first, None
        while not self._interrupted:
            if sample is not None:
                yield Arrival(self._clock.now(), partial(self._pixels, sample))
            elif self._at_its_end():
                return
            sample = self._pull(POLL_S)

    def interrupt(self) -> None:
        """End the iteration soon; from any thread."""
        self._interrupted = True

    def close(self) -> None:
        self._interrupted = True
        self._first = None
        self._pipeline.set_state(self._gst.State.NULL)

    def _begin(self, timeout_s: float) -> bool:
        """Start; whether the pipeline is live."""
        self._pipeline.set_state(self._gst.State.PAUSED)
        change, _, _ = self._pipeline.get_state(round(timeout_s * self._gst.SECOND))
        self._raise_error()
        if change not in (self._gst.StateChangeReturn.SUCCESS, self._gst.StateChangeReturn.NO_PREROLL):
            raise SourceError(f"{self.name} did not start within {timeout_s:g} s")
        live = bool(change == self._gst.StateChangeReturn.NO_PREROLL)
        self._sink.set_property("sync", not live)
        self._pipeline.set_state(self._gst.State.PLAYING)
        return live

    def _pull(self, patience_s: float) -> Any:
        """The newest sample; None if none comes in time, or at the end.

        Raises:
            SourceError: the pipeline failed.
        """
        sample = self._sink.try_pull_sample(round(patience_s * self._gst.SECOND))
        if sample is None:
            self._raise_error()
        return sample

    def _at_its_end(self) -> bool:
        return bool(self._sink.is_eos())

    def _raise_error(self) -> None:
        message = self._bus.pop_filtered(self._gst.MessageType.ERROR)
        if message is not None:
            error, _ = message.parse_error()
            raise SourceError(f"{self.name} failed: {without_secrets(error.message)}")

    def _info(self, sample: Any) -> Any:
        return self._video.VideoInfo.new_from_caps(sample.get_caps())

    def _pixels(self, sample: Any) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], a copy; every sample says itself how large it is."""
        info, buffer = self._info(sample), sample.get_buffer()
        height, width, stride, start = info.height, info.width, info.stride[0], info.offset[0]
        meta = self._video.buffer_get_video_meta(buffer)
        if meta is not None:
            stride, start = meta.stride[0], meta.offset[0]
        if height * width > MOST_PIXELS:
            raise FrameError(f"claims {width}x{height}, larger than {MOST_PIXELS:,} pixels")
        mapped, memory = buffer.map(self._gst.MapFlags.READ)
        if not mapped:
            raise FrameError("cannot be read from GStreamer's memory")
        try:
            data = np.frombuffer(memory.data, np.uint8)[start:]
            if stride < 3 * width or len(data) < (height - 1) * stride + 3 * width:
                raise FrameError(f"{width}x{height} pixels do not fit {len(data):,} bytes")
            shape, steps = (height, width, 3), (stride, 3, 1)
            return np.array(np.lib.stride_tricks.as_strided(data, shape, steps, writeable=False))
        finally:
            buffer.unmap(memory)


def csi_pipeline(sensor: str, rate: float | None, options: Mapping[str, str]) -> str:
    """The pipeline of a MIPI camera of a Jetson.

    Args:
        sensor: its number, the text behind ``csi://``.
        rate: frames a second; None: the camera's own.
        options: ``video_size`` alone, for example ``1280x720``.

    Raises:
        UsageError: another option, or no number or size.
    """
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", options.get("video_size", "1280x720"))
    if not sensor.isdecimal() or set(options) - {"video_size"} or size is None:
        raise UsageError("csi://N takes the number of a sensor and --source-option video_size=WIDTHxHEIGHT")
    asked = f",width={size[1]},height={size[2]}"
    if rate is not None:
        asked += f",framerate={round(1000 * rate)}/1000"
    return (
        f"nvarguscamerasrc sensor-id={int(sensor)} ! video/x-raw(memory:NVMM){asked} ! "
        "nvvidconv ! video/x-raw,format=BGRx"
    )


def _library() -> tuple[Any, Any, Any]:
    """Gst, GstVideo, and what GLib raises."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        gi.require_version("GstVideo", "1.0")
        from gi.repository import GLib, Gst, GstApp, GstVideo  # noqa: F401  appsink's methods come with GstApp
    except (ImportError, ValueError) as error:
        raise MissingExtraError(
            "GStreamer and its Python binding (python3-gi, gir1.2-gst-plugins-base-1.0)",
            "gstreamer",
            "a pipeline",
        ) from error
    Gst.init(None)
    return Gst, GstVideo, GLib.Error
