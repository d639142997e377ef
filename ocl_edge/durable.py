"""Files that are written whole or not at all.

A write goes to a new file beside its target, with a name nobody can guess, which is then
renamed over the target. Whoever reads the target sees the old content or the new, whenever
the program or the power ends. A link at the target is replaced, never followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from ocl_edge.errors import OutputError
from ocl_edge.finite import finite

ENDING = ".partial"
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LEFT_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Whatever lies there under such a name, a pipe that nobody writes included, opening it does not block."""


@contextlib.contextmanager
def writing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` if the block succeeds and vanishes if it does not.

    Args:
        path: of the target; its directory must be there.
        durable: wait until the content survives a power cut, and remove what killed writers
            of the same target left. Without it a write is much cheaper and still whole for
            every reader, but after a power cut the file may be empty.

    Raises:
        OutputError: it cannot be written (permission, full disk); the target is as it was.
    """
    partial = path.with_name(f"{_beginning(path)}{secrets.token_hex(8)}{ENDING}")
    try:
        if durable:
            _remove_leftovers(path)
        with os.fdopen(os.open(partial, NEW_FILE, 0o666), "wb") as file:
            with contextlib.suppress(OSError):  # a file system without locks keeps what killed writers left
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            partial.replace(path)
        if durable:
            flush_to_disk(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file of bytes; see `writing`.

    Raises:
        OutputError: it cannot be written; the target is as it was.
    """
    with writing(path, durable) as file:
        file.write(content)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write a file of UTF-8 text; see `writing`.

    Raises:
        OutputError: it cannot be written; the target is as it was.
    """
    write_bytes(path, text.encode(), durable)


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write a file of JSON, durably; numbers that are not finite become null.

    Raises:
        OutputError: it cannot be written; the target is as it was.
    """
    write_text(path, json_text(content, indent))


def json_text(content: Any, indent: int | None = 1) -> str:
    """JSON with a newline at its end; null for numbers that are not finite, JSON has no word for them."""
    return json.dumps(finite(content), indent=indent, allow_nan=False) + "\n"


def open_for_lines(path: Path, append: bool) -> IO[bytes]:
    """Open a file that grows line by line; unbuffered.

    A link is followed in /dev only, and a pipe that nobody reads is no reason to wait.

    Raises:
        OSError: it cannot be opened.
    """
    follow = 0 if path.absolute().parent == Path("/dev") else os.O_NOFOLLOW
    how = os.O_APPEND if append else os.O_TRUNC
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | how | follow
    descriptor = os.open(path, flags, 0o666)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "ab" if append else "wb", buffering=0)


def move_file(file: Path, path: Path) -> None:
    """Move a finished file durably to its place on the same file system.

    Raises:
        OutputError: it cannot be moved.
    """
    try:
        flush_to_disk(file)
        file.replace(path)
        flush_to_disk(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, survive a power cut.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beginning(path: Path) -> str:
    """Of the partial files of a target; by its hash where the name leaves no room for more."""
    name = os.fsencode(path.name)
    return f".{path.name}." if len(name) <= 200 else f".{hashlib.sha256(name).hexdigest()}."


def _remove_leftovers(path: Path) -> None:
    """Remove partial files of this target whose writer is gone: a lock ends with its process."""
    beginning = _beginning(path)
    for left in path.parent.iterdir():
        if left.name.startswith(beginning) and left.name.endswith(ENDING):
            with contextlib.suppress(OSError), os.fdopen(os.open(left, LEFT_FILE), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
