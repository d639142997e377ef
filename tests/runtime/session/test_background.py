"""Background updates: the mask never waits, nothing is lost, and a recorded run replays bit for bit."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ocl_edge
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, StateError, UsageError
from ocl_edge.method.guard import Decision
from ocl_edge.method.step import Update
from ocl_edge_app.cli import run
from ocl_edge_app.report.recorder import RunRecorder
from ocl_edge_runtime.loop import RunReport, run_stream
from ocl_edge_runtime.records.state import StateStore
from ocl_edge_runtime.session.engine import EngineOptions
from ocl_edge_runtime.session.frames import IN_BACKGROUND, Frame, FrameResult
from ocl_edge_runtime.session.realtime import RealtimeEngine, RealtimeOptions
from ocl_edge_runtime.session.schedule import (
    RecordedSchedule,
    ScheduledSource,
    ScheduleRecorder,
    state_digest,
)
from ocl_edge_runtime.session.scheduler import RealClock, UpdateScheduler
from ocl_edge_runtime.session.updates import Outcome
from ocl_edge_runtime.sources import ImageSource
from ocl_edge_runtime.sources.base import Arrival
from ocl_edge_runtime.sources.live import LiveSource
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY

BACKGROUND: RealtimeOptions = replace(ANY, update="background")


def engine_of(bundle: Bundle, clock: SimulatedClock | None = None, **changes: object) -> RealtimeEngine:
    options = EngineOptions(prior=0.8, lr=0.002, seed=3)
    realtime = replace(BACKGROUND, **changes)  # type: ignore[arg-type]
    return RealtimeEngine(bundle, options, realtime, clock or SimulatedClock())


class HandExecutor(Executor):
    """A worker that works when the test says so: `land` runs what was submitted."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: work(*args, **kwargs)))
        return future

    def land(self) -> None:
        future, work = self.waiting.pop()
        assert not self.waiting
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while self.waiting:
            self.land()


def by_hand(engine: RealtimeEngine) -> HandExecutor:
    assert engine._background is not None
    engine._background.executor = hand = HandExecutor()
    return hand


def test_an_update_is_taken_in_before_the_first_frame_after_it_has_landed(small_bundle: Bundle) -> None:
    engine, inline = engine_of(small_bundle), engine_of(small_bundle, update="inline")
    hand = by_hand(engine)
    source = engine.head.weights_sha256()
    first = engine.step(random_image(0))
    assert (first.reason, first.adapted, first.background) == (IN_BACKGROUND, False, None)
    for index in (1, 2):
        result = engine.step(random_image(index))
        assert result.reason == "the worker is busy"
        assert engine.head.weights_sha256() == source
    assert engine.scheduler.skipped == 2
    hand.land()
    assert engine.head.weights_sha256() == source  # landed, and not taken in before the next frame
    fourth = engine.step(random_image(3))
    expected = inline.step(random_image(0))
    assert fourth.background is not None
    assert fourth.background.behind == 3
    assert fourth.background.update.loss == expected.loss
    assert fourth.background.decision == expected.decision
    assert {"flipped view", "loss", "backward", "step", "restore", "guard"} <= set(
        fourth.background.timings_ms
    )
    assert engine.head.weights_sha256() == inline.head.weights_sha256() != source
    assert fourth.reason == IN_BACKGROUND
    hand.land()
    settled = engine.settle()
    assert settled is not None
    assert settled.behind == 1


def test_updates_taken_in_at_once_equal_inline_updates(small_bundle: Bundle) -> None:
    """An update that lands before the next frame gives the same masks and weights as an inline one."""
    engine, inline = (
        engine_of(small_bundle, norm_every=3),
        engine_of(small_bundle, norm_every=3, update="inline"),
    )
    hand = by_hand(engine)
    for index in range(12):
        clocked = float(index)
        mask, expected = (
            engine.predict(random_image(index), clocked),
            inline.predict(random_image(index), clocked),
        )
        engine.adapt()
        inline.adapt()
        hand.land()
        assert np.array_equal(mask, expected)
    engine.settle()
    assert state_digest(engine) == state_digest(inline)
    assert engine.head.weights_sha256() == inline.head.weights_sha256()


