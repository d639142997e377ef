"""Image files as a stream of frames."""

from __future__ import annotations

import glob
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ocl_edge.errors import FrameError, UsageError
from ocl_edge_runtime.frames import Frame

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
RGB_LIKE_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "YCbCr", "1")


class ImageSource:
    """A directory, one image, or a glob, in order of name.

    Iterating never fails on a single image: one that cannot be read is reported to
    ``on_skip(name, reason)``, counted in `skipped`, and left out.

    Args:
        text: directory, file, or pattern with ``*``, ``?`` or ``[``.
        limit: at most so many files.
        on_skip: called for every image that is left out.

    Raises:
        UsageError: nothing of that name, or no images there.
    """

    def __init__(
        self, text: str, limit: int | None = None, on_skip: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self.files = find_images(text)[:limit]
        self.skipped = 0
        self._on_skip = on_skip

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Frame]:
        for index in range(len(self.files)):
            frame = self.read(index)
            if frame is not None:
                yield frame

    def read(self, index: int) -> Frame | None:
        """Decode one file; None, reported and counted, if it cannot be read."""
        started = time.perf_counter()
        try:
            image = read_image(self.files[index])
        except FrameError as error:
            self.skip(self.files[index].name, str(error))
            return None
        decode_ms = 1000 * (time.perf_counter() - started)
        return Frame(image, index, self.files[index].stem, time.monotonic(), decode_ms)

    def skip(self, name: str, reason: str) -> None:
        """Count a frame as left out."""
        self.skipped += 1
        self._on_skip(name, reason)


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
            raise UsageError(f"--source {text}: the directory holds no images ({', '.join(SUFFIXES)})")
        return files
    files = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
    if not files:
        raise UsageError(f"--source {text}: no such directory or image, and no file matches it as a pattern")
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
