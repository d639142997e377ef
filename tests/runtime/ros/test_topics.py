from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from ocl_edge.errors import SourceError, UsageError
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.ros.messages import IMAGE as MESSAGE
from ocl_edge_runtime.ros.topics import join_graph
from ocl_edge_runtime.session.frames import Frame, FrameResult, Header
from ocl_edge_runtime.sinks.ros2 import TopicSink
from ocl_edge_runtime.sources import Source, SourceOptions, open_source
from tests.doubles.dds import HEIGHT, STAMP, WIDTH, pixels

Other = Callable[..., "subprocess.Popen[str]"]
IMAGE = "/camera/image_raw"
PALETTE = [(10, 20, 30), (200, 100, 50)]


def opened(topic: str = IMAGE, **options: object) -> Source:
    return open_source(f"ros2:{topic}", SourceOptions(**{"timeout_s": 20.0, **options}), RealClock())  # type: ignore[arg-type]


def newest(source: Source) -> Frame:
    return next(iter(source))


def index_of(frame: Frame) -> int:
    assert frame.header is not None
    return frame.header.stamp_ns % 10**9 - STAMP[1]


@pytest.mark.parametrize(
    "encoding",
    [
        "rgb8",
        "bgr8",
        "rgba8",
        "bgra8",
        "mono8",
        "mono16",
        "mono16-big",
        "yuv422",
        "yuv422_yuy2",
        "bayer_rggb8",
    ],
)
def test_every_encoding_comes_through_with_its_header(encoding: str, other: Other) -> None:
    other("publish", IMAGE, encoding, 1000)
    with opened() as source:
        frame = newest(source)
    assert frame.header is not None
    assert frame.header.frame_id == "front"
    assert frame.header.stamp_ns // 10**9 == STAMP[0]
    shown = pixels(index_of(frame)).astype(int)
    apart = np.abs(frame.image.astype(int) - shown)
    if encoding.startswith("bayer"):  # a mosaic of the grey squares: their own pixel is exact in its colour
        assert apart[0::2, 0::2, 0].max() == 0
    else:
        assert apart.max() <= (1 if encoding.startswith("yuv") else 0)


def test_compressed_images_come_through(other: Other) -> None:
    other("publish", f"{IMAGE}/compressed", "jpeg", 1000)
    with opened(f"{IMAGE}/compressed") as source:
        frame = newest(source)
    assert frame.image.shape == (HEIGHT, WIDTH, 3)


def test_a_publisher_may_come_late(other: Other) -> None:
    other("publish", "/elsewhere", "rgb8", 1000)
    late = time.monotonic() + 1.5
    threading.Timer(1.5, lambda: other("publish", IMAGE, "rgb8", 1000)).start()
    with opened() as source:
        assert newest(source).image.shape == (HEIGHT, WIDTH, 3)
    assert time.monotonic() > late


def test_a_publisher_may_go_and_come_back(other: Other) -> None:
    first = other("publish", IMAGE, "rgb8", 1000)
    with opened() as source:
        frames = iter(source)
        next(frames)
        first.kill()
        first.wait()
        time.sleep(0.5)
        other("publish", IMAGE, "mono8", 1000)
        kinds = [next(frames) for _ in range(3)]
    assert len(kinds) == 3


def test_a_publisher_may_take_its_leave(other: Other) -> None:
    """It ends as programs do, and tells so: that is no message."""
    other("publish", IMAGE, "rgb8", 60)
    with opened(timeout_s=10.0) as source:
        frames = iter(source)
        next(frames)
        source.timeout_s = 2.0  # type: ignore[attr-defined]
        with pytest.raises(SourceError, match="no frame for"):
            list(frames)


def test_a_publisher_that_falls_silent_is_a_failure(other: Other) -> None:
    process = other("publish", IMAGE, "rgb8", 1000)
    with opened(timeout_s=6.0) as source:
        source.timeout_s = 1.0  # type: ignore[attr-defined]
        frames = iter(source)
        next(frames)
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(SourceError, match="no frame for"):
                for _ in frames:
                    pass
        finally:
            process.send_signal(signal.SIGCONT)


def test_a_topic_without_a_publisher_says_so(graph: str) -> None:
    with pytest.raises(SourceError, match=r"nobody publishes /camera/image_raw \(0\.3 s"):
        opened(timeout_s=0.3)


