"""From a message of ROS to an arrival, whether a recording or a topic brought it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError
from ocl_edge_runtime.ros.messages import CompressedImage, Image, read_image
from ocl_edge_runtime.ros.pixels import pixels_of, pixels_of_compressed
from ocl_edge_runtime.sources.base import Arrival, refuse


def arrival_of(
    type_name: str, message: bytes | memoryview, captured_at: float, recorded_ns: int | None = None
) -> Arrival:
    """An image message as it arrived; one that cannot be read gives an arrival without pixels.

    Args:
        type_name: one of `ros.messages.IMAGES`.
        message: its CDR; kept until its pixels are asked for.
        captured_at: seconds of the source's clock.
        recorded_ns: of a recording; stands in for a stamp that the sender left empty.
    """
    try:
        image = read_image(type_name, message)
    except FrameError as error:
        return Arrival(captured_at, partial(refuse, str(error)))
    header = replace(image.header, recorded_ns=recorded_ns)
    if not header.stamp_ns and recorded_ns is not None:
        header = replace(header, stamp_ns=recorded_ns)
    return Arrival(captured_at, partial(_pixels, image), header=header)


def _pixels(image: Image | CompressedImage) -> NDArray[np.uint8]:
    return pixels_of(image) if isinstance(image, Image) else pixels_of_compressed(image)
