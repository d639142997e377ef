"""From the text of ``--source`` to a source."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from ocl_edge.errors import UsageError
from ocl_edge.images import SUFFIXES
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.ros.topics import topic_of
from ocl_edge_runtime.sources.bag import BagReader, bag_of
from ocl_edge_runtime.sources.base import LiveReader, OnSkip, RecordedReader, Source, keep_quiet
from ocl_edge_runtime.sources.ffmpeg_limits import stream_options
from ocl_edge_runtime.sources.gstreamer import GstReader, csi_pipeline
from ocl_edge_runtime.sources.images import ImageSource
from ocl_edge_runtime.sources.live import LiveSource
from ocl_edge_runtime.sources.paced import PacedSource
from ocl_edge_runtime.sources.recording import PacedReader, RecordingSource
from ocl_edge_runtime.sources.ros2 import TopicReader
from ocl_edge_runtime.sources.video import VideoReader, rate_of_times

ROS_TOPIC, PIPELINE, CSI = "ros2:", "gst:", "csi://"
STREAM_DEFAULTS = {"fflags": "nobuffer", "flags": "low_delay", "rtsp_transport": "tcp"}
"""FFmpeg's options of a network stream: no frames held back, none lost to UDP."""


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read.

    Attributes:
        limit: at most so many frames.
        fps: image files and videos arrive at this rate, as from a camera; ``own``: a video at
            its own. A camera is asked for it. None: files wait for the engine.
        timeout_s: a live stream that is silent for longer has failed.
        reconnect_s: for so long a lost stream is opened again.
        input_options: of FFmpeg's input, for cameras and streams.
        channels: of the frames; what is no image file gives 3.
    """

    limit: int | None = None
    fps: float | Literal["own"] | None = None
    timeout_s: float = 5.0
    reconnect_s: float = 0.0
    input_options: Mapping[str, str] = field(default_factory=dict)
    channels: int = 3


def open_source(
    text: str,
    options: SourceOptions,
    clock: Clock,
    on_skip: OnSkip = keep_quiet,
    on_loss: Callable[[str], None] = lambda _: None,
) -> Source:
    """Image files, a video, a recording of ROS 2, one of its topics, a camera, a pipeline, or a stream's URL.

    A camera or stream is read from now on, so that its first frame is a fresh one.

    Args:
        text: what to open.
        options: see `SourceOptions`.
        clock: of the frames' ``captured_at``.
        on_skip: told of every frame that is left out.
        on_loss: told that a live stream was lost and is opened again.

    Raises:
        UsageError: nothing of that name, or options that do not go with it.
        MissingExtraError: PyAV is needed and not installed.
        SourceError: a video, camera or stream cannot be opened.
    """
    if text.isdecimal() and not Path(text).exists():
        text = f"/dev/video{int(text)}"
    if text.startswith(ROS_TOPIC):
        return _live(partial(_topic, text, options, clock), options, clock, on_skip, on_loss)
    if text.startswith((PIPELINE, CSI)):
        return _live(partial(_pipeline, text, options, clock), options, clock, on_skip, on_loss)
    bag = bag_of(text)
    if bag is not None:
        _refuse_input_options(text, options)
        return _recording(partial(BagReader, *bag, clock), options, clock, on_skip)
    path = Path(text)
    if "://" in text:
        given = {**STREAM_DEFAULTS, **stream_options(text), **options.input_options}
        return _live(
            partial(VideoReader, text, clock, None, given, options.timeout_s),
            options,
            clock,
            on_skip,
            on_loss,
        )
    if _is_camera(path):
        given = {**_rate_to_ask_for(options), **options.input_options}
        return _live(partial(VideoReader, text, clock, "v4l2", given), options, clock, on_skip, on_loss)
    _refuse_input_options(text, options)
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        return _video(path, options, clock, on_skip)
    return _images(text, options, clock, on_skip)


def _live(
    open_reader: Callable[[], LiveReader],
    options: SourceOptions,
    clock: Clock,
    on_skip: OnSkip,
    on_loss: Callable[[str], None],
) -> Source:
    if options.fps == "own":
        raise UsageError("--fps own is for video files: a camera or stream comes at its own rate anyway")
    reader = open_reader()
    source = LiveSource(
        reader.name,
        reader,
        clock,
        limit=options.limit,
        timeout_s=options.timeout_s,
        reopen=None if reader.ends else open_reader,
        reconnect_s=options.reconnect_s,
        on_skip=on_skip,
        on_loss=on_loss,
    )
    source.start()
    return source


def _topic(text: str, options: SourceOptions, clock: Clock) -> TopicReader:
    if options.input_options:
        raise UsageError(f"--source-option is for cameras and streams, {text} is a topic")
    topic = topic_of(text.removeprefix(ROS_TOPIC), "--source ros2")
    rate = options.fps if options.fps != "own" else None
    return TopicReader(topic, clock, options.timeout_s, rate)


def _pipeline(text: str, options: SourceOptions, clock: Clock) -> GstReader:
    if text.startswith(CSI):
        rate = options.fps if options.fps != "own" else None
        pipeline = csi_pipeline(text.removeprefix(CSI), rate, options.input_options)
        return GstReader(pipeline, text, clock, options.timeout_s)
    if options.fps is not None or options.input_options:
        raise UsageError("--fps and --source-option are not for gst:, whose pipeline says all that itself")
    return GstReader(text.removeprefix(PIPELINE), "the GStreamer pipeline", clock, options.timeout_s)


def _video(path: Path, options: SourceOptions, clock: Clock, on_skip: OnSkip) -> Source:
    own_rate = rate_of_times(path) if options.fps == "own" else None
    return _recording(partial(VideoReader, str(path), clock), options, clock, on_skip, own_rate)


def _recording(
    open_reader: Callable[[], RecordedReader],
    options: SourceOptions,
    clock: Clock,
    on_skip: OnSkip,
    own_rate: float | None = None,
) -> Source:
    if options.fps is None:
        return RecordingSource(open_reader, clock, options.limit, on_skip)
    reader = open_reader()
    paced = PacedReader(reader, clock, options.fps, own_rate)
    return LiveSource(reader.name, paced, clock, limit=options.limit, timeout_s=math.inf, on_skip=on_skip)


def _refuse_input_options(text: str, options: SourceOptions) -> None:
    if options.reconnect_s or options.input_options:
        raise UsageError(f"--reconnect and --source-option are for cameras and streams, {text} is neither")


def _images(text: str, options: SourceOptions, clock: Clock, on_skip: OnSkip) -> Source:
    if options.fps == "own":
        raise UsageError(f"--fps own plays a video file at its own rate; {text} is none: --fps FPS")
    images = ImageSource(text, options.limit, on_skip, options.channels)
    return images if options.fps is None else PacedSource(images, options.fps, clock)


def _rate_to_ask_for(options: SourceOptions) -> dict[str, str]:
    return {} if options.fps is None else {"framerate": str(options.fps)}


def _is_camera(path: Path) -> bool:
    """Whether a path is a device, or would be one if it were plugged in."""
    return path.is_char_device() or path.parent == Path("/dev")
