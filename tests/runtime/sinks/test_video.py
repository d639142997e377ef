"""Masks as a video: pictures, times and sizes read back; kills and full disks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from ocl_edge import durable
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OutputError, UsageError
from ocl_edge.images import ColourOverlay
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks import open_sinks
from ocl_edge_runtime.sinks.video import VideoSink
from tests.doubles.images import random_image

PALETTE = [(255, 0, 0), (0, 0, 255)]
MASK = (np.indices((48, 64)).sum(0) > 50).astype(np.uint8)


def frame(index: int, height: int = 48, width: int = 64, at: float | None = None) -> Frame:
    captured_at = 100 + index / 10 if at is None else at
    return Frame(random_image(index, height, width), index, f"{index:06d}", captured_at)


def emit_many(sink: VideoSink) -> None:
    for index in range(600):
        sink.emit(frame(index % 5), MASK)


def read(path: Path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [f.to_ndarray(format="rgb24") for f in frames], [float(f.pts * f.time_base) for f in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_shows_the_overlays_at_the_times_of_the_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"out{suffix}"
    with VideoSink(path, PALETTE) as sink:
        for index in range(6):
            sink.emit(frame(index, at=100 + index**2 / 10), MASK)
    pictures, times = read(path)
    assert times == pytest.approx([index**2 / 10 for index in range(6)], abs=0.002)
    for index, picture in enumerate(pictures):
        expected = ColourOverlay(PALETTE).over(frame(index).image, MASK)
        assert np.abs(picture.astype(int) - expected).mean() < 8  # H.264, and half the colour's resolution


def test_frames_that_are_asked_for_have_their_own_rate(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", PALETTE, frame_s=0.04) as sink:
        for index in range(5):
            sink.emit(frame(index, at=7.0), MASK)  # read as fast as they could be
    assert read(tmp_path / "out.mp4")[1] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=0.002)


def test_beside_the_frame(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", PALETTE, beside=True) as sink:
        sink.emit(frame(0), MASK)
    (picture,), _ = read(tmp_path / "out.mp4")
    assert picture.shape == (48, 128, 3)
    assert np.abs(picture[:, :64].astype(int) - frame(0).image).mean() < 8


def test_odd_and_changing_sizes_become_the_first_ones_rounded_down(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", PALETTE) as sink:
        sink.emit(frame(0, 49, 65), np.zeros((49, 65), np.uint8))
        sink.emit(frame(1, 20, 30), MASK)
    assert [picture.shape for picture in read(tmp_path / "out.mp4")[0]] == [(48, 64, 3)] * 2


def test_times_that_go_back_still_rise(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", PALETTE) as sink:
        for at in (5.0, 5.0, 4.0, 6.0):
            sink.emit(frame(0, at=at), MASK)
    times = read(tmp_path / "out.mp4")[1]
    assert len(times) == 4
    assert all(before < after for before, after in pairwise(times))


def test_what_was_written_before_a_kill_can_be_played(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", PALETTE)
    for index in range(600):
        sink.emit(frame(index % 5, at=index / 10), MASK)
    killed = tmp_path / "killed.mp4"
    killed.write_bytes((tmp_path / "out.mp4").read_bytes())
    assert len(read(killed)[0]) > 300
    sink.close()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "drive.mp4").write_text("the source")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    for name in ("drive.mp4", "link.mp4"):
        with pytest.raises(UsageError, match="is there already"):
            VideoSink(tmp_path / name, PALETTE)
    assert (tmp_path / "drive.mp4").read_text("utf-8") == "the source"
    with pytest.raises(UsageError, match="ends with"):
        VideoSink(tmp_path / "out.avi", PALETTE)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the video"):
        VideoSink(tmp_path / "file" / "out.mp4", PALETTE)


def test_a_full_disk_is_an_error_of_the_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = durable.open_for_lines(Path("/dev/full"), append=False)
    monkeypatch.setattr(durable, "open_for_lines", lambda *_args, **_named: full)
    sink = VideoSink(tmp_path / "out.mp4", PALETTE)
    with pytest.raises(OutputError, match="No space left"):
        emit_many(sink)


def test_run_takes_videos_as_sinks(small_bundle: Bundle, tmp_path: Path) -> None:
    texts = [f"video:{tmp_path / 'a.mp4'}", f"compare:{tmp_path / 'b.mp4'}"]
    sinks = open_sinks(texts, small_bundle.manifest, [], frame_s=0.1)
    for sink in sinks:
        sink.emit(frame(0), np.zeros((48, 64), np.uint8))
        sink.close()
    assert read(tmp_path / "a.mp4")[0][0].shape == (48, 64, 3)
    assert read(tmp_path / "b.mp4")[0][0].shape == (48, 128, 3)
