"""A sink on a thread of its own: however slow it is, it never delays a mask."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.sinks.base import Sink

MOST_WAITING = 8
LONGEST_CLOSE_S = 10.0
"""The end of a run waits so long for what is still in the queue."""

Waiting = Callable[[], None]


class QueuedSink(Sink):
    """Hands masks to another sink, in order, from a thread.

    Where ``waits`` is False, frames that find the queue full are left out and counted. Where it is True, as
    for files that come when they are asked for, a full queue is waited for and nothing is lost.

    An error of the sink is raised by the next `emit`, or by `close`.

    Args:
        sink: that takes them; closed with this one.
        waits: see above.
        most: frames that may wait.

    Attributes:
        left_out: frames that were, here or by the sink.
    """

    def __init__(self, sink: Sink, waits: bool, most: int = MOST_WAITING) -> None:
        self.sink = sink
        self._found_it_full = 0
        self._waits = waits
        self._hears = type(sink).told is not Sink.told
        self._waiting: queue.Queue[Waiting | None] = queue.Queue(2 * most if self._hears else most)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    @property
    def left_out(self) -> int:  # type: ignore[override]
        return self._found_it_full + self.sink.left_out

    def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
        """Queue the mask of a frame.

        Raises:
            Exception: what the sink has failed with, an `OutputError` for example.
        """
        self._raise_failure()
        try:
            self._waiting.put(partial(self.sink.emit, frame, mask), block=self._waits)
        except queue.Full:
            self._found_it_full += 1

    def told(self, frame: Frame, result: FrameResult) -> None:
        """Queue the result of a frame, for a sink that listens; where the queue is full it is left out."""
        if self._hears:
            with suppress(queue.Full):
                self._waiting.put(partial(self.sink.told, frame, result), block=self._waits)

    def close(self) -> None:
        """Wait for the queue, at most `LONGEST_CLOSE_S`, and close the sink. Calling it twice is fine.

        Raises:
            Exception: what the sink has failed with.
        """
        if self._thread.is_alive():
            with suppress(queue.Full):  # it hangs; the thread is a daemon
                self._waiting.put(None, timeout=LONGEST_CLOSE_S)
            self._thread.join(LONGEST_CLOSE_S)
        if self._thread.is_alive():
            self._found_it_full += self._waiting.qsize()
            return
        self.sink.close()
        self._raise_failure()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failure is None:  # after one, the queue is emptied, so that nobody waits for it
                try:
                    item()
                except Exception as error:
                    self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
