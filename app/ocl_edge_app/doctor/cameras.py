"""Cameras of Video4Linux: their names, sizes and rates, asked from the drivers.

The structures and numbers are those of the kernel's ``linux/videodev2.h``.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ocl_edge.images import in_natural_order

Ask = Callable[[int, int, bytearray], object]
"""`fcntl.ioctl`: file descriptor, request, and the structure that it reads and fills."""

QUERYCAP, ENUM_FMT = 0x80685600, 0xC0405602
ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0xC02C564A, 0xC034564B
CAPTURES, CAPTURES_IN_PLANES, HAS_DEVICE_CAPS = 0x1, 0x1000, 0x80000000
ONE_PLANE, SEVERAL_PLANES = 1, 9
DISCRETE = 1
MOST = 64
"""Formats, sizes and rates of a camera that are asked for: a driver may go on for ever."""

SIZES_SHOWN = 8


def describe_cameras(devices: Path = Path("/dev"), ask: Ask = fcntl.ioctl) -> dict[str, str]:
    """Device -> name, and what it offers, in words; empty where there is no camera.

    Args:
        devices: where they are.
        ask: replaced in tests.
    """
    found = {}
    for device in in_natural_order(devices.glob("video*")):
        try:
            descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            found[str(device)] = f"cannot be opened: {error.strerror}"
            continue
        try:
            words = _camera_in_words(descriptor, ask)
        except OSError as error:
            words = f"does not answer: {error.strerror}"
        finally:
            os.close(descriptor)
        if words is not None:
            found[str(device)] = words
    return found


def _camera_in_words(descriptor: int, ask: Ask) -> str | None:
    """None for a device that is no camera: one for metadata, output or decoding."""
    answer = bytearray(104)
    ask(descriptor, QUERYCAP, answer)
    driver, card, _, _, all_of_it, of_this_device = struct.unpack_from("16s32s32sIII", answer)
    can = of_this_device if all_of_it & HAS_DEVICE_CAPS else all_of_it
    if not can & (CAPTURES | CAPTURES_IN_PLANES):
        return None
    planes = ONE_PLANE if can & CAPTURES else SEVERAL_PLANES
    offers = [
        f"{_text(struct.pack('<I', pixels))} {', '.join(_sizes(descriptor, ask, pixels))}".strip()
        for pixels in _formats(descriptor, ask, planes)
    ]
    return f"{_text(card)} ({_text(driver)}): {'; '.join(offers) or 'tells no formats'}"


def _formats(descriptor: int, ask: Ask, planes: int) -> Iterator[int]:
    """Codes of four letters."""
    for index in range(MOST):
        answer = bytearray(struct.pack("=II", index, planes).ljust(64, b"\0"))
        if not _answered(descriptor, ask, ENUM_FMT, answer):
            return
        yield struct.unpack_from("=I", answer, 44)[0]


def _sizes(descriptor: int, ask: Ask, pixels: int) -> list[str]:
    """Each with its rates, as ``1280x720 at 30, 15``; ranges by their largest."""
    sizes = []
    for index in range(MOST):
        answer = bytearray(struct.pack("=II", index, pixels).ljust(44, b"\0"))
        if not _answered(descriptor, ask, ENUM_FRAMESIZES, answer):
            break
        kind, *numbers = struct.unpack_from("=I6I", answer, 8)
        # a range holds least, most and step, of the width and then of the height
        width, height = numbers[:2] if kind == DISCRETE else (numbers[1], numbers[4])
        rates = list(_rates(descriptor, ask, pixels, width, height))
        words = f"{'' if kind == DISCRETE else 'up to '}{width}x{height}"
        sizes.append(f"{words} at {'/'.join(f'{rate:g}' for rate in rates)}" if rates else words)
        if kind != DISCRETE:
            break
    return sizes if len(sizes) <= SIZES_SHOWN else [*sizes[:SIZES_SHOWN], f"{len(sizes) - SIZES_SHOWN} more"]


def _rates(descriptor: int, ask: Ask, pixels: int, width: int, height: int) -> Iterator[float]:
    """Frames a second; of a range the highest."""
    for index in range(MOST):
        asked = struct.pack("=IIII", index, pixels, width, height)
        answer = bytearray(asked.ljust(52, b"\0"))
        if not _answered(descriptor, ask, ENUM_FRAMEINTERVALS, answer):
            return
        kind, seconds, parts = struct.unpack_from("=III", answer, 16)
        if seconds and parts:
            yield round(parts / seconds, 2)
        if kind != DISCRETE:
            return


def _answered(descriptor: int, ask: Ask, request: int, answer: bytearray) -> bool:
    """Whether there is such an entry; the first that there is not ends a list."""
    try:
        ask(descriptor, request, answer)
    except OSError:
        return False
    return True


def _text(padded: bytes) -> str:
    return padded.split(b"\0")[0].decode("utf-8", "replace").strip()
