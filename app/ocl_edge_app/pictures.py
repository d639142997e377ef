"""Images and masks as data URIs, small enough to be mailed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.errors import FrameError
from ocl_edge.images import Colour, Value, class_map, decode_image
from ocl_edge.masks import MOST_CLASSES, Mask

MOST_PX = 420
"""Width of a picture in a report; larger ones are shrunk."""


def photo_uri(image: NDArray[np.uint8], quality: int = 82) -> str:
    """JPEG of an image, uint8 [H, W, 3] RGB; further channels are not shown."""
    return _uri(
        "image/jpeg", Image.fromarray(shrunk(image[..., :3])), format="JPEG", quality=quality, optimize=True
    )


def mask_uri(mask: Mask, palette: Sequence[Colour]) -> str:
    """PNG of a class map, [H, W]; a class beyond the palette is black."""
    return _uri("image/png", _coloured(shrunk(mask), palette), format="PNG", optimize=True)


def shrunk(pixels: NDArray[Value], most_px: int = MOST_PX) -> NDArray[Value]:
    """An image or class map at most so wide; class maps keep their values (nearest neighbour)."""
    height, width = pixels.shape[:2]
    if width <= most_px:
        return pixels
    how = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.BILINEAR
    size = (most_px, max(1, round(height * most_px / width)))
    gap = 2.0 if pixels.ndim == 3 else None
    return np.array(Image.fromarray(pixels).resize(size, how, reducing_gap=gap), pixels.dtype)


def mask_to_text(mask: Mask) -> str:
    """A class map as base64 of a grey PNG, for a JSON file."""
    return _base64(Image.fromarray(mask), format="PNG", optimize=True)


def mask_from_text(text: str) -> Mask:
    """The class map that `mask_to_text` took.

    Raises:
        ValueError: the text is something else.
    """
    try:
        return decode_image(io.BytesIO(base64.b64decode(text, validate=True)), class_map)
    except FrameError as error:
        raise ValueError(f"no class map: {error}") from error


def _coloured(mask: Mask, palette: Sequence[Colour]) -> Image.Image:
    """Indexed where there are few classes: that is smaller."""
    if mask.dtype != np.uint8:
        colours = np.zeros((MOST_CLASSES + 1, 3), np.uint8)
        colours[: len(palette)] = palette
        return Image.fromarray(colours[mask])
    image = Image.fromarray(mask)
    channels = [channel for colour in palette for channel in colour]
    image.putpalette(channels + [0] * (768 - len(channels)))
    return image


def _uri(kind: str, image: Image.Image, **options: object) -> str:
    return f"data:{kind};base64,{_base64(image, **options)}"


def _base64(image: Image.Image, **options: object) -> str:
    stream = io.BytesIO()
    image.save(stream, **options)  # type: ignore[arg-type]
    return base64.b64encode(stream.getvalue()).decode("ascii")
