"""Image messages as their senders would make them, and recordings of them, by libraries other than ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as DirectoryWriter
from rosbags.typesys import Stores, get_typestore

from tests.doubles.images import random_image

ROS = get_typestore(Stores.ROS2_HUMBLE)
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
SIZE = (24, 32)


def header(stamp_ns: int, frame_id: str = "camera") -> Any:
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    stamp = ROS.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return ROS.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def image_message(
    data: np.ndarray, encoding: str = "rgb8", stamp_ns: int = START_NS, bigendian: int = 0, **changes: Any
) -> Any:
    """sensor_msgs/Image of rows of bytes [H, step]; without a width there are three bytes a pixel."""
    fields = {"height": data.shape[0], "width": data.shape[1] // 3, "step": data.shape[1], **changes}
    return ROS.types[IMAGE](
        header=header(stamp_ns), encoding=encoding, is_bigendian=bigendian, data=data.ravel(), **fields
    )


def compressed_message(data: bytes, stamp_ns: int = START_NS) -> Any:
    return ROS.types[COMPRESSED](header=header(stamp_ns), format="jpeg", data=np.frombuffer(data, np.uint8))


def picture(index: int) -> np.ndarray:
    """uint8 [24, 32, 3]; another for every index."""
    return random_image(index, *SIZE)


def cdr(message: Any, little: bool = True) -> bytes:
    return bytes(ROS.serialize_cdr(message, message.__msgtype__, little_endian=little))


def pictures(count: int, encoding: str = "rgb8") -> list[tuple[int, bytes]]:
    """Times in nanoseconds, and messages."""
    times = [START_NS + index * STEP_NS for index in range(count)]
    return [
        (time, cdr(image_message(picture(i).reshape(SIZE[0], -1), encoding, time - 5)))
        for i, time in enumerate(times)
    ]


def write_mcap(
    path: Path,
    topics: dict[str, tuple[str, list[tuple[int, bytes]]]],
    compression: CompressionType = CompressionType.ZSTD,
    finish: bool = True,
    encoding: str = "cdr",
    chunk_size: int = 4000,
) -> Path:
    """Topic -> type and messages; each topic's after the other's."""
    with path.open("wb") as file:
        writer = Writer(file, compression=compression, chunk_size=chunk_size)
        writer.start("ros2")
        for topic, (kind, messages) in topics.items():
            schema = writer.register_schema(kind, "ros2msg", b"uint8[4294967295] huge\n")
            channel = writer.register_channel(topic, encoding, schema)
            for time, data in messages:
                writer.add_message(channel, time, data, time)
        if finish:
            writer.finish()
    return path


def write_directory(
    path: Path,
    topics: dict[str, tuple[str, list[tuple[int, bytes]]]],
    plugin: StoragePlugin = StoragePlugin.SQLITE3,
) -> Path:
    """As ``ros2 bag record`` would."""
    with DirectoryWriter(path, version=9, storage_plugin=plugin) as writer:
        for topic, (kind, messages) in topics.items():
            connection = writer.add_connection(topic, kind, typestore=ROS)
            for time, data in messages:
                writer.write(connection, time, data)
    return path
