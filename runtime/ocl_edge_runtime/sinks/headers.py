"""The header of what is sent on for a frame: its own, or one made from its time."""

from __future__ import annotations

import time

from ocl_edge_runtime.session.frames import Frame, Header

NS = 1_000_000_000
FRAME_ID = "camera"


class Headers:
    """Headers for frames, in order.

    Args:
        frame_s: seconds from a frame to the next, for files; None: ``captured_at`` tells.
    """

    def __init__(self, frame_s: float | None) -> None:
        self._frame_s = frame_s
        self._began_ns = time.time_ns()

    def of(self, frame: Frame) -> Header:
        """Stamp and frame of reference as the frame's message had them, else the time of its capture."""
        if frame.header is not None:
            return frame.header
        if self._frame_s is not None:
            return Header(self._began_ns + round(NS * frame.index * self._frame_s), FRAME_ID)
        age_s = max(0.0, time.monotonic() - frame.captured_at)
        return Header(time.time_ns() - round(NS * age_s), FRAME_ID)


def recorded_ns(header: Header) -> int:
    """When the frame was recorded, or else captured; never before the epoch."""
    return max(0, header.stamp_ns if header.recorded_ns is None else header.recorded_ns)
