"""What a report keeps of a run is bounded and says the truth about all of it."""

from __future__ import annotations

import numpy as np
import pytest

from ocl_edge.method.verdict import Reason, Signals, Verdict, Violation
from ocl_edge.timings import mask_latency_ms, update_ms
from ocl_edge_app.report.plots import Moment
from ocl_edge_app.report.recorder import (
    FIRST_EVENTS,
    LAST_EVENTS,
    MOST_MOMENTS,
    SAMPLE,
    Moments,
    Reservoir,
    RunRecorder,
    Shots,
)
from ocl_edge_runtime.session.frames import Frame, FrameResult

MANY = 30_000


def test_a_reservoir_is_a_uniform_sample() -> None:
    reservoir = Reservoir(2000)
    for value in range(MANY):
        reservoir.add(float(value))
    assert (len(reservoir.values), reservoir.seen) == (2000, MANY)
    assert len(set(reservoir.values)) == 2000
    tenths, _ = np.histogram(reservoir.values, 10, (0, MANY))
    # each count is binomial(2000, 0.1): mean 200, standard deviation 13.4
    assert np.abs(tenths - 200).max() < 5 * 13.4


def test_a_short_stream_is_kept_whole() -> None:
    reservoir, moments = Reservoir(), Moments()
    for value in range(100):
        reservoir.add(float(value))
        moments.add(Moment(1, float(value), float(value), 0.0))
    assert reservoir.values == [float(v) for v in range(100)]
    assert [moment.latency_ms for moment in moments] == reservoir.values


@pytest.mark.parametrize("frames", [MOST_MOMENTS, MOST_MOMENTS + 1, MANY])
def test_a_decimated_time_line_adds_up_to_all_frames(frames: int) -> None:
    latencies = np.random.default_rng(0).gamma(9, 5, frames)
    moments = Moments()
    for index, latency in enumerate(latencies.tolist()):
        moments.add(Moment(1, latency, latency, 1.0, kept=index % 2, undone=index % 3 == 0))
    kept = list(moments)
    assert len(kept) <= MOST_MOMENTS
    sizes = [moment.frames for moment in kept]
    assert sum(sizes) == frames
    assert set(sizes[:-1]) <= {sizes[0]}  # all alike but the last
    starts = np.cumsum([0, *sizes])
    for moment, start, end in zip(kept, starts[:-1], starts[1:], strict=True):
        assert moment.latency_ms == pytest.approx(latencies[start:end].mean())
        assert moment.worst_ms == latencies[start:end].max()
    assert sum(moment.kept for moment in kept) == frames // 2
    assert sum(moment.undone for moment in kept) == -(-frames // 3)


@pytest.mark.parametrize("frames", [1, 3, 4, 9, 57, 1000])
def test_shots_are_few_and_evenly_spaced(frames: int) -> None:
    shots = Shots(4)
    image, mask = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    for index in range(frames):
        shots.add(Frame(image, index, f"{index:06d}", 0.0), mask)
        assert len(shots._kept) <= 8
    chosen = [shot.index for shot in shots.chosen()]
    assert len(chosen) == min(4, frames)
    assert chosen[0] == 0
    assert frames - chosen[-1] <= max(1, frames / 4)
    distances = np.diff(chosen)
    assert frames < 4 or distances.max() <= 2 * distances.min()


@pytest.mark.parametrize("width", [300, 1200])
def test_shots_are_copies_no_wider_than_a_picture(width: int) -> None:
    shots, image, mask = Shots(), np.zeros((300, width, 3), np.uint8), np.zeros((300, width), np.uint8)
    shots.add(Frame(image, 0, "a", 0.0), mask)
    image[:], mask[:] = 255, 1  # a camera and an engine fill their buffers again
    (shot,) = shots.chosen()
    assert shot.image.shape[:2] == shot.mask.shape == ((300, 300) if width == 300 else (105, 420))
    assert (shot.image.max(), shot.mask.max()) == (0, 0)


def test_a_recorder_holds_no_more_after_many_frames_than_it_says() -> None:
    recorder = RunRecorder()
    image, mask = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    signals = Signals(0.1, 0.4, 1.0, 0.1)
    undone = Verdict(Reason.ROLLED_BACK, 0.0, signals, Violation.SHARE_GAIN)
    for index in range(12_000):
        updated = index % 2 == 0
        timings = {"backbone": 5.0, "emit": 1.0} | ({"loss": 3.0, "guard": 1.0} if updated else {})
        verdict = undone if index % 4 == 0 else Verdict(Reason.ADAPTED if updated else Reason.NOT_DUE)
        recorder.frame(Frame(image, index, f"{index}", 0.0), FrameResult(mask, verdict, timings))
        recorder.skip(f"broken {index}", "is empty")
    assert (mask_latency_ms(timings), update_ms({"loss": 3.0, "guard": 1.0})) == (5.0, 4.0)
    assert len(recorder.latency_ms.values) == SAMPLE
    assert set(recorder.update_ms.values) == {4.0}
    assert len(list(recorder.moments)) <= MOST_MOMENTS
    assert (recorder.plain.means(), recorder.plain.frames) == ({"backbone": 5.0, "emit": 1.0}, 6000)
    assert recorder.updating.means() == {"backbone": 5.0, "emit": 1.0, "loss": 3.0, "guard": 1.0}
    assert recorder.guard.counts == {"roll back": 3000}
    assert len(recorder.guard.first) + len(recorder.guard.last) == FIRST_EVENTS + LAST_EVENTS
    assert recorder.guard.left_out == 3000 - FIRST_EVENTS - LAST_EVENTS
    assert recorder.guard.last[-1].frame == "11996 (11996)"
    assert recorder.skips.counts.total() == 12_000
