"""The bytes of a ROS 2 message: CDR, four bytes of header, then the fields one after the other, aligned.

Written after the Common Data Representation of the DDS-RTPS specification (OMG), plain encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ocl_edge.errors import FrameError

BIG, LITTLE = b"\x00\x00\x00\x00", b"\x00\x01\x00\x00"
HEADER_BYTES = 4
ENDS = {0: ">", 1: "<", 6: ">", 7: "<"}
"""Second byte of the header -> order of bytes: CDR, and CDR of XTypes for types that are final."""

LONGEST_TEXT = 4096
"""Bytes of a frame id, an encoding or a format; the longest in use have some dozen."""


class CdrReader:
    """Takes the fields of a message in their order. Nothing larger than the message is ever allocated.

    Args:
        message: its bytes, header included; kept.

    Raises:
        FrameError: it is in another encoding. Every method: the message ends too early.
    """

    def __init__(self, message: bytes | memoryview) -> None:
        self._bytes = memoryview(message)
        if len(self._bytes) < HEADER_BYTES or self._bytes[0] != 0 or self._bytes[1] not in ENDS:
            raise FrameError("is no message in plain CDR")
        self._end = ENDS[self._bytes[1]]
        self._at = HEADER_BYTES

    def uint8(self) -> int:
        return self._number("B", 1)

    def int32(self) -> int:
        return self._number("i", 4)

    def uint32(self) -> int:
        return self._number("I", 4)

    def text(self) -> str:
        """A string; what is not UTF-8 in it is replaced."""
        length = self.uint32()
        if length > LONGEST_TEXT:
            raise FrameError(f"holds a text of {length:,} bytes, at most {LONGEST_TEXT:,} are read")
        return bytes(self._take(length)).rstrip(b"\0").decode("utf-8", "replace")

    def data(self) -> memoryview:
        """A sequence of bytes, not copied."""
        return self._take(self.uint32())

    def _number(self, kind: str, size: int) -> int:
        self._at += -(self._at - HEADER_BYTES) % size
        value: int = struct.unpack(self._end + kind, self._take(size))[0]
        return value

    def _take(self, count: int) -> memoryview:
        taken = self._bytes[self._at : self._at + count]
        if len(taken) < count:
            raise FrameError(f"is cut off: {count:,} bytes are announced, {len(taken):,} are there")
        self._at += count
        return taken


class CdrWriter:
    """Puts the fields of a message together, in little-endian CDR."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = [LITTLE]
        self._length = 0

    def uint8(self, value: int) -> CdrWriter:
        return self._number("B", 1, value)

    def int32(self, value: int) -> CdrWriter:
        return self._number("i", 4, value)

    def uint32(self, value: int) -> CdrWriter:
        return self._number("I", 4, value)

    def float64(self, value: float) -> CdrWriter:
        return self._number("d", 8, value)

    def text(self, value: str) -> CdrWriter:
        encoded = value.replace("\0", "").encode("utf-8", "replace") + b"\0"
        return self.uint32(len(encoded))._put(encoded)

    def texts(self, values: Iterable[tuple[str, str]]) -> CdrWriter:
        """A sequence of pairs of strings."""
        pairs = list(values)
        self.uint32(len(pairs))
        for name, value in pairs:
            self.text(name).text(value)
        return self

    def data(self, value: bytes | memoryview) -> CdrWriter:
        return self.uint32(len(value))._put(value)

    def message(self) -> bytes:
        """All that was put in."""
        return b"".join(self._parts)

    def _number(self, kind: str, size: int, value: float) -> CdrWriter:
        self._put(bytes(-self._length % size))
        return self._put(struct.pack("<" + kind, value))

    def _put(self, part: bytes | memoryview) -> CdrWriter:
        self._parts.append(part)
        self._length += len(part)
        return self
