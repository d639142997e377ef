"""What goes into the loop and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ocl_edge.masks import Mask
from ocl_edge.method.verdict import Verdict


@dataclass(frozen=True)
class Header:
    """What a message of ROS says of its image.

    Attributes:
        stamp_ns: when it was captured, nanoseconds of the sender's clock.
        frame_id: the camera's frame of reference, by name.
        recorded_ns: when it was recorded, nanoseconds of the recorder's clock; None: it comes from none.
    """

    stamp_ns: int
    frame_id: str
    recorded_ns: int | None = None


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        index: position in the source, from 0; unreadable frames keep theirs.
        name: of the file, or the index in six digits; sinks name their files after it.
        captured_at: seconds, `time.monotonic` of the moment the frame was there.
        decode_ms: time it took to read and decode.
        stream_s: its place in a recording that has times of its own, seconds from the start; None:
            ``captured_at`` or the source's pace tell.
        header: of the message that it came in; None: in none.
    """

    image: NDArray[np.uint8]
    index: int
    name: str
    captured_at: float
    decode_ms: float = 0.0
    stream_s: float | None = None
    header: Header | None = None


@dataclass(frozen=True)
class Decided:
    """What time decided about a frame; all else follows from the frames.

    Attributes:
        arrived_at: seconds of the clock.
        measured: its own statistics were measured.
        granted: an update was let start, if nothing else spoke against it.
        taken_in: the result of a background update was taken in before it.
        twice: there was time to look at it again, if it was somewhere else than the stream before.
    """

    arrived_at: float
    measured: bool
    granted: bool
    taken_in: bool
    twice: bool = False


@dataclass(frozen=True)
class Landed:
    """An update that a worker made.

    Attributes:
        verdict: what became of it.
        timings_ms: stage -> milliseconds.
        behind: frames between the one that it learned from and the one before which it was taken in.
    """

    verdict: Verdict
    timings_ms: dict[str, float]
    behind: int = 0


@dataclass(frozen=True)
class FrameResult:
    """What one step gives.

    Attributes:
        mask: [H, W] class indices, uint8 up to 255 classes and else uint16, at the frame's own size, or as
            `SessionOptions.mask_size` says.
        verdict: what became of the update on this frame.
        timings_ms: stage name -> milliseconds, in the order of execution.
        late: whether the mask missed the deadline.
        background: the update on an earlier frame that was taken in just before this one.
        decided: what time decided.
        opening: that the frame was seen at, 0 to 1: 0 is the frozen network (`ocl_edge.method.opening`).
        distance: from home, of the last frame that was measured; None where none was.
        again: it was looked at twice, the second time at ``opening``.
    """

    mask: Mask
    verdict: Verdict
    timings_ms: dict[str, float] = field(default_factory=dict)
    late: bool = False
    background: Landed | None = None
    decided: Decided | None = None
    opening: float = 0.0
    distance: float | None = None
    again: bool = False
