"""What every source has in common."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError
from ocl_edge_runtime.lifetime import ClosedAtExit
from ocl_edge_runtime.session.frames import Frame, Header

OnSkip = Callable[[str, str], None]
"""Told the name of a frame that is left out, and why."""


def keep_quiet(_name: str, _reason: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Arrival:
    """A frame of a stream, not yet turned into pixels: only frames that are used need that.

    Attributes:
        captured_at: when it was there, in seconds of the source's clock.
        pixels: gives uint8 [H, W, 3] RGB; raises `FrameError` where the frame is corrupt.
        shown_at: its place in the stream, in seconds from the start; None where it has none.
        header: of the message that it is; None: of none.
    """

    captured_at: float
    pixels: Callable[[], NDArray[np.uint8]]
    shown_at: float | None = None
    header: Header | None = None


class Reader(Protocol):
    """An open stream: what `LiveSource` reads in its thread."""

    rate: float | None
    """Frames a second, None where the stream does not say."""

    def __iter__(self) -> Iterator[Arrival]:
        """Blocks until the next frame is there.

        Raises:
            SourceError: the stream broke.
        """

    def close(self) -> None: ...


@runtime_checkable
class Interruptible(Protocol):
    """A reader whose iteration can be ended while it waits for a frame."""

    def interrupt(self) -> None:
        """End it soon; from any thread."""


class LiveReader(Reader, Protocol):
    """An open camera or stream.

    Attributes:
        name: for messages.
        ends: whether its end is an end, and no loss.
    """

    name: str
    ends: bool


class RecordedReader(Reader, Protocol):
    """An open recording.

    Attributes:
        name: for messages.
        total: frames in it, None where it does not say.
        tells_times: whether ``shown_at`` is when a frame was recorded, so that stream time goes by it.
    """

    name: str
    total: int | None
    tells_times: bool


UNTIMED_FRAME_S = 1.0
"""Stream time from a frame to the next where nothing tells it, as in the tables of the documentation."""


class Source(ClosedAtExit):
    """A stream of frames.

    Iterating never fails on a single frame: one that cannot be read is reported to
    ``on_skip(name, reason)``, counted in `skipped`, and left out.

    Attributes:
        skipped: frames that were left out.
        dropped: frames that were passed over because a newer one was there.
        total: how many frames there are, None where that is not known.
        rate: frames a second at which they arrive, None where they come when asked for.
        frame_s: seconds of stream time from a frame to the next, for frames that come when asked for; None
            where ``captured_at`` tells.
        stopped: see `stop`.
        files: a frame each, for sources of image files; else empty.
    """

    def __init__(self, on_skip: OnSkip = keep_quiet) -> None:
        self.on_skip = on_skip
        self.skipped = 0
        self.dropped = 0
        self.total: int | None = None
        self.rate: float | None = None
        self.frame_s: float | None = None
        self.stopped = False
        self.files: list[Path] = []

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Frames in order.

        Raises:
            SourceError: a live stream cannot be opened, broke, or fell silent.
        """

    def skip(self, name: str, reason: str) -> None:
        """Count a frame as left out."""
        self.skipped += 1
        self.on_skip(name, reason)

    def stop(self) -> None:
        """Give no more frames, in this or any later iteration. Safe inside a signal handler."""
        self.stopped = True

    def close(self) -> None:
        """Free what the source holds."""
        self.stop()

    def decoded(self, arrival: Arrival, index: int, started: float) -> Frame | None:
        """The frame of an arrival; None, reported and counted, if it is corrupt.

        Args:
            arrival: to turn into pixels.
            index: of the frame, which also names it.
            started: when decoding began, `time.perf_counter`.
        """
        name = f"{index:06d}"
        try:
            pixels = arrival.pixels()
        except FrameError as error:
            self.skip(f"frame {name}", str(error))
            return None
        decode_ms = 1000 * (time.perf_counter() - started)
        return Frame(pixels, index, name, arrival.captured_at, decode_ms, header=arrival.header)


def refuse(reason: str) -> NDArray[np.uint8]:
    """The pixels of an arrival that has none: raises `FrameError`."""
    raise FrameError(reason)
