"""Streams that do not wait: cameras, network streams, recordings played as if live."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from ocl_edge.errors import SourceError
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources.base import Arrival, Interruptible, OnSkip, Reader, Source, keep_quiet

POLL_S = 0.05
"""How long the frame loop sleeps at most before it looks for a signal."""

CLOSE_S = 1.0
"""How long closing waits for a stream that is silent; its thread ends with the program."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""Between two attempts to get a lost stream back; doubles each time."""


class LiveSource(Source):
    """Reads a stream in a thread of its own, into a slot of one: the newest frame wins.

    Frames that were passed over are counted in `dropped` and never turned into pixels.

    Args:
        name: of the stream, for messages.
        reader: the open stream.
        clock: of the reader's ``captured_at``, and of the timeout.
        limit: at most so many frames.
        timeout_s: a stream that is silent for longer has failed.
        reopen: opens the stream anew; None: its end is the end, and no failure.
        reconnect_s: for so long a lost stream is reopened; 0: not at all.
        on_skip: as in `Source`.
        on_loss: told, in the thread, that the stream was lost and is opened again.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        clock: Clock,
        *,
        limit: int | None = None,
        timeout_s: float = 5.0,
        reopen: Callable[[], Reader] | None = None,
        reconnect_s: float = 0.0,
        on_skip: OnSkip = keep_quiet,
        on_loss: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(on_skip)
        self.name = name
        self.total = limit
        self.rate = reader.rate
        self.timeout_s = timeout_s
        self.reconnect_s = reconnect_s
        self._reader = reader
        self._reopen = reopen
        self._on_loss = on_loss
        self._clock = clock
        self._changed = threading.Condition()
        self._newest: tuple[int, Arrival] | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._heard_at = clock.now()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read; iterating does it too. What comes before the first iteration is no drop."""
        if self._thread is None:
            # a thread that hangs in a driver must not keep the program from ending
            self._thread = threading.Thread(target=self._read, name=f"read {self.name}", daemon=True)
            self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        with self._changed:
            self._newest, self.dropped, self._heard_at = None, 0, self._clock.now()
        self.start()
        return self._frames()

    def close(self) -> None:
        """Stop, and wait a moment for the thread to let the stream go."""
        self.stop()
        if isinstance(self._reader, Interruptible):
            self._reader.interrupt()
        if self._thread is None:
            self._reader.close()
        else:
            self._thread.join(CLOSE_S)

    def _frames(self) -> Iterator[Frame]:
        taken = 0
        while not self.stopped and taken != self.total:
            newest = self._take()
            if newest is None:
                continue
            taken += 1
            frame = self.decoded(newest[1], newest[0], time.perf_counter())
            if frame is not None:
                yield frame

    def _take(self) -> tuple[int, Arrival] | None:
        """The newest frame; None after a moment without one, and at the end, which also stops the source."""
        with self._changed:
            if self._newest is None and not self._ended:
                self._changed.wait(POLL_S)
            newest, self._newest = self._newest, None
            silent_s = self._clock.now() - self._heard_at
        if newest is None and self._ended:
            self.stop()
            if self._failure is not None:
                raise self._failure
        elif newest is None and silent_s > self.timeout_s + self.reconnect_s:
            raise SourceError(
                f"{self.name} has given no frame for {silent_s:.1f} s: is it still connected? "
                "(--source-timeout sets the patience)"
            )
        return newest

    def _read(self) -> None:
        """The thread: fills the slot; whatever goes wrong is raised where the frames are taken."""
        try:
            for index, arrival in enumerate(self._arrivals()):
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest, self._heard_at = (index, arrival), self._clock.now()
                    self._changed.notify()
                if self.stopped:
                    return
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _arrivals(self) -> Iterator[Arrival]:
        reader: Reader | None = self._reader
        while reader is not None:
            try:
                with closing(reader):
                    yield from reader
                if self._reopen is None:
                    return
                loss = SourceError(f"{self.name} has stopped")
            except SourceError as error:
                loss = error
            reader = self._opened_again(loss)

    def _opened_again(self, loss: SourceError) -> Reader | None:
        """The lost stream, open; None where the source was stopped meanwhile.

        Raises:
            SourceError: the loss, if the stream does not come back in time.
        """
        give_up_at, pause_s = self._clock.now() + self.reconnect_s, FIRST_PAUSE_S
        while self._reopen is not None and self._clock.now() + pause_s <= give_up_at:
            self._on_loss(f"{loss}; trying again in {pause_s:.1f} s")
            self._clock.sleep_until(self._clock.now() + pause_s)
            if self.stopped:
                return None
            try:
                self._reader = self._reopen()
                return self._reader
            except SourceError as error:
                loss, pause_s = error, min(2 * pause_s, LONGEST_PAUSE_S)
        raise loss
