"""ROS 2's graph through ROS 2 itself; messages are handed over as they are on the wire."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from ocl_edge.errors import OutputError


class RclpyNode:
    """A node in a context of its own, so that ROS takes over no signals of the program."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
        from rclpy.signals import SignalHandlerOptions

        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(f"ocl_edge_{os.getpid()}", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._sensor_data = QoSProfile(
            depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
        )

    def types_of(self, topic: str) -> set[str]:
        return {publisher.topic_type for publisher in self._node.get_publishers_info_by_topic(topic)}

    def subscribe(self, topic: str, type_name: str) -> RclpySubscription:
        heard = RclpySubscription(self._executor.spin_once)
        self._node.create_subscription(
            message_class(type_name), topic, heard.keep, self._sensor_data, raw=True
        )
        return heard

    def advertise(self, topic: str, type_name: str) -> RclpyPublisher:
        made = self._node.create_publisher(message_class(type_name), topic, self._sensor_data)
        return RclpyPublisher(topic, made)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


class RclpySubscription:
    """See `ros.topics.Subscription`.

    Args:
        spin_once: handles what has come, waiting so many seconds for the first.
    """

    def __init__(self, spin_once: Callable[..., None]) -> None:
        self._spin_once = spin_once
        self._newest: bytes | None = None

    def keep(self, message: bytes) -> None:
        self._newest = message

    def take(self, patience_s: float) -> bytes | None:
        self._newest = None
        self._spin_once(timeout_sec=patience_s)
        return self._newest


class RclpyPublisher:
    """See `ros.topics.Publisher`."""

    def __init__(self, topic: str, publisher: Any) -> None:
        self._topic, self._publisher = topic, publisher

    def publish(self, message: bytes) -> None:
        try:
            self._publisher.publish(message)  # bytes are sent as they are
        except Exception as error:  # rclpy's own have no common class
            raise OutputError(f"cannot publish on {self._topic}: {error}") from error

    def listeners(self) -> int:
        return int(self._publisher.get_subscription_count())


def message_class(type_name: str) -> Any:
    """``sensor_msgs/msg/Image`` -> that class of ROS."""
    package, _, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)
