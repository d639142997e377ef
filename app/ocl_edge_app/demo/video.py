"""A video from pictures: MP4 where PyAV is installed, else an animated WebP."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CODEC = "libx264"
"""Every browser plays it."""
QUALITY = {"crf": "20", "preset": "veryfast"}
WEBP_QUALITY = 70


def why_no_mp4() -> str | None:
    """Why an MP4 cannot be written here, in words; None where it can."""
    try:
        import av
    except ImportError:
        return "PyAV is not installed (pip install 'ocl-edge[video]')"
    return None if CODEC in av.codecs_available else f"this PyAV was built without {CODEC}"


def write_video(pictures: Iterable[NDArray[np.uint8]], directory: Path, fps: float) -> str:
    """Write ``video.mp4``, or ``video.webp`` where `why_no_mp4` has a reason; returns the name.

    Args:
        pictures: uint8 [H, W, 3] RGB, H and W even.
        directory: of the file.
        fps: pictures a second.

    Raises:
        OSError: it cannot be written.
    """
    name, write = ("video.webp", _write_webp) if why_no_mp4() else ("video.mp4", _write_mp4)
    write(directory / name, pictures, fps)
    return name


def _write_mp4(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: float) -> None:
    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = container.add_stream(CODEC, Fraction(fps).limit_denominator(1000), options=QUALITY)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.thread_count = 1
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def _write_webp(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: float) -> None:
    images = (Image.fromarray(picture) for picture in pictures)
    first = next(images)
    first.save(
        path,
        save_all=True,
        append_images=images,
        duration=round(1000 / fps),
        loop=0,
        quality=WEBP_QUALITY,
        method=0,
    )
