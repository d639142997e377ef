"""ROS 2's graph without ROS 2: topics of DDS under the names that ROS 2 gives them.

The settings are Cyclone's own: the environment's ``CYCLONEDDS_URI``, and ``ROS_DOMAIN_ID`` as for ROS.
"""

from __future__ import annotations

import os
from typing import Any

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import DDSException, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from ocl_edge.errors import OutputError, SourceError, UsageError
from ocl_edge_runtime.ros.dds_types import TYPES

SENSOR_DATA = Qos(Policy.Reliability.BestEffort, Policy.Durability.Volatile, Policy.History.KeepLast(1))
TOPIC_PREFIX = "rt"
LARGEST_DOMAIN = 232
MOST_AT_ONCE = 100


class DdsNode:
    """A participant of the domain.

    Raises:
        UsageError: ``ROS_DOMAIN_ID`` is no number of a domain.
        SourceError: DDS cannot start, for example because no network interface can be used.
    """

    def __init__(self) -> None:
        domain = os.environ.get("ROS_DOMAIN_ID") or "0"
        if not domain.isdecimal() or int(domain) > LARGEST_DOMAIN:
            raise UsageError(f"ROS_DOMAIN_ID must be 0 to {LARGEST_DOMAIN}, got {domain!r}")
        try:
            self._participant = DomainParticipant(int(domain))
            self._published = BuiltinDataReader(self._participant, BuiltinTopicDcpsPublication)
        except DDSException as error:
            raise SourceError(f"DDS cannot start (CYCLONEDDS_URI holds its settings): {error}") from error

    def types_of(self, topic: str) -> set[str]:
        endpoints = self._published.read(N=MOST_AT_ONCE)
        found = {(e.topic_name, e.type_name) for e in endpoints if getattr(e, "topic_name", None)}
        return {ros_type(kind) for name, kind in found if name == TOPIC_PREFIX + topic}

    def subscribe(self, topic: str, type_name: str) -> DdsSubscription:
        return DdsSubscription(self._participant, self._topic(topic, type_name))

    def advertise(self, topic: str, type_name: str) -> DdsPublisher:
        return DdsPublisher(topic, DataWriter(self._participant, self._topic(topic, type_name), SENSOR_DATA))

    def close(self) -> None:
        """Cyclone frees a participant with the last reference to it and to what it made."""
        del self._published, self._participant

    def _topic(self, name: str, type_name: str) -> Any:
        return Topic(self._participant, TOPIC_PREFIX + name, TYPES[type_name], SENSOR_DATA)


class DdsSubscription:
    """See `ros.topics.Subscription`."""

    def __init__(self, participant: DomainParticipant, topic: Any) -> None:
        self._reader = DataReader(participant, topic, SENSOR_DATA)
        self._news = WaitSet(participant)
        self._unread = ReadCondition(self._reader, ViewState.Any | InstanceState.Any | SampleState.NotRead)
        self._news.attach(self._unread)

    def take(self, patience_s: float) -> bytes | None:
        if not self._news.wait(duration(seconds=patience_s)):
            return None
        return next((sample.cdr for sample in self._reader.take() if hasattr(sample, "cdr")), None)


class DdsPublisher:
    """See `ros.topics.Publisher`."""

    def __init__(self, topic: str, writer: Any) -> None:
        self._topic, self._writer = topic, writer

    def publish(self, message: bytes) -> None:
        try:
            self._writer.write(self._writer.topic.data_type(message))
        except DDSException as error:
            raise OutputError(f"cannot publish on {self._topic}: {error}") from error

    def listeners(self) -> int:
        return len(self._writer.get_matched_subscriptions())


def ros_type(dds_type: str) -> str:
    """``sensor_msgs::msg::dds_::Image_`` -> ``sensor_msgs/msg/Image``; others as they are."""
    parts = dds_type.split("::")
    if len(parts) == 4 and parts[2] == "dds_":
        return f"{parts[0]}/{parts[1]}/{parts[3].removesuffix('_')}"
    return dds_type
