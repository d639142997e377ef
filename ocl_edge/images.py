"""Image files: which files are images, how they are decoded, and class colours over an image."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ocl_edge.errors import FrameError, UsageError
from ocl_edge.given_files import open_given, reason_of
from ocl_edge.masks import Mask, mask_dtype

Pixels = TypeVar("Pixels")
Value = TypeVar("Value", np.uint8, np.uint16, np.uint8 | np.uint16)

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it says of a file goes to the terminal

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
RGB_LIKE_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "YCbCr", "1")
OPACITY = 0.55
MOST_PIXELS = 1 << 26
"""Of an image, or a network's input: 8192 x 8192."""

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""


def image_files(directory: Path) -> list[Path]:
    """The image files of a directory, in natural order."""
    files = (file for file in directory.iterdir() if file.suffix.lower() in SUFFIXES)
    return in_natural_order(file for file in files if file.is_file())


def in_natural_order(files: Iterable[Path]) -> list[Path]:
    """By name, with numbers as numbers: 2.png comes before 10.png, in every folder of the path."""
    return sorted(files, key=lambda file: ([_natural(part) for part in file.parts], file.parts))


def _natural(text: str) -> list[tuple[int, str, int]]:
    """Digits compare as the number that they are, and come before letters."""
    pieces = re.split(r"([0-9]+)", text)
    return [(0, "", int(p)) if p.isdecimal() else (1, p, 0) for p in pieces if p]


def decode_image(file: Path | BinaryIO, take: Callable[[Image.Image], Pixels]) -> Pixels:
    """What ``take`` makes of an image, turned as its EXIF data say; its size was asked before its pixels.

    The only place that hands bytes to Pillow, which goes by the content, not by the name: an EPS file called
    017.png would start Ghostscript. So the formats of the documentation are decoded and no others, and the
    size that a file claims is asked before its pixels are.

    Args:
        file: of one of `FORMATS`, whatever its name says; or its content, which stays open.
        take: for example ``lambda image: np.array(image.convert("RGB"))``.

    Raises:
        FrameError: no file, no image of these formats, larger than `MOST_PIXELS`, or damaged; what
            ``take`` raises of this kind passes through.
    """
    try:
        with _opened(file) as content, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata; sizes are checked here
            with Image.open(content, formats=FORMATS) as image:
                _check_size(image)
                ImageOps.exif_transpose(image, in_place=True)
                return take(image)
    except FrameError:
        raise
    except UnidentifiedImageError:
        raise FrameError(_not_an_image(file)) from None
    except Image.DecompressionBombError as error:
        raise FrameError(f"is larger than {MOST_PIXELS:,} pixels") from error
    except OSError as error:
        raise FrameError(f"cannot be decoded: {reason_of(error)}") from error
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        raise FrameError(f"cannot be decoded: {type(error).__name__}: {error}") from error


def read_image(file: Path | BinaryIO, channels: int = 3) -> NDArray[np.uint8]:
    """Decode an image file, or the content of one, to uint8 [H, W, 3] RGB, or [H, W, 4] as it is.

    Raises:
        FrameError: unreadable, truncated, empty, too large, with pixels that are no 8-bit
            colours (16-bit, float), or without the fourth channel that is asked for.
    """
    return decode_image(file, _rgb if channels == 3 else lambda image: _as_it_is(image, channels))


def read_class_map(file: Path) -> Mask:
    """Decode labels: an image of one channel, a class index a pixel, to uint8 or uint16 [H, W].

    Raises:
        UsageError: unreadable, or no such image.
    """
    try:
        return decode_image(file, class_map)
    except FrameError as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def read_labels(file: Path) -> NDArray[np.uint8 | np.uint16]:
    """Decode labels: a class map [H, W] as `read_class_map`, or colours uint8 [H, W, 3].

    Raises:
        UsageError: unreadable, or neither.
    """
    try:
        return decode_image(
            file, lambda image: _rgb(image) if image.mode in ("RGB", "RGBA") else class_map(image)
        )
    except FrameError as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def resized(pixels: NDArray[Value], size: tuple[int, int], how: Image.Resampling) -> NDArray[Value]:
    """An image or class map of another height and width; class maps need the nearest pixel."""
    return np.array(Image.fromarray(pixels).resize(size[::-1], how), pixels.dtype)


def class_map(image: Image.Image) -> Mask:
    """The class indices of an opened image; see `read_class_map`.

    Raises:
        FrameError: it has another mode.
    """
    if image.mode in ("L", "P"):
        return np.array(image, np.uint8)
    if image.mode == "I;16":
        return np.array(image, np.uint16)
    if image.mode == "I":  # what older Pillows make of 16-bit PNG files
        values = np.array(image)
        if values.min(initial=0) >= 0 and values.max(initial=0) <= np.iinfo(np.uint16).max:
            return values.astype(np.uint16)
    raise FrameError(f"expected a class map of one channel with 8 or 16 bits, got mode {image.mode!r}")


def _as_it_is(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    if len(image.getbands()) != channels or image.mode != "RGBA":
        raise FrameError(
            f"the network takes {channels} channels, this image has mode {image.mode!r}"
            + ("" if channels == 4 else "; image files have at most 4: hand arrays to `predict`")
        )
    return np.array(image)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode not in RGB_LIKE_MODES:
        raise FrameError(f"pixels of mode {image.mode!r} are not 8-bit colours")
    return np.array(image.convert("RGB"))


def _opened(file: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return open_given(file) if isinstance(file, Path) else nullcontext(file)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise FrameError(f"claims {width}x{height}, larger than {MOST_PIXELS:,} pixels")


def _not_an_image(file: Path | BinaryIO) -> str:
    try:
        empty = isinstance(file, Path) and file.stat().st_size == 0
    except OSError:
        empty = False
    return "is empty" if empty else f"is not an image of a known format ({', '.join(FORMATS)})"


class ColourOverlay:
    """Blends class colours over images; a class beyond the palette darkens.

    Args:
        palette: of the classes.
        opacity: of the colours, 0 to 1.
    """

    def __init__(self, palette: Sequence[Colour], opacity: float = OPACITY) -> None:
        self._colours = np.zeros((np.iinfo(mask_dtype(len(palette))).max + 1, 3), np.uint8)
        self._colours[: len(palette)] = (np.array(palette, np.float32) * opacity).round()
        self._dimmed = (np.arange(256, dtype=np.float32) * (1 - opacity)).astype(np.uint8)

    def over(self, image: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
        """Image uint8 [H, W, 3] RGB and class map [h, w] -> uint8 [H, W, 3]. Further channels are not shown.

        A map of another size is enlarged or reduced to the image's, each pixel taking the nearest class.
        """
        if mask.shape != image.shape[:2]:
            mask = resized(mask, (image.shape[0], image.shape[1]), Image.Resampling.NEAREST)
        blended: NDArray[np.uint8] = self._dimmed[image[..., :3]] + self._colours[mask]
        return blended
