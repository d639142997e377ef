"""Small videos for the tests of sources."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.doubles.images import random_image

LENGTH = 12


def make_video(
    path: Path,
    codec: str = "mjpeg",
    rotation: int = 0,
    index_first: bool = True,
    times: list[int] | None = None,
) -> Path:
    """Twelve frames of 64x48 blobs, ten a second or at the given tenths of seconds."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" and index_first else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = {"mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
        if rotation and not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV reads rotated videos and writes none")
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(LENGTH):
            frame = av.VideoFrame.from_ndarray(random_image(index, 48, 64), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
