"""Frames with labels, and how predictions are compared with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError, UsageError
from ocl_edge.image_files import read_class_map
from ocl_edge.scoring.labels import LabelSpace as LabelSpace
from ocl_edge.scoring.labels import read_label_palette as read_label_palette
from ocl_edge.scoring.labels import read_label_space as read_label_space
from ocl_edge_runtime.sources.images import find_images, read_image


@dataclass(frozen=True)
class LabelledFrames:
    """Pairs of image and label files, in order of name."""

    pairs: tuple[tuple[Path, Path], ...]

    @classmethod
    def find(cls, frames: str, labels: Path, limit: int | None = None) -> LabelledFrames:
        """Pair every frame with the label file of the same stem.

        Raises:
            UsageError: no frames, or frames without a label file (named, first ten).
        """
        files = find_images(frames)[:limit]
        if not labels.is_dir():
            raise UsageError(f"--labels {labels}: there is no such directory")
        pairs = [(file, labels / f"{file.stem}.png") for file in files]
        missing = [label.name for _, label in pairs if not label.is_file()]
        if missing:
            raise UsageError(
                f"{len(missing)} of {len(files)} frames have no label file in {labels}: "
                f"{', '.join(missing[:10])}"
            )
        return cls(tuple(pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image uint8 [H, W, 3] and labels uint8 [H, W] of the same size.

        Raises:
            UsageError: the label file is no 8-bit class map, or of another size.
            FrameError: the image cannot be decoded.
        """
        file, label_file = self.pairs[index]
        image = read_image(file)
        try:
            labels = read_class_map(label_file)
        except FrameError as error:
            raise UsageError(f"{label_file}: {error}") from error
        if labels.shape != image.shape[:2]:
            raise UsageError(
                f"{label_file} is {labels.shape[1]}x{labels.shape[0]}, "
                f"its frame {image.shape[1]}x{image.shape[0]}"
            )
        return image, labels
