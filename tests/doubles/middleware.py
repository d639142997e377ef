"""Stand-ins for ROS 2 (rclpy) and GStreamer (gi), as much of them as our examples touch.

They deliver images to the callbacks, rows padded as the real ones pad them, and keep what
is published. That says that the examples' own code works, not that ROS 2 or GStreamer does.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

IMAGES = 3
HEIGHT, WIDTH = 20, 30  # a row of 90 bytes: GStreamer pads it to 92


@dataclass
class Delivered:
    """What came out of the callbacks."""

    published: list[RosImage] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)

    def check(self, code: str) -> None:
        """After code that uses a stand-in: every image gave a mask of its size."""
        if "rclpy" in code:
            assert {type(image.data) for image in self.published} == {array.array}  # taken over uncopied
            assert [(i.height, i.width, len(i.data)) for i in self.published] == IMAGES * [
                (HEIGHT, WIDTH, HEIGHT * WIDTH)
            ]
        if "Gst" in code:
            assert self.returned == IMAGES * ["ok"]


def install() -> tuple[dict[str, ModuleType], Delivered]:
    """The modules by name, for `sys.modules`, and what they will be given."""
    delivered = Delivered()
    rclpy = _module("rclpy", init=_do_nothing, shutdown=_do_nothing, spin=lambda node: node.receive())
    return {
        "rclpy": rclpy,
        "rclpy.node": _module("rclpy.node", Node=_node_class(delivered)),
        "rclpy.qos": _module(
            "rclpy.qos", QoSProfile=_quality, ReliabilityPolicy=SimpleNamespace(BEST_EFFORT="best effort")
        ),
        "sensor_msgs": _module("sensor_msgs"),
        "sensor_msgs.msg": _module("sensor_msgs.msg", Image=RosImage),
        "gi": _module("gi", require_version=_do_nothing),
        "gi.repository": _module("gi.repository", Gst=_gst(delivered)),
    }, delivered


def _quality(*, depth: int, reliability: str) -> tuple[int, str]:
    return depth, reliability


def _do_nothing(*_arguments: Any) -> None:
    pass


def pixels(index: int) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3]; every image is another one."""
    return np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


class RosImage:
    """sensor_msgs/Image: fields by keyword, ``data`` any bytes."""

    def __init__(self, **fields: Any) -> None:
        self.header, self.data, self.is_bigendian = SimpleNamespace(stamp=0), b"", 0
        self.__dict__.update(fields)


def _node_class(delivered: Delivered) -> type:
    class Node:
        def __init__(self, name: str) -> None:
            self.callbacks: list[Callable[[RosImage], None]] = []

        def declare_parameter(self, name: str, default: Any) -> Any:
            return SimpleNamespace(value=default)

        def create_publisher(self, kind: type, topic: str, qos: Any) -> Any:
            return SimpleNamespace(publish=delivered.published.append)

        def create_subscription(
            self, kind: type, topic: str, callback: Callable[[RosImage], None], qos: Any
        ) -> None:
            self.callbacks.append(callback)

        def get_logger(self) -> Any:
            return SimpleNamespace(error=print)

        def receive(self) -> None:
            for malformed in self.malformed():
                for callback in self.callbacks:
                    callback(malformed)
            for index in range(IMAGES):
                padded = np.pad(pixels(index).reshape(HEIGHT, 3 * WIDTH), ((0, 0), (0, 6)))
                message = RosImage(
                    height=HEIGHT,
                    width=WIDTH,
                    encoding=("rgb8", "bgr8")[index % 2],
                    step=padded.shape[1],
                    data=padded.tobytes(),
                )
                for callback in self.callbacks:
                    callback(message)

        def malformed(self) -> list[RosImage]:
            """Images that a driver should not send, and some do: none may end the node."""
            good = {"height": 4, "width": 5, "encoding": "rgb8", "step": 15, "data": bytes(60)}
            wrong: list[dict[str, Any]] = [
                {"height": 0, "width": 0, "step": 0, "data": b""},
                {"step": 0},
                {"step": 14},
                {"data": bytes(59)},
                {"data": b""},
                {"width": 2**32 - 1},
                {"height": 2**32 - 1},
                {"encoding": "32FC1"},
                {"encoding": ""},
            ]
            return [RosImage(**{**good, **fields}) for fields in wrong]

    return Node


def _gst(delivered: Delivered) -> Any:
    return SimpleNamespace(
        init=_do_nothing,
        parse_launch=lambda description: _Pipeline(delivered),
        FlowReturn=SimpleNamespace(OK="ok"),
        MapFlags=SimpleNamespace(READ="read"),
        State=SimpleNamespace(PLAYING="playing", NULL="null"),
        MessageType=SimpleNamespace(EOS=1, ERROR=2),
        CLOCK_TIME_NONE=-1,
    )


class _Pipeline:
    """Plays IMAGES samples into the appsink's callback, then is at its end."""

    def __init__(self, delivered: Delivered) -> None:
        self._delivered = delivered
        self._callback: Callable[[Any], Any] | None = None
        self._index = 0

    def get_by_name(self, name: str) -> Any:
        return self

    def connect(self, signal: str, callback: Callable[[Any], Any]) -> None:
        assert signal == "new-sample"
        self._callback = callback

    def set_state(self, state: str) -> None:
        if state != "playing":
            return
        assert self._callback is not None
        for self._index in range(IMAGES):
            self._delivered.returned.append(self._callback(self))

    def emit(self, signal: str) -> Any:
        assert signal == "pull-sample"
        stride = -(-3 * WIDTH // 4) * 4
        rows = np.pad(pixels(self._index).reshape(HEIGHT, 3 * WIDTH), ((0, 0), (0, stride - 3 * WIDTH)))
        info = SimpleNamespace(data=memoryview(rows.tobytes()))
        size = {"height": HEIGHT, "width": WIDTH}
        return SimpleNamespace(
            get_caps=lambda: SimpleNamespace(
                get_structure=lambda index: SimpleNamespace(get_value=size.__getitem__)
            ),
            get_buffer=lambda: SimpleNamespace(map=lambda flags: (True, info), unmap=lambda mapped: None),
        )

    def get_bus(self) -> Any:
        return SimpleNamespace(timed_pop_filtered=lambda timeout, kinds: "end of stream")


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(content)
    return module
