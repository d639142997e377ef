"""Videos, cameras and streams: none of these tests needs a camera, and none sleeps to pass."""

from __future__ import annotations

import itertools
import json
import queue
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FrameError, MissingExtraError, SourceError, UsageError
from ocl_edge_app.cli import run
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.loop import run_stream
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.sources import Source, SourceOptions, open_source, opening
from ocl_edge_runtime.sources.base import Arrival
from ocl_edge_runtime.sources.live import LiveSource
from ocl_edge_runtime.sources.recording import PacedReader
from ocl_edge_runtime.sources.video import VideoReader, rate_of_times
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.videos import LENGTH, make_video


class FakeReader:
    """A stream that gives what the test puts into it, when the test does so.

    ``put`` returns once the frame is in the slot; an exception that is put breaks the stream, None ends it.
    """

    def __init__(self, clock: SimulatedClock, rate: float | None = None) -> None:
        self.clock = clock
        self.rate = rate
        self.closed = self.ends = False
        self.decoded: list[int] = []
        self._queue: queue.Queue[int | Exception | None] = queue.Queue()

    def put(self, *contents: int | Exception | None) -> None:
        for content in contents:
            self._queue.put(content)
        self._queue.join()

    def __iter__(self) -> Iterator[Arrival]:
        while True:
            content = self._queue.get()
            try:
                if content is None:
                    return
                if isinstance(content, Exception):
                    raise content
                yield Arrival(self.clock.now(), self._pixels_of(content))
            finally:
                self._queue.task_done()

    def _pixels_of(self, seed: int) -> Callable[[], np.ndarray]:
        def pixels() -> np.ndarray:
            self.decoded.append(seed)
            if seed < 0:
                raise FrameError("is damaged")
            return random_image(seed)

        return pixels

    def close(self) -> None:
        self.closed = True


def live(reader: FakeReader, **options: object) -> LiveSource:
    return LiveSource("/dev/video0", reader, reader.clock, reopen=lost_for_good, **options)  # type: ignore[arg-type]


def lost_for_good() -> FakeReader:
    raise SourceError("cannot open /dev/video0: No such file or directory")


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.mkv", "libx264"), ("a.avi", "mjpeg")])
def test_a_video_gives_its_frames_in_order(tmp_path: Path, name: str, codec: str) -> None:
    source = open_source(str(make_video(tmp_path / name, codec)), SourceOptions(), RealClock())
    for _ in range(2):  # every iteration starts anew
        frames = list(source)
        assert [f.index for f in frames] == list(range(LENGTH))
        assert frames[11].name == "000011"
        assert all(f.decode_ms > 0 for f in frames)
        for frame in frames:
            assert frame.image.dtype == np.uint8
            assert frame.image.shape == (48, 64, 3)
            error = np.abs(frame.image.astype(int) - random_image(frame.index, 48, 64)).mean()
            assert error < 20  # 60 to 90 between different frames
    assert source.skipped == 0


def frames_of(video: Path) -> Source:
    return open_source(str(video), SourceOptions(), RealClock())


