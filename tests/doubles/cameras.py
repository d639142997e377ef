"""Cameras whose frames are there when a test shoots them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from functools import partial

from ocl_edge_runtime.sources.base import Arrival
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image


class SimulatedCamera:
    """Its frames are there when the test shoots them."""

    rate = 10.0

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._shot = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._index = -1

    def shoot(self, index: int) -> None:
        self._index = index
        self._shot.release()
        self._done.acquire()

    def __iter__(self) -> Iterator[Arrival]:
        while True:
            self._shot.acquire()
            yield Arrival(self._clock.now(), partial(random_image, self._index))
            self._done.release()

    def close(self) -> None:
        pass


class EndlessCamera:
    """A frame every few milliseconds, until it is closed."""

    rate = 100.0

    def __init__(self) -> None:
        self.opened = True

    def __iter__(self) -> Iterator[Arrival]:
        for index in itertools.count():
            time.sleep(0.005)
            yield Arrival(time.monotonic(), partial(random_image, index % 50))

    def close(self) -> None:
        self.opened = False
