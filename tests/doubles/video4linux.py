"""A driver of Video4Linux that answers as the kernel's header says, in C structures."""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass, field


class Capability(ctypes.Structure):
    _fields_ = [
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    ]


class FormatDescription(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", ctypes.c_char * 4),
        ("mbus_code", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    ]


class FrameSize(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_char * 4),
        ("type", ctypes.c_uint32),
        ("numbers", ctypes.c_uint32 * 6),
        ("reserved", ctypes.c_uint32 * 2),
    ]


class FrameInterval(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_char * 4),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("numbers", ctypes.c_uint32 * 6),
        ("reserved", ctypes.c_uint32 * 2),
    ]


def request(direction: int, number: int, structure: type[ctypes.Structure]) -> int:
    """As the kernel's macros _IOR (2) and _IOWR (3) make it."""
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


Sizes = dict[tuple[int, int], list[tuple[int, int]]]
"""Width and height -> intervals as fractions of a second."""


@dataclass
class Camera:
    """What a camera offers; `capabilities` and `device_caps` as in the header."""

    card: bytes = b"HD Webcam"
    formats: dict[bytes, Sizes] = field(default_factory=dict)
    capabilities: int = 0x84A00001
    device_caps: int = 0x04200001
    buffers: int = 1
    ranges: bool = False
    endless: bool = False

    def ioctl(self, descriptor: int, asked: int, answer: bytearray) -> int:
        os.fstat(descriptor)  # it is open
        if asked == request(2, 0, Capability):
            told = Capability.from_buffer(answer)
            told.driver, told.card = b"uvcvideo", self.card
            told.capabilities, told.device_caps = self.capabilities, self.device_caps
        elif asked == request(3, 2, FormatDescription):
            description = FormatDescription.from_buffer(answer)
            assert description.type == self.buffers
            description.pixelformat = self._nth(list(self.formats), description.index)
        elif asked == request(3, 74, FrameSize):
            size = FrameSize.from_buffer(answer)
            sizes = self.formats[size.pixel_format]
            width, height = self._nth(list(sizes), size.index)
            size.type = 3 if self.ranges else 1
            size.numbers[:] = (16, width, 2, 16, height, 2) if self.ranges else (width, height, 0, 0, 0, 0)
        elif asked == request(3, 75, FrameInterval):
            interval = FrameInterval.from_buffer(answer)
            rates = self.formats[interval.pixel_format][(interval.width, interval.height)]
            seconds, parts = self._nth(rates, interval.index)
            interval.type = 1
            interval.numbers[:2] = (seconds, parts)
        else:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return 0

    def _nth(self, entries: list, index: int):  # type: ignore[no-untyped-def, type-arg]
        if self.endless:
            return entries[0]
        if index >= len(entries):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return entries[index]
