"""Image files as a stream of frames."""

from __future__ import annotations

import glob
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ocl_edge.errors import FrameError, UsageError
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources.base import UNTIMED_FRAME_S, OnSkip, Source, keep_quiet

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
RGB_LIKE_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "YCbCr", "1")


class ImageSource(Source):
    """A directory, one image, or a glob, in order of name.

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
        image = read_image(self.files[index])
        decode_ms = 1000 * (time.perf_counter() - started)
        return Frame(image, index, self.files[index].stem, time.monotonic(), decode_ms)


def find_images(text: str) -> list[Path]:
    """Files of a directory, a path or a glob, sorted by name.

    Raises:
        UsageError: nothing found; the message says what was looked for.
    """
    path = Path(text)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
        if not files:
            raise UsageError(f"{text}: the directory holds no images ({', '.join(SUFFIXES)})")
        return files
    files = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
    if not files:
        raise UsageError(f"{text}: no such directory or image, and no file matches it as a pattern")
    return files


def read_image(file: Path) -> NDArray[np.uint8]:
    """Decode an image to uint8 [H, W, 3] RGB.

    Raises:
        FrameError: unreadable, truncated, empty, or with pixels that are no 8-bit colours
            (16-bit, float).
    """
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if image.mode not in RGB_LIKE_MODES:
                raise FrameError(f"pixels of mode {image.mode!r} are not 8-bit colours")
            return np.array(image.convert("RGB"))
    except FrameError:
        raise
    except UnidentifiedImageError:
        size = file.stat().st_size if file.exists() else 0
        raise FrameError("is empty" if size == 0 else "is not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Warning) as error:
        raise FrameError(f"cannot be decoded: {error}") from error
