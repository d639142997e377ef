from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocl_edge.errors import MissingExtraError, SourceError, UsageError
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources import Source, SourceOptions, open_source
from ocl_edge_runtime.sources.gstreamer import GstReader, csi_pipeline
from tests.doubles import gstreamer
from tests.doubles.gstreamer import free_port, rtsp_server  # noqa: F401

WHY_NOT = gstreamer.problem()
needs_gstreamer = pytest.mark.skipif(WHY_NOT is not None, reason=f"GStreamer: {WHY_NOT}")
LIVE = "videotestsrc is-live=true ! video/x-raw,width=33,height=20,framerate=50/1"
Serve = Callable[..., "subprocess.Popen[bytes]"]


def opened(pipeline: str, on_loss: Callable[[str], None] = lambda _: None, **options: Any) -> Source:
    options = {"timeout_s": 20.0, **options}
    return open_source(f"gst:{pipeline}", SourceOptions(**options), RealClock(), on_loss=on_loss)


@needs_gstreamer
def test_a_live_pipeline_gives_its_frames_in_its_colours() -> None:
    red = "videotestsrc is-live=true pattern=solid-color foreground-color=0xffff4020"
    with opened(f"{red} ! video/x-raw,format=I420,width=33,height=20,framerate=50/1") as source:
        assert source.rate == 50
        frame = next(iter(source))
    assert frame.image.shape == (20, 33, 3)  # a row of 99 bytes, padded to 100
    assert frame.image.flags.owndata
    assert np.abs(frame.image.astype(int) - [255, 64, 32]).max() <= 4


@needs_gstreamer
def test_the_newest_frame_wins() -> None:
    with opened(LIVE) as source:
        frames = iter(source)
        first = next(frames)
        time.sleep(0.5)
        later = next(frames)
    assert later.captured_at - first.captured_at > 0.4
    assert source.dropped >= 10


@needs_gstreamer
def test_a_pipeline_that_ends_is_no_failure() -> None:
    with opened("videotestsrc num-buffers=5 ! video/x-raw,width=32,height=24,framerate=100/1") as source:
        count = len(list(source))
    assert 1 <= count <= 5


@needs_gstreamer
def test_a_live_pipeline_that_ends_is_a_loss() -> None:
    with (
        opened("videotestsrc is-live=true num-buffers=5") as source,
        pytest.raises(SourceError, match="has stopped"),
    ):
        list(source)


@needs_gstreamer
@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("videotestsrc ! nosuchelement", "no element"),
        ("videotestsrc !", "cannot be built"),
        ("videotestsrc nosuch=1", "cannot be built"),
        ("", "cannot be built"),
        ("audiotestsrc", "cannot be built|failed"),
    ],
)
def test_a_pipeline_that_cannot_be_built_says_why(pipeline: str, said: str) -> None:
    with pytest.raises((UsageError, SourceError), match=said):
        opened(pipeline, timeout_s=3.0)


@needs_gstreamer
def test_a_pipeline_that_errs_while_it_runs_is_a_failure() -> None:
    with opened(f"{LIVE} ! identity error-after=10") as source, pytest.raises(SourceError, match="failed"):
        list(source)


@needs_gstreamer
def test_a_file_that_is_none_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "broken.avi").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(SourceError, match=r"failed|ended|start"):
        opened(f"filesrc location={tmp_path / 'broken.avi'} ! decodebin", timeout_s=3.0)


@needs_gstreamer
def test_a_pipeline_without_frames_is_given_up() -> None:
    with pytest.raises(SourceError, match=r"in time|start"):
        opened("videotestsrc is-live=true ! valve drop=true", timeout_s=0.5)


@needs_gstreamer
def test_frames_may_change_their_size() -> None:
    """Two streams of different sizes, one after the other, as a camera that is switched to another mode."""
    two = (
        "videotestsrc num-buffers=30 ! video/x-raw,width=32,height=24,framerate=30/1 ! both. "
        "videotestsrc num-buffers=30 ! video/x-raw,width=50,height=40,framerate=30/1 ! both. concat name=both"
    )
    clock = RealClock()
    reader = GstReader(two, "two", clock, 20.0)
    sizes = [arrival.pixels().shape for arrival in reader]
    reader.close()
    assert sizes[0] == (24, 32, 3)
    assert sizes[-1] == (40, 50, 3)
    assert sizes == sorted(sizes)


@needs_gstreamer
@pytest.mark.parametrize("through", ["gst", "ffmpeg"])
def test_a_server_that_is_stopped_and_started_again_is_found_again(
    through: str,
    rtsp_server: Serve,  # noqa: F811
) -> None:
    lacks = gstreamer.element_problem("x264enc", "rtph264pay", "rtspsrc", "avdec_h264")
    if lacks:
        pytest.skip(lacks)
    port = free_port()
    first = rtsp_server(port, 64, 48)
    url = f"rtsp://127.0.0.1:{port}/camera"
    source = f"gst:rtspsrc location={url} latency=0 protocols=tcp ! decodebin" if through == "gst" else url
    losses: list[str] = []
    with open_source(
        source, SourceOptions(timeout_s=5.0, reconnect_s=60.0), RealClock(), on_loss=losses.append
    ) as camera:
        frames = iter(camera)
        assert next(frames).image.shape == (48, 64, 3)
        first.kill()
        first.wait()
        rtsp_server(port, 96, 80)  # it comes back in another size
        shape = next(size for size in shapes(frames) if size != (48, 64, 3))
    assert shape == (80, 96, 3)
    assert any("trying again" in loss for loss in losses)


def shapes(frames: Iterator[Frame]) -> Iterator[tuple[int, ...]]:
    for frame in frames:
        yield frame.image.shape


@needs_gstreamer
def test_options_that_a_pipeline_says_itself_are_refused() -> None:
    for options in ({"fps": 10.0}, {"input_options": {"video_size": "1x1"}}):
        with pytest.raises(UsageError, match="whose pipeline"):
            opened(LIVE, **options)


def test_the_pipeline_of_a_csi_camera() -> None:
    assert csi_pipeline("0", None, {}) == (
        "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),width=1280,height=720 ! "
        "nvvidconv ! video/x-raw,format=BGRx"
    )
    asked = csi_pipeline("1", 30.0, {"video_size": "1920x1080"})
    assert "sensor-id=1" in asked
    assert "width=1920,height=1080,framerate=30000/1000" in asked


@pytest.mark.parametrize(
    ("sensor", "options"),
    [("", {}), ("0 ! filesink location=x", {}), ("-1", {}), ("0", {"video_size": "big"}), ("0", {"a": "b"})],
)
def test_a_csi_camera_takes_nothing_else(sensor: str, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="csi://N"):
        csi_pipeline(sensor, None, options)


@needs_gstreamer
def test_without_a_jetson_there_is_no_csi_camera() -> None:
    with pytest.raises(UsageError, match="nvarguscamerasrc"):
        open_source("csi://0", SourceOptions(), RealClock())


def test_without_the_binding_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(MissingExtraError, match=r"python3-gi.*ocl-edge\[gstreamer\]"):
        opened(LIVE)
