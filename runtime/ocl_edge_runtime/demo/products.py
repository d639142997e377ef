"""What a demo leaves in its directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocl_edge.demo.drive import FRAMES_PER_S, DriveFrame
from ocl_edge_runtime.demo.comparison import Comparison, representative
from ocl_edge_runtime.demo.pictures import poster, video_pictures
from ocl_edge_runtime.demo.video import why_no_mp4, write_mp4, write_webp
from ocl_edge_runtime.sinks.files import write_png

OnFrame = Callable[[str], None]


def write_frames(frames: Iterable[DriveFrame], directory: Path, on_frame: OnFrame) -> list[DriveFrame]:
    """Write ``frames/NAME.png`` and ``labels/NAME.png`` as they are drawn; other verbs read them.

    Raises:
        OutputError: they cannot be written.
    """
    for name in ("frames", "labels"):
        (directory / name).mkdir()
    drawn = []
    for frame in frames:
        write_png(directory / "frames" / file_name(frame), frame.image)
        write_png(directory / "labels" / file_name(frame), frame.labels)
        drawn.append(frame)
        on_frame(frame.stretch)
    return drawn


def write_masks(comparison: Comparison, directory: Path) -> None:
    """Write ``masks/frozen/NAME.png`` and ``masks/adapted/NAME.png``: 8-bit class indices.

    Raises:
        OutputError: they cannot be written.
    """
    for name, score in comparison.scores.items():
        (directory / "masks" / name).mkdir(parents=True)
        for frame, mask in zip(comparison.frames, score.masks, strict=True):
            write_png(directory / "masks" / name / file_name(frame), mask)


def write_video(comparison: Comparison, directory: Path, on_frame: OnFrame) -> Path:
    """Write ``video.mp4``, or ``video.webp`` where `why_no_mp4` has a reason; returns which.

    Raises:
        OSError: it cannot be written.
    """
    path, write = directory / "video.mp4", write_mp4
    if why_no_mp4():
        path, write = directory / "video.webp", write_webp

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for picture in video_pictures(comparison):
            yield picture
            on_frame(path.name)

    write(path, pictures(), FRAMES_PER_S)
    return path


def write_poster(comparison: Comparison, directory: Path) -> None:
    """Write ``poster.png``: one frame that is typical of the whole drive."""
    poster(comparison, representative(comparison)).save(directory / "poster.png", optimize=True)


def file_name(frame: DriveFrame) -> str:
    return f"{frame.index:06d}.png"
