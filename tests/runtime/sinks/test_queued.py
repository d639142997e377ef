"""A slow, stalled or broken sink: no mask waits for it, except for a file, and what is lost is counted."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from ocl_edge.errors import OutputError
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.sinks import queued
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.queued import QueuedSink
from tests.doubles.streams import result

MASK = np.zeros((4, 5), np.uint8)


def frame(index: int) -> Frame:
    return Frame(np.zeros((4, 5, 3), np.uint8), index, f"{index:06d}", float(index))


class Held(Sink):
    """Takes a mask only while the door is open."""

    def __init__(self) -> None:
        self.door = threading.Event()
        self.taken: list[int] = []
        self.closed = 0

    def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
        self.door.wait()
        if frame.index == 99:
            raise OutputError("the disk is full")
        self.taken.append(frame.index)

    def close(self) -> None:
        self.closed += 1


def emit_often(sink: Sink) -> None:
    for index in range(1000):
        sink.emit(frame(index), MASK)
        time.sleep(0.001)


def test_masks_pass_in_order_and_the_sink_is_closed_once() -> None:
    held = Held()
    held.door.set()
    with QueuedSink(held, waits=True, most=2) as sink:
        for index in range(50):
            sink.emit(frame(index), MASK)
    sink.close()
    assert held.taken == list(range(50))
    assert held.closed >= 1
    assert sink.left_out == 0


def test_a_stalled_sink_delays_nobody_and_what_it_misses_is_counted() -> None:
    held = Held()
    sink = QueuedSink(held, waits=False, most=3)
    started = time.monotonic()
    for index in range(20):
        sink.emit(frame(index), MASK)
    assert time.monotonic() - started < 1.0
    held.door.set()
    sink.close()
    assert sink.left_out == 20 - len(held.taken)
    assert 3 <= len(held.taken) <= 4  # one in its hands, three in the queue
    assert held.taken == sorted(held.taken)


def test_a_file_is_waited_for() -> None:
    held = Held()
    sink = QueuedSink(held, waits=True, most=1)
    threading.Timer(0.2, held.door.set).start()
    for index in range(5):
        sink.emit(frame(index), MASK)
    sink.close()
    assert held.taken == list(range(5))


def test_an_error_is_raised_and_nobody_hangs() -> None:
    held = Held()
    held.door.set()
    sink = QueuedSink(held, waits=True, most=1)
    sink.emit(frame(99), MASK)
    with pytest.raises(OutputError, match="disk is full"):
        emit_often(sink)
    with pytest.raises(OutputError, match="disk is full"):
        sink.close()
    assert held.closed == 1


def test_a_sink_that_hangs_does_not_keep_the_run_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "LONGEST_CLOSE_S", 0.1)
    held = Held()
    sink = QueuedSink(held, waits=False, most=2)
    for index in range(5):
        sink.emit(frame(index), MASK)
    sink.close()
    assert held.closed == 0
    assert sink.left_out == 5, "the one in its hands, two in the queue, two that found it full"
    held.door.set()


def test_results_follow_their_masks_and_are_not_counted() -> None:
    class Listening(Held):
        def told(self, frame: Frame, result: FrameResult) -> None:
            self.taken.append(1000 + frame.index)

    listening = Listening()
    listening.door.set()
    with QueuedSink(listening, waits=True, most=2) as sink:
        for index in range(10):
            sink.emit(frame(index), MASK)
            sink.told(frame(index), result())
    assert listening.taken == [number for index in range(10) for number in (index, 1000 + index)]
    stalled = QueuedSink(Listening(), waits=False, most=2)
    for index in range(10):
        stalled.emit(frame(index), MASK)
        stalled.told(frame(index), result())
    assert stalled.left_out <= 9
    stalled.sink.door.set()  # type: ignore[attr-defined]


def test_a_viewer_that_fails_ends_the_viewing_alone() -> None:
    told: list[str] = []
    held = Held()
    held.door.set()
    with QueuedSink(held, waits=False, on_failure=told.append) as sink:
        sink.emit(frame(99), MASK)
        while not told:
            time.sleep(0.001)
        for index in range(5):
            sink.emit(frame(index), MASK)
    assert told == ["the disk is full; the run goes on without"]
    assert sink.left_out == 5
