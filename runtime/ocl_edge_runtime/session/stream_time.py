"""Stream time: when a frame was there, in seconds that only the stream counts."""

from __future__ import annotations

from ocl_edge_runtime.clock import Clock


class StreamTime:
    """By the frames' arrival, by their number, or by the times of the recording that they come from.

    Args:
        frame_s: from a frame to the next, of frames that come when they are asked for; None: arrival tells.
        clock: of the arrivals.
    """

    def __init__(self, frame_s: float | None, clock: Clock) -> None:
        self.frame_s = frame_s
        self._clock = clock
        self._ahead_s: float | None = None
        self._recorded_s: float | None = None

    def of(self, index: int, arrived_at: float, recorded_s: float | None) -> float:
        """Of a frame.

        Args:
            index: of the frame, counted on when a run is resumed.
            arrived_at: seconds of the clock.
            recorded_s: its place in a recording with times of its own, seconds; None where it has none.
        """
        if self.frame_s is None:
            return arrived_at
        if recorded_s is None:
            return index * self.frame_s
        if self._ahead_s is None:  # a resumed run goes on where it was, whatever the recording begins with
            self._ahead_s = index * self.frame_s - recorded_s
        self._recorded_s = recorded_s
        return recorded_s + self._ahead_s

    def now(self, index: int) -> float:
        """After the frame of this index."""
        if self._recorded_s is None or self._ahead_s is None:
            return self.of(index, self._clock.now(), None)
        return self._recorded_s + self._ahead_s
