"""Frames that keep their proportions: grey bars fill what the network's input has on two sides of them.

The bars are added to the frame, half on each side, and what comes out is resized as any frame: so the flipped
view is the flip of the view, and a mask is that of the frame with its bars, cut out of the middle.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError
from ocl_edge.images import MOST_PIXELS
from ocl_edge.masks import Mask

GREY = 114
"""What Ultralytics' networks are trained with; others hardly see the difference."""

Size = tuple[int, int]


def bars(frame: Size, network: Size) -> Size:
    """Rows and columns that a frame lacks to have the network's proportions, each an even number.

    Args:
        frame: height and width in pixels.
        network: likewise, of its input.

    Raises:
        FrameError: the frame is so long that it would fill the memory.
    """
    (height, width), (network_height, network_width) = frame, network
    rows = max(0, round(width * network_height / network_width) - height)
    columns = max(0, round(height * network_width / network_height) - width)
    rows, columns = rows + rows % 2, columns + columns % 2
    if (height + rows) * (width + columns) > MOST_PIXELS:
        raise FrameError(f"a frame of {height}x{width} with bars is larger than {MOST_PIXELS:,} pixels")
    return rows, columns


def with_bars(image: NDArray[np.uint8], network: Size) -> NDArray[np.uint8]:
    """The frame in the middle of a grey picture of the network's proportions, uint8 [H', W', C].

    Raises:
        FrameError: as `bars`.
    """
    height, width, channels = image.shape
    rows, columns = bars((height, width), network)
    if not rows and not columns:
        return image
    picture = np.full((height + rows, width + columns, channels), GREY, np.uint8)
    picture[rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width] = image
    return picture


def mask_without_bars(make: Callable[[int, int], Mask], frame: Size, size: Size, network: Size) -> Mask:
    """The mask of the frame alone.

    Args:
        make: gives the mask of the frame with its bars, of any height and width.
        frame: height and width of the frame, in pixels.
        size: of the wanted mask.
        network: of the network's input.
    """
    of_frame = bars(frame, network)
    rows, columns = (
        2 * round(bar * wanted / side / 2) for bar, wanted, side in zip(of_frame, size, frame, strict=True)
    )
    height, width = size
    mask = make(height + rows, width + columns)
    top, left = rows // 2, columns // 2
    return np.ascontiguousarray(mask[top : top + height, left : left + width])
