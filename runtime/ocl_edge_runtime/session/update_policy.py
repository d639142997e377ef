"""When the head is updated: on every frame, when there is time, or when the worker is free.

Never is no policy: a method without a loss has nothing to update.
"""

from __future__ import annotations

from typing import Protocol

from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.durations import Durations


class UpdatePolicy(Protocol):
    skipped: int
    """Updates that were due and could not start."""

    def refusal(self, index: int, arrived_at: float, busy: bool) -> Verdict | None:
        """Why the update on a frame may not start now; None: it may.

        Args:
            index: of the frame.
            arrived_at: when it was there, seconds of the clock.
            busy: an earlier update is still going on.
        """

    def took(self, seconds: float) -> None:
        """An update was made on the frame loop's thread."""


class EveryFrame:
    """As published: an update on every frame, however long it takes."""

    skipped = 0

    def refusal(self, index: int, arrived_at: float, busy: bool) -> Verdict | None:  # noqa: ARG002
        return None

    def took(self, seconds: float) -> None:
        """Nobody asks."""


class WhenThereIsTime:
    """An update starts if it is due and its predicted time fits before the next frame.

    Args:
        every: an update is due every n-th frame; None: as often as there is time.
        period_s: time between frames; None: nobody waits, everything fits.
        clock: of the frames' arrival.
    """

    def __init__(self, every: int | None, period_s: float | None, clock: Clock) -> None:
        self.skipped = 0
        self._every = every
        self._period_s = period_s
        self._clock = clock
        self._durations = Durations()

    def refusal(self, index: int, arrived_at: float, busy: bool = False) -> Verdict | None:  # noqa: ARG002
        if self._every is not None and index % self._every:
            return Verdict(Reason.NOT_DUE)
        predicted = self._durations.predicted()
        if self._period_s is None or predicted is None:
            return None
        left = arrived_at + self._period_s - self._clock.now()
        if predicted <= left:
            return None
        self.skipped += 1
        self._durations.refuse()
        return Verdict(Reason.NO_TIME, needed_ms=1000 * predicted, left_ms=max(0.0, 1000 * left))

    def took(self, seconds: float) -> None:
        self._durations.add(seconds)


class WhenTheWorkerIsFree:
    """An update starts if it is due and the worker has nothing to do; the frames do not wait for it.

    Args:
        every: an update is due every n-th frame; None: as often as the worker is free.
    """

    def __init__(self, every: int | None) -> None:
        self.skipped = 0
        self._every = every

    def refusal(self, index: int, arrived_at: float, busy: bool) -> Verdict | None:  # noqa: ARG002
        if self._every is not None and index % self._every:
            return Verdict(Reason.NOT_DUE)
        if busy:
            self.skipped += 1
            return Verdict(Reason.WORKER_BUSY)
        return None

    def took(self, seconds: float) -> None:
        """The worker's time costs no frame."""
