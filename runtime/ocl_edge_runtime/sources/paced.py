"""A source whose frames arrive by the clock, whether somebody is ready or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ocl_edge_runtime.frames import Frame
from ocl_edge_runtime.scheduler import Clock
from ocl_edge_runtime.sources.images import ImageSource


class PacedSource:
    """Plays image files as a camera would: file k arrives at k / fps seconds.

    Never queues: asked for a frame, it gives the newest that has arrived, or waits for the
    next. Frames that were passed over are counted in `dropped` and never decoded.

    Args:
        images: the files.
        fps: arrivals a second.
        clock: of the arrivals.
    """

    def __init__(self, images: ImageSource, fps: float, clock: Clock) -> None:
        self.images = images
        self.fps = fps
        self.dropped = 0
        self._clock = clock

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Frame]:
        started = self._clock.now()
        index = 0
        while index < len(self.images):
            newest = int((self._clock.now() - started) * self.fps + 1e-9)
            if newest > index:
                passed_over = min(newest, len(self.images) - 1) - index
                self.dropped += passed_over
                index += passed_over
            arrival = started + index / self.fps
            self._clock.sleep_until(arrival)
            frame = self.images.read(index)
            index += 1
            if frame is not None:
                yield replace(frame, captured_at=arrival)

    @property
    def skipped(self) -> int:
        return self.images.skipped

    def skip(self, name: str, reason: str) -> None:
        """Count a frame as left out."""
        self.images.skip(name, reason)