def test_lossless_video_is_red_green_blue(tmp_path: Path) -> None:
    source = open_source(str(make_video(tmp_path / "a.mkv", "ffv1")), SourceOptions(limit=3), RealClock())
    frames = list(source)
    assert source.total == 3
    for index in range(3):
        assert np.array_equal(frames[index].image, random_image(index, 48, 64))


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_of_the_metadata_is_applied(tmp_path: Path, degrees: int) -> None:
    """Positive angles turn counterclockwise."""
    turned = next(
        iter(
            open_source(
                str(make_video(tmp_path / "turned.mp4", "mpeg4", degrees)), SourceOptions(), RealClock()
            )
        )
    ).image
    straight = next(iter(frames_of(make_video(tmp_path / "straight.mp4", "mpeg4")))).image
    assert np.array_equal(turned, np.rot90(straight, degrees // 90))
    assert turned.flags.c_contiguous


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.avi", "mjpeg")])
def test_damaged_frames_are_skipped_and_counted(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / name, codec)
    with av.open(str(path)) as container:
        spans = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for start, size in (spans[3], spans[7]):
        content[start + size // 4 : start + 3 * size // 4] = bytes(3 * size // 4 - size // 4)
    path.write_bytes(content)
    skipped: dict[str, str] = {}
    source = open_source(str(path), SourceOptions(), RealClock(), skipped.__setitem__)
    assert [f.index for f in source] == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]
    assert list(skipped) == ["frame 000003", "frame 000007"]
    assert source.skipped == 2


def test_a_truncated_video_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    skipped: dict[str, str] = {}
    source = open_source(str(path), SourceOptions(), RealClock(), skipped.__setitem__)
    frames = list(source)
    assert 1 < len(frames) < LENGTH - 1
    assert f"of {LENGTH} frames" in skipped["the rest"]
    whole = [f.image for f in frames_of(make_video(tmp_path / "b.mp4", "mpeg4"))]
    assert all(np.array_equal(frame.image, whole[frame.index]) for frame in frames)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video at all")
    (tmp_path / "empty.mp4").touch()
    late_index = make_video(tmp_path / "cut.mp4", "mpeg4", index_first=False)
    late_index.write_bytes(late_index.read_bytes()[:900])  # the index of the file comes last, and is lost
    for name in ("notes.txt", "empty.mp4", "cut.mp4"):
        with pytest.raises(SourceError, match=f"cannot open .*{name}: "):
            open_source(str(tmp_path / name), SourceOptions(), RealClock())
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(SourceError, match=r"sound.mp4 holds no video"):
        open_source(str(tmp_path / "sound.mp4"), SourceOptions(), RealClock())


def test_cameras_and_streams_that_are_not_there_are_refused() -> None:
    with pytest.raises(SourceError, match="cannot open /dev/video77: No such file"):
        open_source("/dev/video77", SourceOptions(), RealClock())
    with pytest.raises(SourceError, match=r"cannot open rtsp://\*\*\*@127\.0\.0\.1:9/x: Connection refused"):
        open_source("rtsp://user:secret@127.0.0.1:9/x", SourceOptions(timeout_s=2), RealClock())


def test_a_camera_is_asked_for_its_rate_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def opener(location, clock, form=None, options=None, timeout_s=None):  # type: ignore[no-untyped-def]
        asked.append((location, form, options, timeout_s))
        reader = FakeReader(clock, rate=15.0)
        reader.name = location  # type: ignore[attr-defined]
        return reader

    monkeypatch.setattr(opening, "VideoReader", opener)
    options = SourceOptions(fps=15, input_options={"video_size": "640x480"})
    source = open_source("/dev/video3", options, SimulatedClock())
    assert source.rate == 15
    assert asked == [("/dev/video3", "v4l2", {"framerate": "15", "video_size": "640x480"}, None)]
    open_source("rtsp://camera/1", SourceOptions(timeout_s=3), SimulatedClock())
    assert asked[1][1] is None
    assert (
        asked[1][2].items() >= {"fflags": "nobuffer", "flags": "low_delay", "rtsp_transport": "tcp"}.items()
    )
    assert asked[1][3] == 3
    with pytest.raises(UsageError, match="comes at its own rate anyway"):
        open_source("/dev/video3", SourceOptions(fps="own"), SimulatedClock())


def test_options_for_another_kind_of_source_are_refused(frames: Path) -> None:
    with pytest.raises(UsageError, match="--reconnect and --source-option are for cameras"):
        open_source(str(frames), SourceOptions(reconnect_s=3), RealClock())
    with pytest.raises(UsageError, match="--fps own plays a video file"):
        open_source(str(frames), SourceOptions(fps="own"), RealClock())


def test_without_pyav_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_video(tmp_path / "a.avi")
    monkeypatch.setitem(sys.modules, "av", None)
    for source in (str(video), "/dev/video0", "rtsp://camera/1"):
        with pytest.raises(MissingExtraError, match=r"needs PyAV: pip install 'ocl-edge\[video\]'"):
            open_source(source, SourceOptions(), RealClock())


def test_the_newest_frame_of_a_live_source_wins() -> None:
    reader = FakeReader(SimulatedClock(), rate=10.0)
    source = live(reader)
    source.start()
    reader.put(90, 91)  # before anybody asks: no drops
    frames = iter(source)
    reader.put(0)
    first = next(frames)
    reader.clock.time = 1.0
    reader.put(1, 2)
    reader.clock.time = 1.5
    reader.put(3)
    second = next(frames)
    assert (source.rate, source.dropped) == (10.0, 2)
    assert np.array_equal(first.image, random_image(0))
    assert np.array_equal(second.image, random_image(3))
    assert (second.captured_at, second.index - first.index) == (1.5, 3)
    assert reader.decoded == [0, 3]  # dropped frames are never turned into pixels


def test_corrupt_frames_of_a_live_source_are_skipped_and_the_limit_holds() -> None:
    reader = FakeReader(SimulatedClock())
    skipped: dict[str, str] = {}
    source = live(reader, limit=2, on_skip=skipped.__setitem__)
    frames = iter(source)
    reader.put(0)
    assert next(frames).index == 0
    reader.put(-1)
    assert list(frames) == []
    assert skipped == {"frame 000001": "is damaged"}
    assert source.skipped == 1


class HastyClock(SimulatedClock):
    """A second passes whenever somebody looks."""

    def now(self) -> float:
        self.time += 1.0
        return self.time


def test_a_silent_stream_fails_after_the_timeout() -> None:
    source = live(FakeReader(HastyClock()), timeout_s=5.0)
    with pytest.raises(
        SourceError, match=r"/dev/video0 has given no frame for [67]\.0 s: is it still connected"
    ):
        next(iter(source))


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (SourceError("/dev/video0 broke off: No such device"), "broke off"),
        (None, "has stopped"),
        (KeyError("x"), "x"),
    ],
)
def test_a_reader_that_dies_is_raised_after_its_last_frame(ending: Exception | None, message: str) -> None:
    reader = FakeReader(SimulatedClock())
    source = live(reader)
    frames = iter(source)
    reader.put(7, ending)
    assert np.array_equal(next(frames).image, random_image(7))
    with pytest.raises(type(ending) if ending else SourceError, match=message):
        next(frames)
    assert reader.closed


