"""Image files as a stream of frames."""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator
from pathlib import Path

from ocl_edge.errors import FrameError, UsageError
from ocl_edge.images import SUFFIXES, image_files, in_natural_order, read_image
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources.base import UNTIMED_FRAME_S, OnSkip, Source, keep_quiet


class ImageSource(Source):
    """A directory, one image, or a glob, in order of name; numbers in names count as numbers.

    Args:
        text: directory, file, or pattern with ``*``, ``?`` or ``[``.
        limit: at most so many files.
        on_skip: called for every image that is left out.
        channels: of the frames, see `read_image`.

    Raises:
        UsageError: nothing of that name, or no images there.
    """

    def __init__(
        self, text: str, limit: int | None = None, on_skip: OnSkip = keep_quiet, channels: int = 3
    ) -> None:
        super().__init__(on_skip)
        self._channels = channels
        self.files = find_images(text)[:limit]
        self.total = len(self.files)
        self.frame_s = UNTIMED_FRAME_S

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self.files):
            if self.stopped:
                return
            try:
                yield self.read(index)
            except FrameError as error:
                self.skip(file.name, str(error))

    def read(self, index: int) -> Frame:
        """Decode one file.

        Raises:
            FrameError: it cannot be read.
        """
        started = time.perf_counter()
        image = read_image(self.files[index], self._channels)
        decode_ms = 1000 * (time.perf_counter() - started)
        return Frame(image, index, self.files[index].stem, time.monotonic(), decode_ms)


def find_images(text: str) -> list[Path]:
    """Files of a directory, a path or a glob, in order of name; numbers in names count as numbers.

    Raises:
        UsageError: nothing found; the message says what was looked for.
    """
    path = Path(text)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise UsageError(f"{text}: the directory holds no images ({', '.join(SUFFIXES)})")
        return files
    files = in_natural_order(
        Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file()
    )
    if not files:
        raise UsageError(f"{text}: no such directory or image, and no file matches it as a pattern")
    return files
