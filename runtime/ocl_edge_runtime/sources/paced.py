"""A source whose frames arrive by the clock, whether somebody is ready or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from ocl_edge.errors import FrameError
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources.base import Source
from ocl_edge_runtime.sources.images import ImageSource


class PacedSource(Source):
    """Plays image files as a camera would: file k arrives at k / fps seconds.

    Never queues: asked for a frame, it gives the newest that has arrived, or waits for the
    next. Frames that were passed over are counted in `dropped` and never decoded.

    Args:
        images: the files.
        fps: arrivals a second.
        clock: of the arrivals.
    """

    def __init__(self, images: ImageSource, fps: float, clock: Clock) -> None:
        super().__init__(images.on_skip)
        self.images, self.files = images, images.files
        self.fps = fps
        self.total, self.rate = len(images), fps
        self._clock = clock
        self._next_at = math.inf

    @property
    def waiting(self) -> bool:
        return self._clock.now() >= self._next_at

    def __iter__(self) -> Iterator[Frame]:
        started = self._clock.now()
        index = 0
        while index < len(self.images) and not self.stopped:
            newest = int((self._clock.now() - started) * self.fps + 1e-9)
            if newest > index:
                passed_over = min(newest, len(self.images) - 1) - index
                self.dropped += passed_over
                index += passed_over
            arrival, self._next_at = started + index / self.fps, math.inf
            self._clock.sleep_until(arrival)
            if index + 1 < len(self.images):
                self._next_at = started + (index + 1) / self.fps
            try:
                yield replace(self.images.read(index), captured_at=arrival)
            except FrameError as error:
                self.skip(self.images.files[index].name, str(error))
            index += 1
