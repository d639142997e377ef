"""Background updates: the mask never waits, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ocl_edge
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.method.verdict import Reason, Signals, Verdict, Violation
from ocl_edge_app.report.recorder import RunRecorder
from ocl_edge_runtime.loop import RunReport, run_stream
from ocl_edge_runtime.records.state import StateStore, state_digest
from ocl_edge_runtime.session.frames import Frame, FrameResult, Landed
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sinks import Sink
from ocl_edge_runtime.sources import ImageSource
from ocl_edge_runtime.sources.live import LiveSource
from tests.doubles.cameras import SimulatedCamera
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY, background, wait_for_worker
from tests.doubles.workers import HandExecutor

BUSY = Reason.WORKER_BUSY


def test_an_update_is_taken_in_before_the_first_frame_after_it_has_landed(small_bundle: Bundle) -> None:
    hand = HandExecutor()
    session, inline = background(small_bundle, executor=hand), background(small_bundle, update="inline")
    source = session.weights.weights_sha256()
    first = session.step(random_image(0))
    assert (first.verdict.reason, first.background) == (Reason.IN_BACKGROUND, None)
    for index in (1, 2):
        result = session.step(random_image(index))
        assert result.verdict.reason is BUSY
        assert session.weights.weights_sha256() == source
    assert session.policy.skipped == 2
    hand.land()
    assert session.weights.weights_sha256() == source  # landed, and not taken in before the next frame
    fourth = session.step(random_image(3))
    expected = inline.step(random_image(0))
    assert fourth.background is not None
    assert fourth.background.behind == 3
    assert fourth.background.verdict == expected.verdict
    assert {"flipped view", "loss", "backward", "step", "restore", "guard"} <= set(
        fourth.background.timings_ms
    )
    assert session.weights.weights_sha256() == inline.weights.weights_sha256() != source
    assert fourth.verdict.reason is Reason.IN_BACKGROUND
    hand.land()
    settled = session.settle()
    assert settled is not None
    assert settled.behind == 1


def test_updates_taken_in_at_once_equal_inline_updates(small_bundle: Bundle) -> None:
    """An update that lands before the next frame gives the same masks and weights as an inline one."""
    hand = HandExecutor()
    session = background(small_bundle, executor=hand, norm_every=3)
    inline = background(small_bundle, norm_every=3, update="inline")
    for index in range(12):
        clocked = float(index)
        mask, expected = (
            session.predict(random_image(index), clocked),
            inline.predict(random_image(index), clocked),
        )
        session.adapt()
        inline.adapt()
        hand.land()
        assert np.array_equal(mask, expected)
    session.settle()
    assert state_digest(session) == state_digest(inline)
    assert session.weights.weights_sha256() == inline.weights.weights_sha256()


def test_what_an_update_reads_is_not_overwritten_by_later_frames(small_bundle: Bundle) -> None:
    """The backend reuses its buffers: an update that runs late must still see its own frame."""
    hand = HandExecutor()
    session = background(small_bundle, executor=hand, norm_every=100)
    inline = background(small_bundle, norm_every=100, update="inline")
    for each in (session, inline):
        each.predict(random_image(0), 0.0)  # measured
        each.seen = None
        each.predict(random_image(1), 1.0)  # modulated: features lie in the backend's buffers
        each.adapt()
    for index in range(2, 5):
        session.step(random_image(index))
    hand.land()
    session.settle()
    assert session.weights.weights_sha256() == inline.weights.weights_sha256()


@pytest.mark.parametrize("update_s", [0.01, 0.15, 0.5])
def test_no_mask_waits_for_a_background_update(small_bundle: Bundle, update_s: float) -> None:
    """A camera every 100 ms, masks of 40 ms, updates of any length, on a simulated clock."""
    clock = SimulatedClock()
    hand = HandExecutor()
    session = background(small_bundle, clock, hand, adapt_every=None, period_s=0.1)
    camera = SimulatedCamera(clock)
    source = LiveSource("camera", camera, clock, reopen=lambda: camera)
    lands_at, started, reasons = float("inf"), 0, []
    stream = iter(source)
    for index in range(20):
        clock.sleep_until(0.1 * index)
        camera.shoot(index)
        if clock.now() >= lands_at:
            hand.land()
            lands_at = float("inf")
        frame = next(stream)
        mask = session.predict(frame.image, frame.captured_at)
        clock.spend(0.04)
        assert clock.now() == pytest.approx(frame.captured_at + 0.04)
        result = session.result(mask, session.adapt())
        assert clock.now() == pytest.approx(frame.captured_at + 0.04)
        reasons.append(result.verdict.reason)
        if result.verdict.reason is Reason.IN_BACKGROUND:
            started, lands_at = started + 1, clock.now() + update_s
    source.stop()
    frames_each = {0.01: 1, 0.15: 2, 0.5: 6}[update_s]
    assert source.dropped == 0
    assert started == -(-20 // frames_each)
    assert reasons.count(BUSY) == session.policy.skipped == 20 - started


def test_a_state_saved_during_an_update_is_the_one_before_it(small_bundle: Bundle, tmp_path: Path) -> None:
    """Resumed from there, the run goes on as if the update had never begun."""
    hand = HandExecutor()
    session = background(small_bundle, executor=hand)
    for index in range(4):
        session.step(random_image(index))
        hand.land()
    session.predict(random_image(4))
    before = state_digest(session)
    session.adapt()
    hand.waiting[0][1]()  # the worker is done with its work, and nobody has taken it in
    assert state_digest(session) == before
    StateStore(tmp_path, session).save()
    resumed = background(small_bundle)
    StateStore(tmp_path, resumed).resume("refuse")
    assert state_digest(resumed) == before
    assert (
        resumed.weights.weights_sha256()
        == resumed.updates.learner.weights.weights_sha256()
        == session.weights.weights_sha256()
    )
    assert resumed.index == 4


def test_a_settled_state_resumes_bit_for_bit(small_bundle: Bundle, tmp_path: Path) -> None:
    def play(session: Session, hand: HandExecutor, first: int, last: int) -> None:
        for index in range(first, last):
            session.predict(random_image(index), float(index))
            session.adapt()
            if index % 2 and hand.waiting:
                hand.land()

    hands = [HandExecutor() for _ in range(3)]
    whole, first, second = (background(small_bundle, executor=hand, norm_every=2) for hand in hands)
    play(whole, hands[0], 0, 8)
    play(whole, hands[0], 8, 16)
    play(first, hands[1], 0, 8)
    first.settle()
    StateStore(tmp_path, first).save()
    StateStore(tmp_path, second).resume("refuse")
    play(second, hands[2], 8, 16)
    whole.settle()
    second.settle()
    assert state_digest(whole) == state_digest(second)


class BrokenError(BackendError):
    pass


def break_worker(session: Session) -> None:
    def broken(*_: object) -> None:
        raise BrokenError("the device is gone")

    session.updates.learner.backend.infer = broken  # type: ignore[method-assign,assignment]


def test_an_error_in_the_worker_surfaces_in_the_frame_loop(small_bundle: Bundle, frames: Path) -> None:
    for surface in (
        lambda session: session.predict(random_image(1)),
        lambda session: session.settle(),
        lambda session: session.close(),
    ):
        session = background(small_bundle)
        break_worker(session)
        session.step(random_image(0))
        wait_for_worker(session)
        with pytest.raises(BrokenError, match="the device is gone"):
            surface(session)
        session.close()  # told once
    session = background(small_bundle)
    break_worker(session)
    with pytest.raises(BrokenError):
        run_stream(session, ImageSource(str(frames), limit=1), [])


def test_closing_waits_for_the_worker_and_ends_its_thread(small_bundle: Bundle) -> None:
    others = set(threading.enumerate())
    session = background(small_bundle)
    session.step(random_image(0))
    new = set(threading.enumerate()) - others
    (thread,) = (thread for thread in new if thread.name.startswith("update the head"))
    assert thread.is_alive()
    session.close()
    assert not thread.is_alive()
    assert not session.updates.busy


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_settles_the_update_in_flight(
    small_bundle: Bundle, frames: Path, number: signal.Signals
) -> None:
    class Stopper(Sink):
        def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
            if frame.index == 2:
                os.kill(os.getpid(), number)

    session = background(small_bundle)
    settled = []
    report = run_stream(session, ImageSource(str(frames)), [Stopper()], on_settled=settled.append)
    assert report.stopped
    assert report.frames == 3
    busy = report.reasons.get(BUSY, 0)
    assert report.updates == report.frames - busy == sum(report.reasons.values()) - busy
    assert not session.updates.busy
    assert session.weights.weights_sha256() == session.updates.learner.weights.weights_sha256()


def test_the_guard_and_the_limits_hold_in_the_background(small_bundle: Bundle) -> None:
    hand = HandExecutor()
    options, realtime = (
        SessionOptions(prior=0.8, lr=20.0, restoration=0.0, opening=1.0),
        replace(ANY, update="background"),
    )
    session = open_session(small_bundle, options, realtime, SimulatedClock(), hand)
    for index in range(30):
        session.step(random_image(index))
        if hand.waiting:
            hand.land()
    session.settle()
    guard = session.export_state()[1]["guard"]
    assert guard["rollbacks"] + guard["resets"] >= 3
    strict = background(small_bundle, executor=hand, statistics_limit=0.0)
    assert strict.step(random_image(0)).verdict.reason is Reason.STATISTICS_TOO_FAR
    assert strict.step(np.zeros((40, 50, 3), np.uint8)).verdict.reason is Reason.BLANK
    assert hand.waiting == []


def test_warming_up_in_the_background_changes_nothing(small_bundle: Bundle) -> None:
    session = background(small_bundle)
    before = state_digest(session)
    session.warm_up()
    assert state_digest(session) == before
    assert session.weights.weights_sha256() == session.updates.learner.weights.weights_sha256()


def test_the_python_api_runs_in_the_background(small_bundle: Bundle) -> None:
    session = ocl_edge.open(small_bundle.path, update="background", statistics_limit=1e9, opening=1)
    reasons = [session.step(random_image(index)).verdict.reason for index in range(3)]
    assert reasons[0] is Reason.IN_BACKGROUND
    session.settle()
    assert session.weights.distance_from_trained() > 0
    session.close()
    with_norms_only = ocl_edge.open(small_bundle.path, method="norm", update="background", opening=1)
    assert with_norms_only.step(random_image(0)).verdict.reason is Reason.NOTHING_TRAINS
    with_norms_only.close()


def test_statistics_are_measured_where_the_mask_can_still_meet_the_deadline(small_bundle: Bundle) -> None:
    clock = SimulatedClock()
    session = background(
        small_bundle, clock, update="inline", norm_every=None, adapt_every=1000, period_s=0.1
    )
    infer = session.segmenter.backbone.infer

    def slow(form, inputs):  # type: ignore[no-untyped-def]
        clock.spend(0.06 if form == "measured" else 0.02)
        return infer(form, inputs)

    session.segmenter.backbone.infer = slow  # type: ignore[method-assign]
    measured = []
    for index, delay in enumerate([0.0, 0.03, 0.05, 0.0, 0.09]):
        clock.time = float(index) + delay
        mask = session.predict(random_image(index), float(index))
        decided = session.result(mask, Verdict(Reason.NOT_DUE)).decided
        assert decided is not None
        measured.append(decided.measured)
        assert delay == 0.09 or clock.now() <= index + 0.1 + 1e-9
    assert measured == [True, True, False, True, False]


def test_reports_count_an_update_on_the_frame_that_takes_it_in() -> None:
    signals = Signals(0.1, 0.0, 1.0, 0.6)
    undone = Landed(
        Verdict(Reason.ROLLED_BACK, -2.0, signals, Violation.DRIFT), {"flipped view": 30.0, "step": 5.0}, 2
    )
    applied = replace(undone, verdict=Verdict(Reason.ADAPTED, -1.5))
    recorder, report = RunRecorder(), RunReport()
    for index, landed in enumerate([None, undone, applied]):
        image = random_image(index)
        verdict = Verdict(Reason.IN_BACKGROUND if index == 0 else BUSY)
        result = FrameResult(image[:, :, 0], verdict, {"backbone": 10.0}, background=landed)
        recorder.frame(Frame(image, index, f"{index:06d}", 0.0), result)
        report.add(result)
    assert report.reasons == {BUSY: 2, Reason.ROLLED_BACK: 1, Reason.ADAPTED: 1}
    assert (report.updates, report.update_ms, report.losses) == (1, [35.0], [-2.0, -1.5])
    assert recorder.update_ms.values == [35.0, 35.0]
    assert recorder.latency_ms.values == [10.0] * 3
    assert recorder.guard.counts == {"roll back": 1}
    assert recorder.guard.first[0].reason == "weights are 60 % away from the trained ones"
    assert sum(moment.kept for moment in recorder.moments) == 1
