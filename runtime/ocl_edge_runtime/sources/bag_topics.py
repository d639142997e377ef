"""What a recording of messages holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Topic:
    """A topic of a recording.

    Attributes:
        name: for example ``/camera/image_raw``.
        type: of its messages, for example ``sensor_msgs/msg/Image``.
        encoding: of their bytes; ``cdr`` is ROS 2's.
        count: how many there are, None where the recording does not say.
    """

    name: str
    type: str
    encoding: str
    count: int | None


@dataclass(frozen=True)
class Message:
    """One message of a topic.

    Attributes:
        recorded_ns: when it was recorded, nanoseconds of the recorder's clock.
        data: its bytes.
    """

    recorded_ns: int
    data: bytes | memoryview


class BagFile(Protocol):
    """One file of a recording."""

    path: Path

    def topics(self) -> list[Topic]: ...

    def messages(self, topic: str) -> Iterator[Message]:
        """In the order in which they were written.

        Raises:
            SourceError: the file is damaged or cut off there.
        """

    def close(self) -> None: ...
