"""Image files as a stream of frames."""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.errors import FrameError, UsageError
from ocl_edge.image_files import SUFFIXES, decode_image, in_natural_order
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources.base import OnSkip, Source, keep_quiet

RGB_LIKE_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "YCbCr", "1")


class ImageSource(Source):
    """A directory, one image, or a glob, in order of name; numbers in names count as numbers.

    Args:
        text: directory, file, or pattern with ``*``, ``?`` or ``[``.
        limit: at most so many files.
        on_skip: called for every image that is left out.

    Raises:
        UsageError: nothing of that name, or no images there.
    """

    def __init__(self, text: str, limit: int | None = None, on_skip: OnSkip = keep_quiet) -> None:
        super().__init__(on_skip)
        self.files = find_images(text)[:limit]
        self.total = len(self.files)

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
        image = read_image(self.files[index])
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
        files = in_natural_order(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
        if not files:
            raise UsageError(f"{text}: the directory holds no images ({', '.join(SUFFIXES)})")
        return files
    files = in_natural_order(
        Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file()
    )
    if not files:
        raise UsageError(f"{text}: no such directory or image, and no file matches it as a pattern")
    return files


def read_image(file: Path) -> NDArray[np.uint8]:
    """Decode an image to uint8 [H, W, 3] RGB.

    Raises:
        FrameError: unreadable, truncated, empty, too large, or with pixels that are no 8-bit
            colours (16-bit, float).
    """
    return decode_image(file, _rgb)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode not in RGB_LIKE_MODES:
        raise FrameError(f"pixels of mode {image.mode!r} are not 8-bit colours")
    return np.array(image.convert("RGB"))