def test_a_lost_stream_is_opened_again_with_growing_pauses() -> None:
    clock = SimulatedClock()
    first, second = FakeReader(clock), FakeReader(clock)
    attempts, losses = [], []

    def reopen() -> FakeReader:
        attempts.append(clock.now())
        if len(attempts) < 3:
            raise SourceError("cannot open /dev/video0: Device or resource busy")
        return second

    source = LiveSource(
        "/dev/video0", first, clock, reopen=reopen, reconnect_s=10.0, timeout_s=100.0, on_loss=losses.append
    )
    frames = iter(source)
    first.put(1, SourceError("unplugged"))
    next(frames)
    second.put(2, None)
    assert np.array_equal(next(frames).image, random_image(2))
    assert attempts[:3] == [0.5, 1.5, 3.5]
    assert losses[0] == "unplugged; trying again in 0.5 s"
    assert "busy; trying again in 2.0 s" in losses[2]


def test_a_stream_that_stays_lost_gives_up_in_time() -> None:
    clock = SimulatedClock()
    reader = FakeReader(clock)
    source = LiveSource("cam", reader, clock, reopen=lost_for_good, reconnect_s=4.0, timeout_s=100.0)
    frames = iter(source)
    reader.put(None)
    with pytest.raises(SourceError, match="cannot open /dev/video0"):
        next(frames)
    assert clock.now() == 3.5  # 0.5 + 1 + 2; another 4 would be too long


