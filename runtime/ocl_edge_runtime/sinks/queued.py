"""A sink on a thread of its own: however slow it is, it never delays a mask."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

from ocl_edge.masks import Mask
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks.base import Sink

MOST_WAITING = 8
LONGEST_CLOSE_S = 10.0
"""The end of a run waits so long for what is still in the queue."""

Waiting = tuple[Frame, Mask]


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
        left_out: frames that were.
    """

    def __init__(self, sink: Sink, waits: bool, most: int = MOST_WAITING) -> None:
        self.sink = sink
        self.left_out = 0
        self._waits = waits
        self._waiting: queue.Queue[Waiting | None] = queue.Queue(most)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    def emit(self, frame: Frame, mask: Mask) -> None:
        """Queue the mask of a frame.

        Raises:
            Exception: what the sink has failed with, an `OutputError` for example.
        """
        self._raise_failure()
        try:
            self._waiting.put((frame, mask), block=self._waits)
        except queue.Full:
            self.left_out += 1

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
            self.left_out += self._waiting.qsize()
            return
        self.sink.close()
        self._raise_failure()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failure is None:  # after one, the queue is emptied, so that nobody waits for it
                try:
                    self.sink.emit(*item)
                except Exception as error:
                    self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
