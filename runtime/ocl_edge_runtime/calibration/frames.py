"""The frames of a calibration: found, looked at, and read again when they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError, UsageError
from ocl_edge.images import SUFFIXES, image_files, in_natural_order, read_image
from ocl_edge_runtime.session.screening import PIXEL_STRIDE, is_blank

SENSOR_NOISE = 4.0
"""Mean difference of two pictures of one scene, of 255."""
FEWEST_FRAMES, FEW_FRAMES, MOST_FRAMES = 5, 20, 200


@dataclass(frozen=True)
class GivenFrames:
    """Frames that can be used.

    Attributes:
        files: in natural order of their names.
        notes: what was left out, and what the user should know.
        channels: see `read_image`.
    """

    files: list[Path]
    notes: list[str]
    channels: int = 3

    def read(self, index: int) -> NDArray[np.uint8]:
        """Pixels of a frame, uint8 [H, W, C].

        Raises:
            FrameError: it cannot be read any more.
        """
        return read_image(self.files[index], self.channels)

    def __len__(self) -> int:
        return len(self.files)


def find_frames(directory: Path, channels: int = 3) -> GivenFrames:
    """The frames of a directory that show something, each scene once; evenly spaced where there are too many.

    Raises:
        UsageError: no directory, or fewer than `FEWEST_FRAMES` of them.
    """
    files = in_natural_order(image_files(directory)) if directory.is_dir() else []
    if not files:
        raise UsageError(f"{directory}: no images ({', '.join(SUFFIXES)}) there")
    left_out = {"cannot be read": 0, "show nothing (black, or of one colour)": 0, "repeat another one": 0}
    seen: list[NDArray[np.int16]] = []
    usable, sizes = [], set()
    for file in _evenly(files, MOST_FRAMES):
        try:
            frame = read_image(file, channels)
        except FrameError:
            left_out["cannot be read"] += 1
            continue
        sample = frame[::PIXEL_STRIDE, ::PIXEL_STRIDE].astype(np.int16)
        if is_blank(frame):
            left_out["show nothing (black, or of one colour)"] += 1
        elif any(_repeats(sample, other) for other in seen):
            left_out["repeat another one"] += 1
        else:
            seen.append(sample)
            usable.append(file)
            sizes.add(frame.shape[:2])
    notes = [f"{count} frames are left out: they {why}" for why, count in left_out.items() if count]
    if len(usable) < FEWEST_FRAMES:
        why = f" ({'; '.join(notes)})" if notes else ""
        raise UsageError(
            f"{directory}: {len(usable)} different frames can be used{why}; calibration takes "
            f"{FEWEST_FRAMES} or more, {FEW_FRAMES} to {MOST_FRAMES} are best"
        )
    if len(files) > MOST_FRAMES:
        notes.append(f"of {len(files)} frames, {MOST_FRAMES} are taken, evenly spaced")
    if len(usable) < FEW_FRAMES:
        notes.append(f"{len(usable)} frames are few: {FEW_FRAMES} to {MOST_FRAMES} tell more of home")
    if len(sizes) > 1:
        notes.append(f"the frames have {len(sizes)} sizes; each is resized to the network's input")
    return GivenFrames(usable, notes, channels)


def _repeats(sample: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """Whether two frames show the same, but for a sensor's noise: of a camera that stands, for example."""
    return sample.shape == other.shape and float(np.abs(sample - other).mean()) < SENSOR_NOISE


def _evenly(files: list[Path], most: int) -> list[Path]:
    if len(files) <= most:
        return files
    return [files[round(place)] for place in np.linspace(0, len(files) - 1, most)]


def evenly_spaced(indices: list[int], most: int) -> list[int]:
    """At most so many of some indices, the first and the last among them."""
    return [indices[round(place)] for place in np.linspace(0, len(indices) - 1, min(most, len(indices)))]
