"""A recorded run replays bit for bit, or says that it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import StateError, UsageError
from ocl_edge_app.cli import run
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.loop import run_stream
from ocl_edge_runtime.records.tape import Tape, TapeWriter
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sources import ImageSource
from ocl_edge_runtime.sources.chosen import ChosenFrames
from ocl_edge_runtime.sources.live import LiveSource
from tests.doubles.cameras import SimulatedCamera
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY, background, wait_for_worker


def record(
    bundle: Bundle, frames: Path, path: Path, **changes: object
) -> tuple[list[NDArray[np.uint8]], Session]:
    """Two hundred frames in the background, on real threads, recorded."""
    session = background(bundle, RealClock(), **changes)
    masks = []
    with TapeWriter(path, session) as recorder:

        def each(frame: Frame, result: FrameResult) -> None:
            masks.append(result.mask)
            recorder.frame(frame, result)
            if frame.index % 12 == 0:  # however busy the machine is, some updates land
                wait_for_worker(session)

        run_stream(session, ManyFrames(str(frames)), [], each)
        recorder.finish()
    return masks, session


class ManyFrames(ImageSource):
    """The six frames, over and over, each time moved by a pixel; every third one missing."""

    def __iter__(self) -> Iterator[Frame]:
        images = [self.read(index).image for index in range(len(self))]
        for index in range(200):
            if index % 3 != 2:
                moved = np.roll(images[index % len(images)], index, 1)
                yield Frame(moved, index, f"{index:06d}", RealClock().now())


def replayed_frames(frames: Path, tape: Tape) -> ChosenFrames:
    return ChosenFrames(ManyFrames(str(frames)), list(tape.frames), tape.path)


@pytest.mark.parametrize("changes", [{}, {"norm_every": 4}, {"norm_every": None, "period_s": 0.01}])
def test_a_recorded_background_run_replays_bit_for_bit(
    small_bundle: Bundle, frames: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    masks, session = record(small_bundle, frames, tmp_path / "tape", **changes)
    tape = Tape.read(tmp_path / "tape")
    decisions = list(tape.frames.values())
    assert len(decisions) == len(masks) == 134
    assert 5 < sum(d.taken_in for d in decisions) <= sum(d.granted for d in decisions)
    again = background(small_bundle, **changes)
    replay = tape.play_in(again)
    replayed = []
    source = replayed_frames(frames, tape)
    report = run_stream(again, source, [], lambda _, result: replayed.append(result.mask))
    assert all(np.array_equal(a, b) for a, b in zip(masks, replayed, strict=True))
    assert again.weights.weights_sha256() == session.weights.weights_sha256()
    assert again.weights.distance_from_trained() > 0
    assert replay.check_end().endswith("same state as recorded, bit for bit")
    assert report.updates > 5


def test_a_replay_that_goes_another_way_is_found_out(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    """What the replay compares is not constant: it sees an update left out, and a frame that came later."""
    record(small_bundle, frames, tmp_path / "tape", norm_every=4)
    tape = Tape.read(tmp_path / "tape")
    granted = [index for index, decision in tape.frames.items() if decision.granted]
    measured = [index for index, decision in tape.frames.items() if decision.measured]

    def replay_with(changed: int, **changes: object) -> None:
        decisions = dict(tape.frames)
        decisions[changed] = replace(decisions[changed], **changes)  # type: ignore[arg-type]
        other = replace(tape, frames=decisions)
        session = background(small_bundle, norm_every=4)
        replay = other.play_in(session)
        run_stream(session, replayed_frames(frames, other), [])
        replay.check_end()

    with pytest.raises(StateError, match="gone another way"):
        replay_with(granted[0], granted=False)
    with pytest.raises(StateError, match=r"ended in another state|gone another way"):
        replay_with(measured[1], arrived_at=tape.frames[measured[1]].arrived_at + 1.0)


def test_a_tape_of_another_run_is_refused(small_bundle: Bundle, frames: Path, tmp_path: Path) -> None:
    path = tmp_path / "tape"
    record(small_bundle, frames, path)
    tape = Tape.read(path)
    with pytest.raises(StateError, match=r"with tau_s 8\.0, this run has 3\.0"):
        tape.play_in(background(small_bundle, tau_s=3.0))
    options = SessionOptions(prior=0.8, lr=0.002, seed=4, opening=1.0)
    other = open_session(small_bundle, options, replace(ANY, update="background"))
    with pytest.raises(StateError, match="from another state"):
        tape.play_in(other)
    with pytest.raises(StateError, match="names frame 199, which the source does not have"):
        list(ChosenFrames(ImageSource(str(frames)), [199], path))
    with pytest.raises(UsageError, match="the frames of camera are gone"):
        ChosenFrames(LiveSource("camera", SimulatedCamera(SimulatedClock()), SimulatedClock()), [0], path)
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(lines[:-1]))
    cut = Tape.read(path)
    session = background(small_bundle)
    replay = cut.play_in(session)
    session.step(random_image(0))
    assert replay.check_end().startswith("stopped 133 frames before the end")
    ended = replace(cut, frames={}).play_in(background(small_bundle))
    assert "cut off and has no end" in ended.check_end()
    session.follow([])
    with pytest.raises(UsageError, match="no more frames"):
        session.predict(random_image(1))
    for content in ("", "no json", '{"version": 7}', "[]"):
        path.write_text(content)
        with pytest.raises(StateError, match=r"is no schedule|has version 7"):
            Tape.read(path)


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
    events = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    told = [e for e in events if e["event"] == "background update"]
    assert sum(e["event"] == "frame" for e in events) == recorded["frames"]
    assert sum(e["adapted"] for e in told) == recorded["updates"] > 0
    assert all(e["behind"] >= 1 for e in told)
    for wrong in (["--mode", "paper"], ["--replay-schedule", str(schedule), "--fps", "5"]):
        assert run([*arguments, *wrong]) == 2
    assert run([*arguments, "--replay-schedule", str(schedule), "--seed", "9"]) == 1
    assert "from another state" in capsys.readouterr().err
