"""The messages of ROS 2 that are read and written here, from and to CDR.

Their layouts are known beforehand. The definitions that a recording carries along are texts of strangers
and are never parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ocl_edge.errors import FrameError
from ocl_edge_runtime.ros.cdr import CdrReader, CdrWriter
from ocl_edge_runtime.session.frames import Header

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
NUMBER = "std_msgs/msg/Float64"

NS = 1_000_000_000


@dataclass(frozen=True)
class Image:
    """sensor_msgs/Image.

    Attributes:
        header: when it was captured, and in which frame of reference.
        height: rows.
        width: pixels a row.
        encoding: ``rgb8`` and the like.
        is_bigendian: of numbers with more than one byte.
        step: bytes from a row to the next.
        data: of all rows.
    """

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: bytes | memoryview

    @classmethod
    def read(cls, message: CdrReader) -> Image:
        header, height, width = _header(message), message.uint32(), message.uint32()
        encoding, is_bigendian, step = message.text(), message.uint8(), message.uint32()
        return cls(header, height, width, encoding, is_bigendian, step, message.data())

    def to_cdr(self) -> bytes:
        out = _with_header(self.header).uint32(self.height).uint32(self.width).text(self.encoding)
        return out.uint8(self.is_bigendian).uint32(self.step).data(self.data).message()


@dataclass(frozen=True)
class CompressedImage:
    """sensor_msgs/CompressedImage.

    Attributes:
        header: as of `Image`.
        format: in words, for example ``rgb8; jpeg compressed bgr8``; the data say it themselves.
        data: the content of a JPEG or PNG file.
    """

    header: Header
    format: str
    data: bytes | memoryview

    @classmethod
    def read(cls, message: CdrReader) -> CompressedImage:
        return cls(_header(message), message.text(), message.data())

    def to_cdr(self) -> bytes:
        return _with_header(self.header).text(self.format).data(self.data).message()


IMAGES: Mapping[str, Callable[[CdrReader], Image | CompressedImage]] = {
    IMAGE: Image.read,
    COMPRESSED_IMAGE: CompressedImage.read,
}
"""Types that hold a picture, and what reads them."""


def read_image(type_name: str, message: bytes | memoryview) -> Image | CompressedImage:
    """An image message.

    Args:
        type_name: one of `IMAGES`.
        message: its CDR; kept, because the pixels are not copied.

    Raises:
        FrameError: it is cut off or no such message.
    """
    return IMAGES[type_name](CdrReader(message))


def number_to_cdr(value: float) -> bytes:
    """std_msgs/Float64."""
    return CdrWriter().float64(value).message()


def diagnostics_to_cdr(header: Header, healthy: bool, said: str, values: Mapping[str, str]) -> bytes:
    """diagnostic_msgs/DiagnosticArray with one status, of ``ocl_edge``.

    Args:
        header: of the frame that it is about.
        healthy: OK, else WARN.
        said: in words.
        values: name -> value.
    """
    out = _with_header(header).uint32(1).uint8(0 if healthy else 1)
    return out.text("ocl_edge").text(said).text("").texts(values.items()).message()


def _header(message: CdrReader) -> Header:
    seconds, nanoseconds, frame_id = message.int32(), message.uint32(), message.text()
    if nanoseconds >= NS:
        raise FrameError(f"has a stamp of {nanoseconds} nanoseconds within a second")
    return Header(NS * seconds + nanoseconds, frame_id)


def _with_header(header: Header) -> CdrWriter:
    seconds, nanoseconds = divmod(header.stamp_ns, NS)
    seconds = min(max(seconds, -(1 << 31)), (1 << 31) - 1)
    return CdrWriter().int32(seconds).uint32(nanoseconds).text(header.frame_id)
