"""Images and masks as data URIs, small enough to be mailed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.errors import FrameError
from ocl_edge.images import Colour, class_map, decode_image

MOST_PX = 420
"""Width of a picture in a report; larger ones are shrunk."""


def photo_uri(image: NDArray[np.uint8], quality: int = 82) -> str:
    """JPEG of an image, uint8 [H, W, 3] RGB."""
    return _uri("image/jpeg", Image.fromarray(shrunk(image)), format="JPEG", quality=quality, optimize=True)


def mask_uri(mask: NDArray[np.uint8], palette: Sequence[Colour]) -> str:
    """Indexed PNG of a class map, uint8 [H, W]; a class beyond the palette is black."""
    return _uri("image/png", _indexed(shrunk(mask), palette), format="PNG", optimize=True)


def shrunk(pixels: NDArray[np.uint8], most_px: int = MOST_PX) -> NDArray[np.uint8]:
    """An image or class map at most so wide; class maps keep their values (nearest neighbour)."""
    height, width = pixels.shape[:2]
    if width <= most_px:
        return pixels
    how = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.BILINEAR
    size = (most_px, max(1, round(height * most_px / width)))
    return np.array(Image.fromarray(pixels).resize(size, how, reducing_gap=2.0 if pixels.ndim == 3 else None))


def mask_to_text(mask: NDArray[np.uint8]) -> str:
    """A class map as base64 of a grey PNG, for a JSON file."""
    return _base64(Image.fromarray(mask), format="PNG", optimize=True)


def mask_from_text(text: str) -> NDArray[np.uint8]:
    """The class map that `mask_to_text` took.

    Raises:
        ValueError: the text is something else.
    """
    try:
        return decode_image(io.BytesIO(base64.b64decode(text, validate=True)), class_map)
    except FrameError as error:
        raise ValueError(f"no class map: {error}") from error


def _indexed(mask: NDArray[np.uint8], palette: Sequence[Colour]) -> Image.Image:
    image = Image.fromarray(mask)
    colours = [channel for colour in palette for channel in colour]
    image.putpalette(colours + [0] * (768 - len(colours)))
    return image


def _uri(kind: str, image: Image.Image, **options: object) -> str:
    return f"data:{kind};base64,{_base64(image, **options)}"


def _base64(image: Image.Image, **options: object) -> str:
    stream = io.BytesIO()
    image.save(stream, **options)  # type: ignore[arg-type]
    return base64.b64encode(stream.getvalue()).decode("ascii")
