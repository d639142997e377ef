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
from ocl_edge_runtime.sources.base import OnSkip, Source, keep_quiet
from ocl_edge_runtime.sources.ffmpeg_limits import stream_options
from ocl_edge_runtime.sources.images import ImageSource
from ocl_edge_runtime.sources.live import LiveSource
from ocl_edge_runtime.sources.paced import PacedSource
from ocl_edge_runtime.sources.video import PacedReader, VideoReader, VideoSource, rate_of_times

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
    """A directory, image or glob; a video file; a camera (``/dev/video0``, or ``0``); or the URL of a stream.

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
    if options.reconnect_s or options.input_options:
        raise UsageError(f"--reconnect and --source-option are for cameras and streams, {text} is neither")
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        return _recording(path, options, clock, on_skip)
    return _images(text, options, clock, on_skip)


def _live(
    open_reader: Callable[[], VideoReader],
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
        reopen=open_reader,
        reconnect_s=options.reconnect_s,
        on_skip=on_skip,
        on_loss=on_loss,
    )
    source.start()
    return source


def _recording(path: Path, options: SourceOptions, clock: Clock, on_skip: OnSkip) -> Source:
    if options.fps is None:
        return VideoSource(path, clock, options.limit, on_skip)
    own_rate = rate_of_times(path) if options.fps == "own" else None
    paced = PacedReader(VideoReader(str(path), clock), clock, options.fps, own_rate)
    return LiveSource(str(path), paced, clock, limit=options.limit, timeout_s=math.inf, on_skip=on_skip)


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
