"""Where rclpy can be imported, topics go through it. Against a stand-in: ROS 2 itself is not on PyPI."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from ocl_edge.errors import FrameError, MissingExtraError, SourceError
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.ros.topics import join_graph
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.sinks.ros2 import TopicSink
from ocl_edge_runtime.sources import SourceOptions, open_source
from ocl_edge_runtime.sources.ros2 import TopicReader
from tests.doubles.rclpy_graph import Graph
from tests.doubles.ros_messages import IMAGE, ROS, START_NS, cdr, image_message, picture


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    made = Graph()
    for name, module in made.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


def test_a_topic_is_heard_through_rclpy(graph: Graph) -> None:
    graph.published["/camera"] = IMAGE
    with open_source("ros2:/camera", SourceOptions(), RealClock()) as source:
        frames = iter(source)
        for index in range(3):
            graph.send("/camera", cdr(image_message(picture(index).reshape(24, -1))))
            frame = next(frames)
            assert np.array_equal(frame.image, picture(index))
            assert frame.header is not None
            assert (frame.header.stamp_ns, frame.header.frame_id) == (START_NS, "camera")
    assert graph.events[:2] == ["init", "spinning"]
    assert graph.events[2:] == ["executor down", "destroyed", "shut down"]


def test_a_malformed_message_is_an_arrival_without_pixels(graph: Graph) -> None:
    graph.published["/camera"] = IMAGE
    reader = TopicReader("/camera", RealClock(), timeout_s=1.0)
    arrivals = iter(reader)
    graph.send("/camera", b"\0\1\0\0junk")
    with pytest.raises(FrameError, match="cut off"):
        next(arrivals).pixels()
    graph.send("/camera", cdr(image_message(picture(0).reshape(24, -1))))
    assert np.array_equal(next(arrivals).pixels(), picture(0))
    reader.close()


def test_nobody_publishes(graph: Graph) -> None:
    with pytest.raises(SourceError, match="nobody publishes /camera"):
        open_source("ros2:/camera", SourceOptions(timeout_s=0.2), RealClock())
    assert graph.events[-1] == "shut down"


def test_masks_are_published_through_rclpy(graph: Graph) -> None:
    mask = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 5
    frame = Frame(picture(0), 0, "000000", time.monotonic())
    with TopicSink("/ocl_edge/mask", [(9, 9, 9)], None) as sink:
        sink.emit(frame, mask)
        sink.told(frame, FrameResult(mask, Verdict(Reason.AT_HOME)))
    sent = ROS.deserialize_cdr(graph.sent["/ocl_edge/mask"][0], IMAGE)
    assert np.array_equal(sent.data.reshape(24, 32), mask)
    assert abs(sent.header.stamp.sec - time.time()) < 60
    assert len(graph.sent["/ocl_edge/overlay"]) == 1
    assert len(graph.sent["/ocl_edge/diagnostics"]) == 1


def test_without_ros_and_cyclone_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rclpy", "cyclonedds", "cyclonedds.builtin"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("ocl_edge_runtime.ros.through_dds", "ocl_edge_runtime.ros.dds_types"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingExtraError, match=r"ocl-edge\[ros2\]"):
        join_graph()
