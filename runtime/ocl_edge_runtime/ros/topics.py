"""Topics of ROS 2: what is published on them, and how to listen and publish. Messages are their CDR."""

from __future__ import annotations

import re
from typing import Protocol

from ocl_edge.errors import MissingExtraError, UsageError

_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


class Publisher(Protocol):
    """Sends messages of one topic: best effort, the last one kept."""

    def publish(self, message: bytes) -> None:
        """Hand a message over, and wait for nobody.

        Raises:
            OutputError: it could not be sent.
        """

    def listeners(self) -> int:
        """How many listen now."""


class Subscription(Protocol):
    """Hears the messages of one topic: best effort, the last one kept."""

    def take(self, patience_s: float) -> bytes | None:
        """The newest message; None if none comes in time."""


class Node(Protocol):
    """A member of ROS's graph."""

    def types_of(self, topic: str) -> set[str]:
        """Of those who publish on a topic now, ``sensor_msgs/msg/Image`` for example."""

    def subscribe(self, topic: str, type_name: str) -> Subscription: ...

    def advertise(self, topic: str, type_name: str) -> Publisher: ...

    def close(self) -> None:
        """Leave the graph; calling it twice is fine."""


def join_graph() -> Node:
    """Through rclpy where ROS 2 is there, else through Cyclone DDS.

    Raises:
        MissingExtraError: neither is installed.
        SourceError: the middleware cannot start.
    """
    try:
        from ocl_edge_runtime.ros.through_rclpy import RclpyNode

        return RclpyNode()
    except ImportError:  # no ROS 2, or one for another Python
        pass
    try:
        from ocl_edge_runtime.ros.through_dds import DdsNode
    except ImportError as error:
        raise MissingExtraError("ROS 2 (rclpy) or cyclonedds", "ros2", "a topic of ROS 2") from error
    return DdsNode()


def topic_of(text: str, option: str) -> str:
    """The full name of a topic.

    Args:
        text: behind ``ros2:``.
        option: that it came with, for the message.

    Raises:
        UsageError: it is none.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(f"{option}: expected the full name of a topic, as /camera/image_raw, got {text!r}")
    return text
