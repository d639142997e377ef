"""Files that somebody gave us: opened only where they are files, and read only up to a size.

A name may lead to a pipe or a device, which would hang or never end; a file may be larger than the memory.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

DEEPEST_JSON = 100
"""Brackets within brackets; the deepest of ours has 8."""

BLOCK = 1 << 16

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_given(path: Path) -> BinaryIO:
    """Open a regular file to read it, without waiting for anybody.

    Raises:
        OSError: there is none, or it is a directory, pipe, socket or device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = KINDS.get(stat.S_IFMT(mode), "something else")
            raise OSError(errno.EINVAL, f"it is {kind}, expected a file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_given(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `open_given`; or it is larger than ``most_bytes``.
    """
    with open_given(path) as file:
        found = os.fstat(file.fileno()).st_size
        content = file.read(found) if found <= most_bytes else b""
        while found <= most_bytes and (more := file.read(BLOCK)):  # of /proc, which claims no size
            content += more
            found = len(content)
    if found > most_bytes:
        raise OSError(errno.EFBIG, f"it has {found:,} bytes, at most {most_bytes:,} are read", str(path))
    return content


def parse_json(content: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, is not UTF-8, is nested deeper than `DEEPEST_JSON`, or holds a number that no
            float can hold, NaN or Infinity (which JSON does not have).
    """
    text = content.decode()
    if _depth(text) > DEEPEST_JSON:
        raise ValueError(f"it is nested deeper than {DEEPEST_JSON} brackets")
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_small_int)


def read_json(path: Path, most_bytes: int) -> Any:
    """`read_given` and `parse_json`.

    Raises:
        OSError: as `read_given`.
        ValueError: as `parse_json`.
    """
    return parse_json(read_given(path, most_bytes))


def reason_of(error: OSError) -> str:
    """Why the system refused, without the name of the file."""
    return error.strerror or str(error)


def _depth(text: str) -> int:
    """An upper bound: brackets inside of strings count, too."""
    deepest = depth = 0
    if text.count("[") + text.count("{") <= DEEPEST_JSON:
        return 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:40]} is beyond what a float holds")
    return value


def _small_int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a whole number has {len(digits)} digits, at most 20 are read")
    return int(digits)
