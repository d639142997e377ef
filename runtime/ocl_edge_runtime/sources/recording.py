"""Recordings: videos and bags, whose frames wait until they are asked for, or come by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from ocl_edge.errors import SourceError
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources.base import (
    UNTIMED_FRAME_S,
    Arrival,
    OnSkip,
    RecordedReader,
    Source,
    keep_quiet,
)

LONGEST_WAIT_S = 10.0
"""A longer pause in a recording that is played at its own times is cut to this."""


class RecordingSource(Source):
    """The frames of a recording, decoded when they are asked for. Every iteration starts anew.

    Args:
        open_reader: opens the recording.
        clock: of ``captured_at``.
        limit: at most so many frames.
        on_skip: as in `Source`.

    Raises:
        SourceError: it cannot be opened.
    """

    def __init__(
        self,
        open_reader: Callable[[], RecordedReader],
        clock: Clock,
        limit: int | None = None,
        on_skip: OnSkip = keep_quiet,
    ) -> None:
        super().__init__(on_skip)
        self._open_reader = open_reader
        self._clock = clock
        self._limit = limit
        reader = open_reader()
        reader.close()
        counts = [count for count in (reader.total, limit) if count is not None]
        self.total = min(counts, default=None)
        self.frame_s = 1 / reader.rate if reader.rate else UNTIMED_FRAME_S

    def __iter__(self) -> Iterator[Frame]:
        reader = self._open_reader()
        arrivals = iter(reader)
        index = 0
        try:
            while not self.stopped and index != self._limit:
                started = time.perf_counter()
                arrival = next(arrivals, None)
                if arrival is None:
                    if reader.total is not None and index < reader.total:
                        self.skip("the rest", f"the file ends after {index} of {reader.total} frames")
                    return
                frame = self.decoded(arrival, index, started)
                index += 1
                if frame is not None:
                    recorded_s = arrival.shown_at if reader.tells_times else None
                    yield replace(frame, captured_at=self._clock.now(), stream_s=recorded_s)
        except SourceError as error:
            self.skip("the rest", str(error))
        finally:
            reader.close()


class PacedReader:
    """Lets the frames of a recording arrive when they would have come from a camera.

    Args:
        recording: read no faster than it was recorded.
        clock: of the arrivals.
        fps: frames a second; ``own``: at the recording's own times.
        own_rate: frames a second of these times (`rate_of_times`); None: as the recording says.

    Raises:
        SourceError: ``own``, and the recording has no times.
    """

    def __init__(
        self,
        recording: RecordedReader,
        clock: Clock,
        fps: float | Literal["own"],
        own_rate: float | None = None,
    ) -> None:
        rate = (own_rate or recording.rate) if fps == "own" else fps
        if rate is None:
            raise SourceError("the recording does not say how fast it is: --fps FPS instead of --fps own")
        self.rate: float | None = rate
        self._period_s = 1 / rate
        self._at_its_own_times = fps == "own"
        self._recording = recording
        self._clock = clock

    def __iter__(self) -> Iterator[Arrival]:
        started = arrived_at = self._clock.now()
        for index, arrival in enumerate(self._recording):
            shown_at = arrival.shown_at if self._at_its_own_times else None
            arrives_at = started + (index * self._period_s if shown_at is None else shown_at)
            too_long_s = arrives_at - arrived_at - LONGEST_WAIT_S
            if too_long_s > 0:
                started, arrives_at = started - too_long_s, arrives_at - too_long_s
            arrived_at = arrives_at
            self._clock.sleep_until(arrives_at)
            yield replace(arrival, captured_at=arrives_at)

    def close(self) -> None:
        self._recording.close()
