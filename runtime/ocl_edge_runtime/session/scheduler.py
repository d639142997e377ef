"""When there is time for more than the mask."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

HISTORY = 32
CAUTION_PERCENTILE = 95


class Clock(Protocol):
    """Seconds that only grow; tests replace it."""

    def now(self) -> float: ...

    def sleep_until(self, moment: float) -> None: ...


class RealClock:
    """`time.monotonic`."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        time.sleep(max(0.0, moment - self.now()))


class Durations:
    """Recent durations of one kind of work; the prediction is their 95th percentile."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=HISTORY)
        self._refusals = 0
        self._patience = HISTORY

    def add(self, seconds: float) -> None:
        if self._seconds:  # granted by a prediction, not on trial
            self._patience = HISTORY
        self._seconds.append(seconds)
        self._refusals = 0

    def refuse(self) -> None:
        """The work was not started, because it would have taken too long.

        After `HISTORY` of these in a row the slowest duration is forgotten: slow moments must not stop
        the work for ever, and what is not done is not measured again. With the last one forgotten the
        work is done once on trial; after each trial that was too slow, too, it takes twice as many
        refusals to the next.
        """
        self._refusals += 1
        if self._refusals == self._patience:
            self._refusals = 0
            self._seconds.remove(max(self._seconds))
            if not self._seconds:
                self._patience *= 2

    def predicted(self) -> float | None:
        """Seconds, None before the first and for a trial."""
        return float(np.percentile(self._seconds, CAUTION_PERCENTILE)) if self._seconds else None


@dataclass(frozen=True)
class Slot:
    """Whether an update may start now, and why not."""

    granted: bool
    reason: str


class UpdateScheduler:
    """Grants an update if it is due and its predicted time fits before the next frame.

    Args:
        every: an update is due every n-th frame; None: as often as there is time.
        period_s: time between frames; None: nobody waits, everything fits.
        clock: of the frames' arrival.
    """

    def __init__(self, every: int | None, period_s: float | None, clock: Clock) -> None:
        self.every = every
        self.period_s = period_s
        self.clock = clock
        self.durations = Durations()
        self.skipped = 0

    def ask(self, frame_index: int, arrived_at: float) -> Slot:
        """May the update on this frame start now?"""
        if self.every is not None and frame_index % self.every:
            return Slot(False, "not due")
        predicted = self.durations.predicted()
        if self.period_s is None or predicted is None:
            return Slot(True, "due")
        left = arrived_at + self.period_s - self.clock.now()
        if predicted <= left:
            return Slot(True, "due")
        self.skipped += 1
        self.durations.refuse()
        return Slot(
            False, f"no time: needs {1000 * predicted:.0f} ms, {max(0.0, 1000 * left):.0f} ms are left"
        )

    def ask_worker(self, frame_index: int, busy: bool) -> Slot:
        """May the update on this frame start now, on a worker beside the frames?"""
        if self.every is not None and frame_index % self.every:
            return Slot(False, "not due")
        if busy:
            self.skipped += 1
            return Slot(False, "the worker is busy")
        return Slot(True, "due")
