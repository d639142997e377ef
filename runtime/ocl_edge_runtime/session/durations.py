"""How long a kind of work takes, from how long it took."""

from __future__ import annotations

from collections import deque

import numpy as np

HISTORY = 32
CAUTION_PERCENTILE = 95


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
