"""Frames with labels, and how predictions are compared with them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.errors import UsageError
from ocl_edge.images import read_image, read_labels, resized
from ocl_edge.masks import Mask
from ocl_edge.scoring.labels import LabelSpace as LabelSpace
from ocl_edge.scoring.labels import read_label_palette as read_label_palette
from ocl_edge.scoring.labels import read_label_space as read_label_space
from ocl_edge_app.evaluation.label_code import AS_THEY_ARE, VALUES, LabelCode
from ocl_edge_runtime.sources.images import find_images

LABELS_LOOKED_AT = 20
MUCH_IGNORED = 0.05


@dataclass(frozen=True)
class LabelledFrames:
    """Pairs of image and label files, in order.

    Attributes:
        pairs: of files.
        code: of the label files.
        channels: of the frames, see `read_image`.
        size: height and width that frames (bicubic) and labels (nearest) are brought to; None: their own.
    """

    pairs: tuple[tuple[Path, Path], ...]
    code: LabelCode = AS_THEY_ARE
    size: tuple[int, int] | None = None
    channels: int = 3

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

    def doubt(self, space: LabelSpace) -> str | None:
        """What looks wrong about the labels of some frames, None where nothing does.

        A class without a pixel while much is ignored: labels of 0 and 255, for example, of which only
        the background is measured.
        """
        values = np.zeros(VALUES, np.int64)
        step = -(-len(self.pairs) // LABELS_LOOKED_AT)
        for _, file in self.pairs[::step]:
            with contextlib.suppress(UsageError):  # said when its frame comes
                values += np.bincount(self._labels(file).ravel(), minlength=VALUES)
        ignored = values[space.ignore] / max(1, values.sum()) if 0 <= space.ignore < VALUES else 0.0
        unseen = [name for index, name in enumerate(space.names) if not values[index]]
        if ignored < MUCH_IGNORED or not unseen or values[: len(space.names)].astype(bool).sum() > 1:
            return None
        return (
            f"the label value {space.ignore} is ignored and fills {100 * ignored:.0f} % of the labels, while "
            f"{', '.join(unseen[:5])} never occur{'s' if len(unseen) == 1 else ''}: are these masks of 0 and "
            f"{space.ignore}? Write class indices, or name another ignore_index with --label-classes"
        )

    def read(self, index: int) -> tuple[NDArray[np.uint8], Mask]:
        """Image uint8 [H, W, 3] and labels [H, W] of the same size.

        Raises:
            UsageError: the label file holds neither classes nor colours of classes, or is of another size.
            FrameError: the image cannot be decoded.
        """
        file, label_file = self.pairs[index]
        image, labels = read_image(file, self.channels), self._labels(label_file)
        if labels.shape != image.shape[:2]:
            raise UsageError(
                f"{label_file} is {labels.shape[1]}x{labels.shape[0]}, "
                f"its frame {image.shape[1]}x{image.shape[0]}"
            )
        if self.size is None or labels.shape == self.size:
            return image, labels
        return resized(image, self.size, Image.Resampling.BICUBIC), resized(
            labels, self.size, Image.Resampling.NEAREST
        )

    def _labels(self, file: Path) -> Mask:
        pixels = read_labels(file)
        try:
            return self.code.decode(pixels)
        except UsageError as error:
            raise UsageError(f"{file} cannot be read: {error}") from error
