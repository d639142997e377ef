from __future__ import annotations

import pytest

from ocl_edge_runtime.session.stream_time import StreamTime
from tests.doubles.clock import SimulatedClock


def test_arrival_tells_where_frames_have_no_pace() -> None:
    clock = SimulatedClock()
    stream = StreamTime(None, clock)
    assert stream.of(7, 12.5, recorded_s=3.0) == 12.5
    clock.sleep_until(clock.now() + 2)
    assert stream.now(7) == clock.now()


def test_the_number_tells_where_frames_have_no_times() -> None:
    stream = StreamTime(0.25, SimulatedClock())
    assert [stream.of(i, 99.0, None) for i in range(3)] == [0.0, 0.25, 0.5]
    assert stream.now(2) == 0.5


def test_the_recording_tells_where_it_has_times() -> None:
    stream = StreamTime(0.25, SimulatedClock())
    assert [stream.of(i, 99.0, s) for i, s in enumerate((0.0, 0.1, 5.0))] == [0.0, 0.1, 5.0]
    assert stream.now(2) == 5.0


def test_a_resumed_run_goes_on_where_it_was() -> None:
    """Its 41st frame is the first of another recording."""
    stream = StreamTime(0.25, SimulatedClock())
    assert stream.now(39) == 9.75
    assert stream.of(40, 99.0, 0.0) == 10.0
    assert stream.of(41, 99.0, 0.7) == pytest.approx(10.7)
    assert stream.now(41) == pytest.approx(10.7)