def test_a_video_is_paced_at_its_own_times_or_at_a_rate(tmp_path: Path) -> None:
    times = [0, 1, 2, 5, 6, 7, 8, 9, 10, 20, 21, 22]
    path = str(make_video(tmp_path / "a.mkv", times=times))
    clock = SimulatedClock()
    clock.time = 100.0
    own = list(PacedReader(VideoReader(path, clock), clock, "own"))
    assert [a.captured_at for a in own] == pytest.approx([100 + t / 10 for t in times], abs=2e-3)
    assert clock.now() == pytest.approx(102.2, abs=2e-3)
    clock.time = 0.0
    paced = list(PacedReader(VideoReader(path, clock), clock, 4.0))
    assert [a.captured_at for a in paced] == pytest.approx([t / 4 for t in range(LENGTH)])


@pytest.mark.parametrize("claimed", [1000, 5])
def test_a_video_is_as_fast_as_its_frames_come_whatever_its_header_claims(
    tmp_path: Path, claimed: int
) -> None:
    tick = Fraction(1, 1000)
    path = tmp_path / "recording.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=claimed)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = tick
        for index in range(LENGTH):
            picture = av.VideoFrame.from_ndarray(random_image(index, 48, 64), format="rgb24")
            frame = picture.reformat(format="yuv420p")
            frame.pts, frame.time_base = 33 * index + index % 2, tick  # times of a browser jitter
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert rate_of_times(path) == pytest.approx(30, abs=2)
    source = open_source(str(path), SourceOptions(fps="own"), SimulatedClock())
    assert source.rate == pytest.approx(30, abs=2)
    source.close()


@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114)])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_what_the_video_says_they_are(
    tmp_path: Path, matrix: int, kr: float, kb: float, full_range: bool
) -> None:
    """BT.709 and BT.601, both ranges, against the matrices of the standards."""
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 120, 40]]) / 255
    red, green, blue = palette.T
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    scale, offset, chroma_scale = (255, 0, 255) if full_range else (219, 16, 224)
    planes = [luma * scale + offset, *(128 + chroma_scale * c for c in chroma)]
    y, u, v = (np.repeat(np.clip(p.round(), 0, 255).astype(np.uint8), 16) for p in planes)
    rows = [np.tile(y, (48, 1)), np.tile(u[::2], (24, 1)), np.tile(v[::2], (24, 1))]
    content = np.concatenate([r.reshape(-1) for r in rows]).reshape(72, 64)
    path = tmp_path / "tagged.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = 64, 48, "yuv420p", {"qp": "0"}
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1 + full_range
        frame = av.VideoFrame.from_ndarray(content, format="yuv420p")
        frame.colorspace, frame.color_range = matrix, 1 + full_range
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    seen = next(iter(open_source(str(path), SourceOptions(), SimulatedClock()))).image.astype(int)
    expected = (255 * palette).round().astype(int)
    assert np.abs(seen[24, 8::16] - expected).max() <= 3


def test_a_paced_video_ends_without_a_failure(small_bundle: Bundle, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "mpeg4")
    source = open_source(str(path), SourceOptions(fps=200.0), RealClock())
    assert source.rate == 200.0
    report = run_stream(open_session(small_bundle, SessionOptions("frozen")), source, [])
    assert report.source_failure is None
    assert report.frames + report.dropped == LENGTH
    assert report.frames > 0


def test_a_dying_camera_saves_reports_and_exits_with_one(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(FakeReader):
        name = "/dev/video0"

        def __iter__(self) -> Iterator[Arrival]:
            for seed in itertools.count():
                if len(self.decoded) == 3:
                    raise SourceError("/dev/video0 broke off: No such device")
                yield Arrival(self.clock.now(), self._pixels_of(seed))
                self.clock.sleep_until(self.clock.now() + 0.001)

    monkeypatch.setattr(opening, "VideoReader", lambda _location, clock, *_: Dying(clock, 10.0))
    state = tmp_path / "state"
    arguments = [
        "run",
        str(small_bundle.path),
        "--source",
        "/dev/video0",
        "--state",
        str(state),
        "--json",
        "-",
    ]
    assert run(arguments) == 1
    streams = capsys.readouterr()
    report = json.loads(streams.out)
    assert report["source_failure"] == "/dev/video0 broke off: No such device"
    assert report["frames"] == 3
    assert streams.err.strip().endswith("error: /dev/video0 broke off: No such device")
    assert (state / "state.safetensors").exists()
