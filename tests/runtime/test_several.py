"""The loop for several cameras: different sizes, one that dies, files and cameras together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FrameError, SourceError
from ocl_edge.masks import Mask
from ocl_edge.method.verdict import Reason
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.session.cameras import open_cameras
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.several import Stream, run_cameras
from ocl_edge_runtime.sinks import Sink
from ocl_edge_runtime.sources import ImageSource, PacedSource
from ocl_edge_runtime.sources.base import Arrival
from ocl_edge_runtime.sources.live import LiveSource
from tests.doubles.cameras import EndlessCamera
from tests.doubles.images import random_image

LEARNS = RealtimeOptions(norm_every=2, adapt_every=1, statistics_limit=1e9)
OPTIONS = SessionOptions(lr=0.05, threads=1, opening=1.0)


class Kept(Sink):
    """Masks by the name of their frame."""

    def __init__(self) -> None:
        self.masks: dict[str, NDArray[np.uint8]] = {}
        self.told_of: list[str] = []

    def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
        self.masks[frame.name] = mask.copy()

    def told(self, frame: Frame, result: object) -> None:
        self.told_of.append(frame.name)


class DyingCamera(EndlessCamera):
    """Three frames, then somebody pulls the plug."""

    def __iter__(self) -> Iterator[Arrival]:
        for index in range(3):
            time.sleep(0.01)
            yield Arrival(time.monotonic(), partial(random_image, index))
        raise SourceError("rtsp://rear has stopped")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Four frames of another size; one of them is none."""
    directory = tmp_path / "wide"
    directory.mkdir()
    for index in range(4):
        Image.fromarray(random_image(50 + index, 30, 90)).save(directory / f"wide_{index}.png")
    (directory / "wide_1b.png").write_bytes(b"no picture")
    return directory


def test_masks_of_files_are_those_of_each_source_alone(
    small_bundle: Bundle, frames: Path, wide: Path
) -> None:
    kept = {"front": Kept(), "wide": Kept()}
    streams = {
        "front": Stream(ImageSource(str(frames)), [kept["front"]]),
        "wide": Stream(ImageSource(str(wide)), [kept["wide"]]),
    }
    with open_cameras(small_bundle, list(streams), OPTIONS, LEARNS) as cameras:
        reports = run_cameras(cameras, streams)
    assert (reports["front"].frames, reports["wide"].frames, reports["wide"].skipped) == (6, 4, 1)
    assert reports["front"].updates == 6
    for name, directory in (("front", frames), ("wide", wide)):
        with open_session(small_bundle, OPTIONS, LEARNS) as alone:
            for frame in ImageSource(str(directory)):
                assert np.array_equal(kept[name].masks[frame.name], alone.step(frame.image).mask)
        assert kept[name].told_of == list(kept[name].masks)


class Recording(ImageSource):
    """Files with times of their own: one every 20 seconds."""

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(super().__iter__()):
            yield replace(frame, stream_s=20.0 * index)


def test_recordings_go_by_their_own_times(
    small_bundle: Bundle, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, predict = [], Session.predict

    def watched(
        session: Session, image: NDArray[np.uint8], arrived_at: float, recorded_s: float | None = None
    ) -> Mask:
        told.append(recorded_s)
        return predict(session, image, arrived_at, recorded_s)

    monkeypatch.setattr(Session, "predict", watched)
    with open_cameras(small_bundle, ("front",), OPTIONS, LEARNS) as cameras:
        run_cameras(cameras, {"front": Stream(Recording(frames))})
    assert told == [0, 20, 40, 60, 80, 100]


def test_a_camera_that_dies_leaves_the_others_running(small_bundle: Bundle, frames: Path) -> None:
    told: list[str] = []
    dying = LiveSource("rear", DyingCamera(), RealClock())
    streams = {
        "rear": Stream(dying, on_failure=told.append),
        "front": Stream(PacedSource(ImageSource(str(frames)), 20.0, RealClock())),
    }
    with open_cameras(small_bundle, list(streams), OPTIONS, LEARNS) as cameras:
        cameras.warm_up()
        reports = run_cameras(cameras, streams)
    assert told == ["rtsp://rear has stopped"]
    assert reports["rear"].source_failure == "rtsp://rear has stopped"
    assert reports["front"].source_failure is None
    assert reports["front"].frames + reports["front"].dropped == 6
    assert 1 <= reports["rear"].frames <= 3


def test_no_update_delays_a_camera_whose_frame_is_there(small_bundle: Bundle, frames: Path) -> None:
    """The endless camera has a frame every 5 ms; the other one's updates give way to it."""
    endless = LiveSource("rear", EndlessCamera(), RealClock(), limit=30)
    streams = {"rear": Stream(endless), "front": Stream(ImageSource(str(frames)))}
    with open_cameras(small_bundle, list(streams), OPTIONS, LEARNS) as cameras:
        session = cameras["front"]
        adapt = session.adapt

        def slow(others_wait: bool = False) -> object:
            time.sleep(0.02)
            return adapt(others_wait)

        session.adapt = slow
        reports = run_cameras(cameras, streams)
    assert reports["rear"].frames == 30
    assert reports["front"].reasons.get(Reason.OTHERS_WAIT, 0) + reports["front"].updates == 6


def test_an_error_of_one_reader_ends_the_run(small_bundle: Bundle, frames: Path) -> None:
    class Broken(ImageSource):
        def __iter__(self) -> Iterator[Frame]:
            raise RuntimeError("a fault")
            yield

    streams = {"a": Stream(Broken(str(frames))), "b": Stream(ImageSource(str(frames)))}
    cameras = open_cameras(small_bundle, list(streams), OPTIONS, LEARNS)
    with cameras, pytest.raises(RuntimeError, match="a fault"):
        run_cameras(cameras, streams)
    assert not [thread for thread in threading.enumerate() if thread.name == "read a camera"]


def test_nothing_that_can_be_used_is_an_error(small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    streams = {"a": Stream(ImageSource(str(tmp_path)))}
    cameras = open_cameras(small_bundle, ["a"], OPTIONS, LEARNS)
    with cameras, pytest.raises(FrameError, match="none of the 1 frames"):
        run_cameras(cameras, streams)
