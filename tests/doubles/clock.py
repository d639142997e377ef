"""A clock that a test turns."""

from __future__ import annotations


class SimulatedClock:
    """Time passes when somebody works (`spend`) or waits."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, moment: float) -> None:
        self.time = max(self.time, moment)

    def spend(self, seconds: float) -> None:
        self.time += seconds
