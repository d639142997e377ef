"""What goes into the loop and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ocl_edge.method.guard import Decision
from ocl_edge_runtime.session.updates import Outcome

IN_BACKGROUND = "started in the background"
"""The reason of a frame whose update is told later, by the frame that takes it in."""


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        index: position in the source, from 0; unreadable frames keep theirs.
        name: of the file, or the index in six digits; sinks name their files after it.
        captured_at: seconds, `time.monotonic` of the moment the frame was there.
        decode_ms: time it took to read and decode.
    """

    image: NDArray[np.uint8]
    index: int
    name: str
    captured_at: float
    decode_ms: float = 0.0


@dataclass(frozen=True)
class FrameSchedule:
    """What time decided about a frame, in realtime mode; all else follows from the frames.

    Attributes:
        arrived_at: seconds of the clock.
        measured: its own statistics were measured.
        granted: an update was let start, if nothing else spoke against it.
        taken_in: the result of a background update was taken in before it.
    """

    arrived_at: float
    measured: bool
    granted: bool
    taken_in: bool


@dataclass(frozen=True)
class FrameResult:
    """What one step gives.

    Attributes:
        mask: uint8 [H, W] class indices at the frame's own size.
        timings_ms: stage name -> milliseconds, in the order of execution.
        adapted: whether the head was updated after the mask was out.
        reason: why it was or was not.
        loss: the OCL before the update, None where none was computed.
        decision: of the guard, in realtime mode, on frames with an update.
        late: whether the mask missed the deadline.
        background: the update on an earlier frame that was taken in just before this one.
        schedule: what time decided, in realtime mode.
    """

    mask: NDArray[np.uint8]
    timings_ms: dict[str, float] = field(default_factory=dict)
    adapted: bool = False
    reason: str = ""
    loss: float | None = None
    decision: Decision | None = None
    late: bool = False
    background: Outcome | None = None
    schedule: FrameSchedule | None = None
