"""Image files: which files are images, how they are decoded, and class colours over an image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ocl_edge.errors import FrameError, UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
RGB_LIKE_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "YCbCr", "1")
OPACITY = 0.55
Colour = tuple[int, int, int]
"""RGB, 0 to 255."""


def image_files(directory: Path) -> list[Path]:
    """The image files of a directory, in order of name."""
    return sorted(file for file in directory.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


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


def read_class_map(file: Path) -> NDArray[np.uint8]:
    """Decode labels: an 8-bit image of one channel, a class index a pixel, to uint8 [H, W].

    Raises:
        UsageError: unreadable, or no such image.
    """
    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "P"):
                raise UsageError(f"{file}: expected an 8-bit class map, got mode {image.mode!r}")
            return np.array(image, np.uint8)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


class ColourOverlay:
    """Blends class colours over images; a class beyond the palette darkens.

    Args:
        palette: of the classes.
        opacity: of the colours, 0 to 1.
    """

    def __init__(self, palette: Sequence[Colour], opacity: float = OPACITY) -> None:
        self._colours = np.zeros((256, 3), np.uint8)
        self._colours[: len(palette)] = (np.array(palette, np.float32) * opacity).round()
        self._dimmed = (np.arange(256, dtype=np.float32) * (1 - opacity)).astype(np.uint8)

    def over(self, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Image uint8 [H, W, 3] RGB and class map uint8 [H, W] of one size -> uint8 [H, W, 3]."""
        blended: NDArray[np.uint8] = self._dimmed[image] + self._colours[mask]
        return blended
