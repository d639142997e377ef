"""From an image message to RGB.

The one place that knows ROS's encodings: recordings, topics, and nodes of rclpy decode here.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError
from ocl_edge.images import MOST_PIXELS, read_image
from ocl_edge_runtime.ros import bayer, yuv
from ocl_edge_runtime.ros.messages import CompressedImage


class ImageMessage(Protocol):
    """What an image has in every dress: `messages.Image`, or rclpy's sensor_msgs.msg.Image."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def encoding(self) -> str: ...
    @property
    def is_bigendian(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def data(self) -> bytes | memoryview: ...


COLOURS: dict[str, tuple[int, ...]] = {
    "rgb": (0, 1, 2),
    "bgr": (2, 1, 0),
    "rgba": (0, 1, 2),
    "bgra": (2, 1, 0),
    "mono": (0, 0, 0),
}
"""Kind -> which of a pixel's channels are red, green and blue. Its name tells how many there are."""

OPENCV = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16", "16UC3": "bgr16"}
"""OpenCV's names, in the order of channels that OpenCV means."""

PLANES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "yuv422": yuv.rgb_of_uyvy,
    "uyvy": yuv.rgb_of_uyvy,
    "yuv422_yuy2": yuv.rgb_of_yuyv,
    "yuyv": yuv.rgb_of_yuyv,
}
"""Encodings of two bytes a pixel, with colours shared by two."""

ENCODINGS = (
    *(f"{kind}{bits}" for kind in COLOURS for bits in (8, 16)),
    *PLANES,
    *(f"bayer_{pattern}{bits}" for pattern in bayer.PATTERNS for bits in (8, 16)),
    *OPENCV,
)


def pixels_of(message: ImageMessage) -> NDArray[np.uint8]:
    """The pixels of a sensor_msgs/Image, uint8 [H, W, 3] RGB, the caller's own; rows may be padded.

    Sixteen bits become their upper eight.

    Raises:
        FrameError: an unknown encoding, or sizes that do not fit the data or are too large.
    """
    encoding = OPENCV.get(message.encoding, message.encoding)
    if encoding not in ENCODINGS:
        raise FrameError(f"has the encoding {message.encoding!r}; known are {', '.join(ENCODINGS)}")
    if encoding in PLANES:
        if message.width % 2:
            raise FrameError(f"has the encoding {encoding} and an odd width of {message.width}")
        return PLANES[encoding](_rows(message, 2))
    kind, bits = (encoding[:-1], 8) if encoding.endswith("8") else (encoding[:-2], 16)
    channels = 1 if kind == "mono" or kind.startswith("bayer_") else len(kind)
    samples = _rows(message, channels * bits // 8).reshape(message.height, message.width, channels, bits // 8)
    upper = samples[..., 0 if message.is_bigendian else bits // 8 - 1]
    if kind.startswith("bayer_"):
        return bayer.rgb_of(upper[..., 0], kind.removeprefix("bayer_"))
    picked: NDArray[np.uint8] = np.ascontiguousarray(np.stack([upper[..., c] for c in COLOURS[kind]], axis=2))
    return picked


def pixels_of_compressed(message: CompressedImage) -> NDArray[np.uint8]:
    """The pixels of a sensor_msgs/CompressedImage, uint8 [H, W, 3] RGB.

    Raises:
        FrameError: neither JPEG nor PNG nor another of the formats that are read, or damaged.
    """
    return read_image(io.BytesIO(message.data))


def _rows(message: ImageMessage, pixel_bytes: int) -> NDArray[np.uint8]:
    """uint8 [H, W * bytes a pixel] without the padding, a view of the data."""
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    used = pixel_bytes * width
    if not (height and width) or step < used or len(data) < (height - 1) * step + used:
        raise FrameError(
            f"{width}x{height} pixels of {pixel_bytes} bytes with {step} bytes a row do not fit "
            f"{len(data):,} bytes"
        )
    if height * width > MOST_PIXELS:
        raise FrameError(f"claims {width}x{height}, larger than {MOST_PIXELS:,} pixels")
    if len(data) >= height * step:
        return data[: height * step].reshape(height, step)[:, :used]
    return np.lib.stride_tricks.as_strided(data, (height, used), (step, 1), writeable=False)