def test_what_an_update_reads_is_not_overwritten_by_later_frames(small_bundle: Bundle) -> None:
    """The backend reuses its buffers: an update that runs late must still see its own frame."""
    engine, inline = (
        engine_of(small_bundle, norm_every=100),
        engine_of(small_bundle, norm_every=100, update="inline"),
    )
    hand = by_hand(engine)
    for each in (engine, inline):
        each.predict(random_image(0), 0.0)  # measured
        each._current = None
        each.predict(random_image(1), 1.0)  # modulated: features lie in the backend's buffers
        each.adapt()
    for index in range(2, 5):
        engine.step(random_image(index))
    hand.land()
    engine.settle()
    assert engine.head.weights_sha256() == inline.head.weights_sha256()


@pytest.mark.parametrize("update_s", [0.01, 0.15, 0.5])
def test_no_mask_waits_for_a_background_update(small_bundle: Bundle, update_s: float) -> None:
    """A camera every 100 ms, masks of 40 ms, updates of any length, on a simulated clock."""
    clock = SimulatedClock()
    engine = engine_of(small_bundle, clock, adapt_every=None, period_s=0.1)
    hand = by_hand(engine)
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
        mask = engine.predict(frame.image, frame.captured_at)
        clock.spend(0.04)
        assert clock.now() == pytest.approx(frame.captured_at + 0.04)
        result = engine.result(mask, engine.adapt())
        assert clock.now() == pytest.approx(frame.captured_at + 0.04)
        reasons.append(result.reason)
        if result.reason == IN_BACKGROUND:
            started, lands_at = started + 1, clock.now() + update_s
    source.stop()
    frames_each = {0.01: 1, 0.15: 2, 0.5: 6}[update_s]
    assert source.dropped == 0
    assert started == -(-20 // frames_each)
    assert reasons.count("the worker is busy") == engine.scheduler.skipped == 20 - started


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


def record(
    bundle: Bundle, frames: Path, path: Path, **changes: object
) -> tuple[list[NDArray[np.uint8]], RealtimeEngine]:
    """Two hundred frames in the background, on real threads, with the schedule recorded."""
    engine = RealtimeEngine(
        bundle,
        EngineOptions(prior=0.8, lr=0.002, seed=3),
        replace(BACKGROUND, **changes),
        RealClock(),  # type: ignore[arg-type]
    )
    masks = []
    with ScheduleRecorder(path, engine) as recorder:

        def each(frame: Frame, result: FrameResult) -> None:
            masks.append(result.mask)
            recorder.frame(frame, result)
            if frame.index % 12 == 0:  # however busy the machine is, some updates land
                wait_for_worker(engine)

        run_stream(engine, ManyFrames(str(frames)), [], each)
        recorder.finish()
    return masks, engine


def wait_for_worker(engine: RealtimeEngine) -> None:
    assert engine._background is not None
    if engine._background._flight is not None:
        wait([engine._background._flight])


class ManyFrames(ImageSource):
    """The six frames, over and over, each time moved by a pixel; every third one missing."""

    def __iter__(self) -> Iterator[Frame]:
        images = [self.read(index).image for index in range(len(self))]
        for index in range(200):
            if index % 3 != 2:
                moved = np.roll(images[index % len(images)], index, 1)
                yield Frame(moved, index, f"{index:06d}", RealClock().now())


@pytest.mark.parametrize("changes", [{}, {"norm_every": 4}, {"norm_every": None, "period_s": 0.01}])
def test_a_recorded_background_run_replays_bit_for_bit(
    small_bundle: Bundle, frames: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    masks, engine = record(small_bundle, frames, tmp_path / "schedule", **changes)
    schedule = RecordedSchedule.read(tmp_path / "schedule")
    decisions = list(schedule.frames.values())
    assert len(decisions) == len(masks) == 134
    assert 5 < sum(d.taken_in for d in decisions) <= sum(d.granted for d in decisions)
    again = engine_of(small_bundle, **changes)
    schedule.prepare(again)
    replayed = []
    source = ScheduledSource(ManyFrames(str(frames)), schedule)
    report = run_stream(again, source, [], lambda _, result: replayed.append(result.mask))
    assert all(np.array_equal(a, b) for a, b in zip(masks, replayed, strict=True))
    assert again.head.weights_sha256() == engine.head.weights_sha256()
    assert again.head.distance_from_source() > 0
    assert schedule.check_end(again).endswith("same state as recorded, bit for bit")
    assert report.updates > 5


def test_a_replay_that_goes_another_way_is_found_out(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    """What the replay compares is not constant: it sees an update left out, and a frame that came later."""
    record(small_bundle, frames, tmp_path / "schedule", norm_every=4)
    schedule = RecordedSchedule.read(tmp_path / "schedule")
    granted = [index for index, decision in schedule.frames.items() if decision.granted]
    measured = [index for index, decision in schedule.frames.items() if decision.measured]

    def replay_with(changed: int, **changes: object) -> None:
        decisions = dict(schedule.frames)
        decisions[changed] = replace(decisions[changed], **changes)  # type: ignore[arg-type]
        other = replace(schedule, frames=decisions)
        engine = engine_of(small_bundle, norm_every=4)
        other.prepare(engine)
        run_stream(engine, ScheduledSource(ManyFrames(str(frames)), other), [])
        other.check_end(engine)

    with pytest.raises(StateError, match="gone another way"):
        replay_with(granted[0], granted=False)
    with pytest.raises(StateError, match=r"ended in another state|gone another way"):
        replay_with(measured[1], arrived_at=schedule.frames[measured[1]].arrived_at + 1.0)


def test_a_schedule_of_another_run_is_refused(small_bundle: Bundle, frames: Path, tmp_path: Path) -> None:
    path = tmp_path / "schedule"
    record(small_bundle, frames, path)
    schedule = RecordedSchedule.read(path)
    with pytest.raises(StateError, match=r"with tau_s 8\.0, this run has 3\.0"):
        schedule.prepare(engine_of(small_bundle, tau_s=3.0))
    with pytest.raises(StateError, match="from another state"):
        schedule.prepare(RealtimeEngine(small_bundle, EngineOptions(prior=0.8, lr=0.002, seed=4), BACKGROUND))
    with pytest.raises(StateError, match="names frame 199, which the source does not have"):
        list(
            ScheduledSource(
                ImageSource(str(frames)), replace(schedule, frames={199: schedule.frames[198 - 2 * 0]})
            )
        )
    with pytest.raises(UsageError, match="the frames of camera are gone"):
        ScheduledSource(LiveSource("camera", SimulatedCamera(SimulatedClock()), SimulatedClock()), schedule)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    cut = RecordedSchedule.read(path)
    engine = engine_of(small_bundle)
    assert "cut off and has no end" in cut.check_end(engine)
    schedule.prepare(engine)
    engine.step(random_image(0))
    assert schedule.check_end(engine).startswith("stopped 133 frames before the end")
    engine.follow([])
    with pytest.raises(UsageError, match="no more frames"):
        engine.predict(random_image(1))
    for content in ("", "no json", '{"version": 7}', "[]"):
        path.write_text(content)
        with pytest.raises(StateError, match="schedule"):
            RecordedSchedule.read(path)


def test_a_state_saved_during_an_update_is_the_one_before_it(small_bundle: Bundle, tmp_path: Path) -> None:
    """Resumed from there, the run goes on as if the update had never begun."""
    engine = engine_of(small_bundle)
    hand = by_hand(engine)
    for index in range(4):
        engine.step(random_image(index))
        hand.land()
    engine.predict(random_image(4))
    before = state_digest(engine)
    engine.adapt()
    hand.waiting[0][1]()  # the worker is done with its work, and nobody has taken it in
    assert state_digest(engine) == before
    StateStore(tmp_path, engine).save()
    resumed = engine_of(small_bundle)
    StateStore(tmp_path, resumed).resume("refuse")
    assert state_digest(resumed) == before
    assert (
        resumed.head.weights_sha256() == resumed.updater.head.weights_sha256() == engine.head.weights_sha256()
    )
    assert resumed.index == 4


def test_a_settled_state_resumes_bit_for_bit(small_bundle: Bundle, tmp_path: Path) -> None:
    def play(engine: RealtimeEngine, hand: HandExecutor, first: int, last: int) -> None:
        for index in range(first, last):
            engine.predict(random_image(index), float(index))
            engine.adapt()
            if index % 2 and hand.waiting:
                hand.land()

    whole, first, second = (engine_of(small_bundle, norm_every=2) for _ in range(3))
    hands = [by_hand(engine) for engine in (whole, first, second)]
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


def break_worker(engine: RealtimeEngine) -> None:
    def broken(*_: object) -> None:
        raise BrokenError("the device is gone")

    engine.updater.backend.infer = broken  # type: ignore[method-assign,assignment]


def test_an_error_in_the_worker_surfaces_in_the_frame_loop(small_bundle: Bundle, frames: Path) -> None:
    for surface in (
        lambda engine: engine.predict(random_image(1)),
        lambda engine: engine.settle(),
        lambda engine: engine.close(),
    ):
        engine = engine_of(small_bundle)
        break_worker(engine)
        engine.step(random_image(0))
        wait_for_worker(engine)
        with pytest.raises(BrokenError, match="the device is gone"):
            surface(engine)
        engine.close()  # told once
    engine = engine_of(small_bundle)
    break_worker(engine)
    with pytest.raises(BrokenError):
        run_stream(engine, ImageSource(str(frames), limit=1), [])


def test_closing_waits_for_the_worker_and_ends_its_thread(small_bundle: Bundle) -> None:
    engine = engine_of(small_bundle)
    engine.step(random_image(0))
    assert engine._background is not None
    (thread,) = engine._background.executor._threads  # type: ignore[attr-defined]
    assert thread.is_alive()
    engine.close()
    assert not thread.is_alive()
    assert not engine._background.busy


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_settles_the_update_in_flight(
    small_bundle: Bundle, frames: Path, number: signal.Signals
) -> None:
    class Stopper:
        def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
            if frame.index == 2:
                os.kill(os.getpid(), number)

    engine = engine_of(small_bundle)
    settled = []
    report = run_stream(engine, ImageSource(str(frames)), [Stopper()], on_settled=settled.append)
    assert report.stopped
    assert report.frames == 3
    started = report.frames - report.reasons.get("the worker is busy", 0)
    assert (
        report.updates
        == started
        == sum(report.reasons.values()) - report.reasons.get("the worker is busy", 0)
    )
    assert not engine._background.busy  # type: ignore[union-attr]
    assert engine.head.weights_sha256() == engine.updater.head.weights_sha256()


def test_the_guard_and_the_limits_hold_in_the_background(small_bundle: Bundle) -> None:
    engine = RealtimeEngine(
        small_bundle, EngineOptions(prior=0.8, lr=20.0, restoration=0.0), BACKGROUND, SimulatedClock()
    )
    hand = by_hand(engine)
    for index in range(30):
        engine.step(random_image(index))
        if hand.waiting:
            hand.land()
    assert engine.guard.rollbacks + engine.guard.resets >= 3
    strict = engine_of(small_bundle, statistics_limit=0.0)
    hand = by_hand(strict)
    assert "statistics refused" in strict.step(random_image(0)).reason
    assert strict.step(np.zeros((40, 50, 3), np.uint8)).reason == "the frame is blank"
    assert hand.waiting == []


def test_warming_up_in_the_background_changes_nothing(small_bundle: Bundle) -> None:
    engine = engine_of(small_bundle)
    before = state_digest(engine)
    engine.warm_up()
    assert state_digest(engine) == before
    assert engine.head.weights_sha256() == engine.updater.head.weights_sha256()
    assert len(engine.scheduler.durations._seconds) == 2
    assert len(engine._measured_s._seconds) == 2


def test_the_python_api_runs_in_the_background(small_bundle: Bundle) -> None:
    engine = ocl_edge.open(small_bundle.path, update="background", statistics_limit=1e9)
    reasons = [engine.step(random_image(index)).reason for index in range(3)]
    assert reasons[0] == IN_BACKGROUND
    engine.settle()
    assert engine.head.distance_from_source() > 0
    engine.close()
    with_norms_only = ocl_edge.open(small_bundle.path, method="norm", update="background")
    assert with_norms_only.step(random_image(0)).reason == "nothing trains"
    with_norms_only.close()


def test_statistics_are_measured_where_the_mask_can_still_meet_the_deadline(small_bundle: Bundle) -> None:
    clock = SimulatedClock()
    engine = engine_of(small_bundle, clock, update="inline", norm_every=None, adapt_every=1000, period_s=0.1)
    infer = engine._backend.infer

    def slow(form, inputs):  # type: ignore[no-untyped-def]
        clock.spend(0.06 if form == "measured" else 0.02)
        return infer(form, inputs)

    engine._backend.infer = slow  # type: ignore[method-assign]
    measured = []
    for index, delay in enumerate([0.0, 0.03, 0.05, 0.0, 0.09]):
        clock.time = float(index) + delay
        mask = engine.predict(random_image(index), float(index))
        schedule = engine.result(mask, None).schedule
        assert schedule is not None
        measured.append(schedule.measured)
        assert delay == 0.09 or clock.now() <= index + 0.1 + 1e-9
    assert measured == [True, True, False, True, False]


def test_one_slow_moment_does_not_stop_updates_for_ever() -> None:
    clock = SimulatedClock()
    scheduler = UpdateScheduler(None, 0.1, clock)
    for seconds in (0.02, 0.02, 5.0):
        scheduler.durations.add(seconds)
    granted = [scheduler.ask(index, 0.0).granted for index in range(40)]
    assert granted.index(True) == 32


def granted_frames(scheduler: UpdateScheduler, seconds: float, frames: int) -> list[int]:
    """Which frames were granted an update, each of which takes so long."""
    granted = []
    for index in range(frames):
        if scheduler.ask(index, 0.0).granted:
            granted.append(index)
            scheduler.durations.add(seconds)
    return granted


def test_a_slow_beginning_does_not_stop_updates_for_ever() -> None:
    scheduler = UpdateScheduler(None, 0.1, SimulatedClock())
    for _ in range(2):
        scheduler.durations.add(5.0)
    assert granted_frames(scheduler, 0.02, 70) == list(range(64, 70))


def test_trials_on_a_device_that_is_too_slow_become_rarer() -> None:
    scheduler = UpdateScheduler(None, 0.1, SimulatedClock())
    assert granted_frames(scheduler, 5.0, 1000) == [0, 33, 98, 227, 484, 997]
    assert granted_frames(scheduler, 0.02, 1100)[0] == 1024 - 2  # the trial at 997 was refused twice
    for _ in range(3):
        scheduler.durations.add(5.0)
    assert granted_frames(scheduler, 0.02, 70)[0] == 64  # 32 for each of two of them, as at first


def test_a_run_is_recorded_and_replayed_on_the_command_line(
    small_bundle: Bundle,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    schedule, journal = tmp_path / "schedule.jsonl", tmp_path / "journal.jsonl"
    arguments = [
        "run",
        str(small_bundle.path),
        "--source",
        str(frames),
        "--update",
        "background",
        "--json",
        "-",
    ]
    arguments += ["--norm-every", "2", "--statistics-limit", "1e9"]
    assert (
        run([*arguments, "--record-schedule", str(schedule), "--journal", str(journal), "--fps", "50"]) == 0
    )
    recorded = json.loads(capsys.readouterr().out)
    assert run([*arguments, "--replay-schedule", str(schedule)]) == 0
    streams = capsys.readouterr()
    replayed = json.loads(streams.out)
    assert "same state as recorded, bit for bit" in streams.err
    assert replayed["weights_sha256"] == recorded["weights_sha256"]
    assert replayed["frames"] == recorded["frames"]
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    told = [e for e in events if e["event"] == "background update"]
    assert sum(e["event"] == "frame" for e in events) == recorded["frames"]
    assert sum(e["adapted"] for e in told) == recorded["updates"] > 0
    assert all(e["behind"] >= 1 for e in told)
    for wrong in (["--mode", "paper"], ["--replay-schedule", str(schedule), "--fps", "5"]):
        assert run([*arguments, *wrong]) == 2
    assert run([*arguments, "--replay-schedule", str(schedule), "--seed", "9"]) == 1
    assert "from another state" in capsys.readouterr().err


def test_reports_count_an_update_on_the_frame_that_takes_it_in() -> None:
    decision = Decision("roll back", "weights are 60 % away from the source")
    undone = Outcome(
        Update(-2.0, False, "roll back: too far"), decision, {"flipped view": 30.0, "step": 5.0}, 2
    )
    applied = replace(undone, update=Update(-1.5, True, "adapted"), decision=None)
    recorder, report = RunRecorder(), RunReport()
    for index, outcome in enumerate([None, undone, applied]):
        image = random_image(index)
        result = FrameResult(
            image[:, :, 0],
            {"backbone": 10.0},
            reason=IN_BACKGROUND if index == 0 else "the worker is busy",
            background=outcome,
        )
        recorder.frame(Frame(image, index, f"{index:06d}", 0.0), result)
        report.add(result)
    assert report.reasons == {"the worker is busy": 2, "roll back": 1, "adapted": 1}
    assert (report.updates, report.update_ms, report.losses) == (1, [35.0], [-2.0, -1.5])
    assert recorder.update_ms.values == [35.0, 35.0]
    assert recorder.latency_ms.values == [10.0] * 3
    assert recorder.guard.counts == {"roll back": 1}
    assert sum(moment.kept for moment in recorder.moments) == 1
