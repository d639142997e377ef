"""A sink on a thread of its own: however slow it is, it never delays a mask."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from ocl_edge.masks import Mask
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.sinks.base import Sink

MOST_WAITING = 8
LONGEST_CLOSE_S = 10.0
"""The end of a run waits so long for what is still in the queue."""

VIEWER_CLOSE_S = 2.0
"""And so long for a viewer, whose pictures nobody keeps."""

Waiting = tuple[Frame, "Mask | FrameResult"]


class QueuedSink(Sink):
    """Hands masks to another sink, in order, from a thread.

    Where ``waits`` is False, frames that find the queue full are left out and counted. Where it is True, as
    for files that come when they are asked for, a full queue is waited for and nothing is lost.

    An error of the sink is raised by the next `emit`, or by `close`; one of a viewer ends the viewing alone.

    Args:
        sink: that takes them; closed with this one.
        waits: see above.
        most: frames that may wait.
        on_failure: of a viewer: told once, on its thread, what it failed with; None: it is raised.

    Attributes:
        left_out: frames that were, here or by the sink.
    """

    def __init__(
        self,
        sink: Sink,
        waits: bool,
        most: int = MOST_WAITING,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self.sink = sink
        self._missed = 0
        self._waits = waits
        self._on_failure = on_failure
        self._waiting: queue.Queue[Waiting | None] = queue.Queue(most)
        self._failure: Exception | None = None
        self._in_hand = 0
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    @property
    def left_out(self) -> int:  # type: ignore[override]
        return self._missed + self.sink.left_out

    @property
    def trouble(self) -> str | None:  # type: ignore[override]
        return self.sink.trouble

    def emit(self, frame: Frame, mask: Mask) -> None:
        """Queue the mask of a frame.

        Raises:
            Exception: what the sink has failed with, an `OutputError` for example.
        """
        if self._failure is not None:
            self._missed += 1
            self._raise_failure()
            return
        try:
            self._waiting.put((frame, mask), block=self._waits)
        except queue.Full:
            self._missed += 1

    def told(self, frame: Frame, result: FrameResult) -> None:
        """Queue what became of a frame; where the queue is full, it is lost without being counted."""
        if type(self.sink).told is not Sink.told:
            with suppress(queue.Full):
                self._waiting.put((frame, result), block=self._waits)

    def close(self) -> None:
        """Wait for the queue, at most twice `LONGEST_CLOSE_S`, and close the sink. Calling it twice is fine.

        Raises:
            Exception: what the sink has failed with.
        """
        patience_s = LONGEST_CLOSE_S if self._on_failure is None else VIEWER_CLOSE_S
        if self._thread.is_alive():
            with suppress(queue.Full):  # it hangs; the thread is a daemon
                self._waiting.put(None, timeout=patience_s)
            self._thread.join(patience_s)
        if self._thread.is_alive():
            self._missed += self._masks_left()
            return
        if self._on_failure is None:
            self.sink.close()
            self._raise_failure()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failure is None:  # after one, the queue is emptied, so that nobody waits for it
                frame, given = item
                try:
                    if isinstance(given, FrameResult):
                        self.sink.told(frame, given)
                    else:
                        self._in_hand = 1
                        self.sink.emit(frame, given)
                        self._in_hand = 0
                except Exception as error:
                    self._failure = error
                    if self._on_failure is not None:
                        self._on_failure(f"{error}; the run goes on without")

        if self._on_failure is not None:  # here, since a viewer that stalls may keep its closing waiting, too
            with suppress(Exception):  # it was told of, or is no loss
                self.sink.close()

    def _masks_left(self) -> int:
        """Masks that it will not get: those in the queue, and the one that it hangs on."""
        left = 0
        with suppress(queue.Empty):
            while True:
                item = self._waiting.get_nowait()
                left += item is not None and not isinstance(item[1], FrameResult)
        return left + self._in_hand

    def _raise_failure(self) -> None:
        if self._failure is not None and self._on_failure is None:
            raise self._failure
