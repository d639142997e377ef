from __future__ import annotations

import itertools

import numpy as np
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.timings import MASK_STAGES, UPDATE_STAGES, Span
from ocl_edge_app.profile.advice import advice
from ocl_edge_app.profile.measure import resized, run_profile
from ocl_edge_app.profile.recording import Profile, Recording
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.sources import NoiseSource
from ocl_edge_runtime.statistics import Distribution


def test_percentiles_interpolate_between_ranks() -> None:
    values = [4.0, 1.0, 3.0, 2.0, 10.0]
    distribution = Distribution.of(values)
    ordered = sorted(values)
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        rank = q * (len(values) - 1)
        low = int(rank)
        high = min(low + 1, len(values) - 1)
        expected = ordered[low] + (rank - low) * (ordered[high] - ordered[low])
        assert getattr(distribution, name) == pytest.approx(expected)
    assert (distribution.mean, distribution.max, distribution.count) == (4.0, 10.0, 5)
    with pytest.raises(ValueError, match="no values"):
        Distribution.of([])


def test_both_engines_see_the_same_frames_and_every_stage_adds_up(small_bundle: Bundle) -> None:
    off, on = (
        open_session(small_bundle, SessionOptions("frozen")),
        open_session(small_bundle, SessionOptions(opening=1.0)),
    )
    seen: dict[str, list[bytes]] = {"frozen": [], "ocl-head": []}
    for session in (off, on):
        predict = session.predict

        def recorded(
            image, arrived_at=None, recorded_s=None, predict=predict, mode=session.setup.method.name
        ):  # type: ignore[no-untyped-def]
            seen[mode].append(image.tobytes())
            return predict(image)

        session.predict = recorded  # type: ignore[method-assign]
    profile = run_profile(off, on, NoiseSource(40, 50, 9), warmup=2)
    assert len(profile.off.frames) == len(profile.on.frames) == 7
    assert seen["frozen"] == seen["ocl-head"]
    assert len(set(seen["ocl-head"])) == 9
    assert set(profile.off.stages()) == {*MASK_STAGES, "emit"}
    assert set(profile.on.stages()) == {*MASK_STAGES, *UPDATE_STAGES, "emit"} - {
        "flipped view",
        "guard",
    }  # those are realtime mode's
    for spans, total in zip(profile.on.frames, profile.on.totals_ms(), strict=True):
        assert all(before.end_ns <= after.start_ns for before, after in itertools.pairwise(spans))
        assert total == pytest.approx(sum(span.end_ns - span.start_ns for span in spans) / 1e6)
        assert total <= (spans[-1].end_ns - spans[0].start_ns) / 1e6 + 1e-6
    assert profile.on.reasons == {"adapted": 7}
    assert profile.on.openings == [1.0] * 7
    assert profile.on.joules == []
    ratios = np.array(profile.on.totals_ms()) / np.array(profile.off.totals_ms())
    assert profile.frame_ratio().p50 == pytest.approx(np.median(ratios))


def test_the_trace_has_one_event_a_span_without_overlap(small_bundle: Bundle) -> None:
    off, on = (
        open_session(small_bundle, SessionOptions("frozen")),
        open_session(small_bundle, SessionOptions(opening=1.0)),
    )
    profile = run_profile(off, on, NoiseSource(40, 50, 4), warmup=0)
    trace = profile.trace()["traceEvents"]
    events = [e for e in trace if e["ph"] == "X"]
    assert len(events) == sum(len(spans) for r in (profile.off, profile.on) for spans in r.frames)
    events.sort(key=lambda e: e["ts"])
    for before, after in itertools.pairwise(events):
        assert before["ts"] + before["dur"] <= after["ts"] + 0.002
    assert {e["args"]["name"] for e in trace if e["ph"] == "M"} == {"adaptation off", "adaptation on"}


def of_stages(frames: int = 4, **ms: float) -> Recording:
    """The same times for every frame."""
    spans, start = [], 0
    for stage, duration in ms.items():
        end = start + round(duration * 1e6)
        spans.append(Span(stage.replace("_", " "), start, end))
        start = end
    return Recording(frames=[spans] * frames, openings=[1.0] * frames)


def test_the_advice_names_what_dominates_and_what_to_try() -> None:
    off = of_stages(preprocess=1, backbone=10, head=1, tail=20)
    told = advice(Profile(off, of_stages(preprocess=1, backbone=10, head=1, tail=20), 0, 0, 0))
    assert told.startswith("tail takes 62 % of the time to the mask: try --mask-size network")
    assert ";" not in told
    slow = of_stages(preprocess=1, backbone=30, head=1, tail=20, flipped_view=80, loss=30)
    told = advice(Profile(off, slow, 0, 0, 0))
    assert told.startswith("backbone takes 58 %")
    assert "1.62 times the frozen network's time: try --norm-every 4" in told
    assert "updates take 2.1 times as long as masks" in told
    assert "--norm-every" not in advice(Profile(off, slow, 0, 0, 0), norm_every=None)


def test_energy_is_a_mean_over_frames() -> None:
    assert of_stages(backbone=1).joules_a_frame is None
    assert Recording(joules=[1.0, 3.0]).joules_a_frame == 2.0


def test_frames_are_resized_as_if_a_camera_had_taken_them() -> None:
    frames = list(resized(NoiseSource(40, 50, 2), (20, 30)))
    assert [frame.image.shape for frame in frames] == [(20, 30, 3)] * 2
    (same,) = resized(NoiseSource(40, 50, 1), None)
    assert same.image.shape == (40, 50, 3)