def test_a_topic_of_another_type_says_which(other: Other) -> None:
    other("publish", IMAGE, "text", 1000)
    with pytest.raises(UsageError, match="published is std_msgs/msg/String"):
        opened()


@pytest.mark.parametrize("name", ["camera", "/camera/", "//camera", "/1camera", "/cam era", ""])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="full name of a topic"):
        opened(name)


def test_closing_ends_the_thread_that_listens(other: Other) -> None:
    other("publish", IMAGE, "rgb8", 1000)
    source = opened()
    newest(source)
    assert f"read ros2:{IMAGE}" in [thread.name for thread in threading.enumerate()]
    source.close()
    assert f"read ros2:{IMAGE}" not in [thread.name for thread in threading.enumerate()]


def masks(sink: TopicSink, count: int, pause_s: float = 0.05) -> float:
    """Emits them, and gives the seconds that the slowest took."""
    slowest = 0.0
    for index in range(count):
        header = Header(STAMP[0] * 10**9 + index, "front/optical")
        frame = Frame(pixels(index), index, f"{index:06d}", time.monotonic(), header=header)
        mask = (pixels(index)[..., 0] > 100).astype(np.uint8)
        began = time.perf_counter()
        sink.emit(frame, mask)
        sink.told(frame, FrameResult(mask, Verdict(Reason.AT_HOME), {"emit": 3.0}, opening=0.25))
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(pause_s)
    return slowest


def heard(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    said, _ = process.communicate(timeout=60)
    return [json.loads(line) for line in said.splitlines()]


def test_masks_are_published_with_the_headers_of_their_frames(other: Other) -> None:
    topics = ("mask", "overlay", "diagnostics")
    listening = {topic: other("listen", f"/ocl_edge/{topic}", 40, 10) for topic in topics}
    with TopicSink("/ocl_edge/mask", PALETTE, None) as sink:
        while any(process.poll() is None for process in listening.values()):
            masks(sink, 10)
    got = {topic: heard(process) for topic, process in listening.items()}
    for message in got["mask"] + got["overlay"] + got["diagnostics"]:
        assert message["frame_id"] == "front/optical"
        assert message["stamp"][0] == STAMP[0]  # type: ignore[index]
    assert set(map(len, got.values())) == {10}
    for message in got["mask"]:
        index = message["stamp"][1]  # type: ignore[index]
        assert (message["encoding"], message["size"]) == ("mono8", [HEIGHT, WIDTH, WIDTH])
        assert message["data"] == (pixels(index)[..., 0] > 100).astype(int).ravel().tolist()
    assert got["overlay"][0]["encoding"] == "rgb8"
    assert got["overlay"][0]["size"] == [HEIGHT, WIDTH, 3 * WIDTH]
    values = got["diagnostics"][0]["values"]
    assert values["opening"] == "0.25"  # type: ignore[index]
    assert values["update"] == str(Verdict(Reason.AT_HOME))  # type: ignore[index]


def test_a_listener_that_stalls_delays_no_mask(other: Other) -> None:
    process = other("listen", "/ocl_edge/mask", 60, 1000)
    node = join_graph()
    with TopicSink("/ocl_edge/mask", PALETTE, None, node) as sink:
        beside = node.advertise("/ocl_edge/mask", MESSAGE)
        give_up_at = time.monotonic() + 20
        while not beside.listeners() and time.monotonic() < give_up_at:
            time.sleep(0.1)
        assert beside.listeners() == 1
        del beside
        process.send_signal(signal.SIGSTOP)
        try:
            assert masks(sink, 300, pause_s=0.0) < 1.0
        finally:
            process.send_signal(signal.SIGCONT)
        assert sink.left_out == 0


@pytest.mark.parametrize("domain", ["-1", "233", "robot"])
def test_a_domain_that_is_none_is_refused(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    with pytest.raises(UsageError, match="ROS_DOMAIN_ID"):
        opened()


def test_settings_that_dds_does_not_understand_are_a_source_error(
    graph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "CYCLONEDDS_URI",
        "<CycloneDDS><Domain><General><Interfaces>"
        "<NetworkInterface name='none9'/></Interfaces></General></Domain></CycloneDDS>",
    )
    with pytest.raises(SourceError, match="CYCLONEDDS_URI"):
        opened()
