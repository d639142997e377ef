"""A stand-in for rclpy: one process is the whole graph. It takes what rclpy's own documentation says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

IMAGE_CLASS = type("Image", (), {})
DIAGNOSTICS_CLASS = type("DiagnosticArray", (), {})
TYPES = {IMAGE_CLASS: "sensor_msgs/msg/Image", DIAGNOSTICS_CLASS: "diagnostic_msgs/msg/DiagnosticArray"}


@dataclass
class Graph:
    """Who publishes and who listens; messages wait for the executor, as many as the depth says."""

    published: dict[str, str] = field(default_factory=dict)
    heard: dict[str, tuple[Callable[[bytes], None], list[bytes], Any]] = field(default_factory=dict)
    sent: dict[str, list[bytes]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    def send(self, topic: str, message: bytes) -> None:
        _, queue, qos = self.heard[topic]
        queue.append(message)
        del queue[: -qos.depth]

    def modules(self) -> dict[str, ModuleType]:
        names = {
            "rclpy": {"Context": lambda: _Context(self), "init": self._init, "create_node": self._node},
            "rclpy.executors": {"SingleThreadedExecutor": lambda *, context: _Executor(self, context)},
            "rclpy.qos": {
                "QoSProfile": SimpleNamespace,
                "HistoryPolicy": SimpleNamespace(KEEP_LAST="keep last"),
                "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT="best effort"),
            },
            "rclpy.signals": {"SignalHandlerOptions": SimpleNamespace(NO="no handlers")},
            "sensor_msgs": {},
            "sensor_msgs.msg": {"Image": IMAGE_CLASS},
            "diagnostic_msgs": {},
            "diagnostic_msgs.msg": {"DiagnosticArray": DIAGNOSTICS_CLASS},
        }
        made = {}
        for name, content in names.items():
            made[name] = ModuleType(name)
            made[name].__dict__.update(content)
        return made

    def _init(self, *, context: Any, signal_handler_options: str) -> None:
        assert signal_handler_options == "no handlers"
        self.events.append("init")

    def _node(self, name: str, *, context: Any) -> _Node:
        assert name.isidentifier()
        return _Node(self)


@dataclass
class _Context:
    graph: Graph

    def try_shutdown(self) -> None:
        self.graph.events.append("shut down")


@dataclass
class _Node:
    graph: Graph

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        kinds = self.graph.published
        return [SimpleNamespace(topic_type=kinds[topic])] if topic in kinds else []

    def create_subscription(
        self, kind: type, topic: str, callback: Callable[[bytes], None], qos: Any, *, raw: bool
    ) -> None:
        assert raw
        assert TYPES[kind] == self.graph.published[topic]
        assert (qos.history, qos.reliability) == ("keep last", "best effort")
        self.graph.heard[topic] = callback, [], qos

    def create_publisher(self, kind: type, topic: str, qos: Any) -> Any:
        assert (qos.depth, qos.reliability) == (1, "best effort")
        sent = self.graph.sent.setdefault(topic, [])
        return SimpleNamespace(publish=sent.append, get_subscription_count=lambda: 1)

    def destroy_node(self) -> None:
        self.graph.events.append("destroyed")


@dataclass
class _Executor:
    graph: Graph
    context: Any

    def add_node(self, node: _Node) -> None:
        self.graph.events.append("spinning")

    def spin_once(self, *, timeout_sec: float) -> None:
        give_up_at = time.monotonic() + timeout_sec
        while time.monotonic() < give_up_at:
            for callback, queue, _ in self.graph.heard.values():
                if queue:
                    callback(queue.pop(0))
                    return
            time.sleep(0.002)

    def shutdown(self) -> None:
        self.graph.events.append("executor down")
