"""A camera that is a topic of ROS 2."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ocl_edge.errors import SourceError, UsageError
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.ros.messages import IMAGES
from ocl_edge_runtime.ros.topics import Node, join_graph
from ocl_edge_runtime.sources.base import Arrival
from ocl_edge_runtime.sources.ros_arrival import arrival_of

POLL_S = 0.1


class TopicReader:
    """The images of a topic, from whoever publishes there: who leaves may come back.

    Args:
        topic: its full name.
        clock: of ``captured_at``.
        timeout_s: how long to wait for a first publisher.
        node: that listens; None joins ROS's graph.

    Raises:
        SourceError: nobody publishes there in time.
        UsageError: what is published there are no images.
    """

    def __init__(self, topic: str, clock: Clock, timeout_s: float, node: Node | None = None) -> None:
        self.name = f"ros2:{topic}"
        self.rate: float | None = None
        self.ends = False
        self._clock = clock
        self._interrupted = False
        self._node = node or join_graph()
        try:
            self._type = self._published_type(topic, timeout_s)
            self._heard = self._node.subscribe(topic, self._type)
        except BaseException:
            self._node.close()
            raise

    def __iter__(self) -> Iterator[Arrival]:
        while not self._interrupted:
            message = self._heard.take(POLL_S)
            if message is not None:
                yield arrival_of(self._type, message, self._clock.now())

    def interrupt(self) -> None:
        """End the iteration soon; from any thread."""
        self._interrupted = True

    def close(self) -> None:
        self._interrupted = True
        del self._heard
        self._node.close()

    def _published_type(self, topic: str, timeout_s: float) -> str:
        give_up_at = time.monotonic() + timeout_s
        while not (types := self._node.types_of(topic)):
            if time.monotonic() >= give_up_at:
                raise SourceError(
                    f"nobody publishes {topic} ({timeout_s:g} s waited, --source-timeout sets the patience): "
                    "is the camera's driver running, in the same ROS_DOMAIN_ID?"
                )
            time.sleep(POLL_S)
        images = sorted(types & set(IMAGES))
        if not images:
            found = ", ".join(sorted(types))
            raise UsageError(f"--source ros2:{topic}: expected {' or '.join(IMAGES)}, published is {found}")
        return images[0]
