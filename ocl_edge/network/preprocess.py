"""From a frame to the network's input."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from ocl_edge.errors import FrameError
from ocl_edge.network.sampling import SampledAxis

REDUCED = 4
"""From so many frame pixels a network pixel on, reading the pixels that count takes less time than all."""


class InputSpec(BaseModel):
    """How a frame becomes the network's input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    colour_order: str = "RGB"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class _Taps:
    """What the bilinear resize of frames of one size reads, and where it works.

    Attributes:
        frame_size: height and width.
        rows: the row above each of the network's rows, then the one below each, [2h].
        columns: the column left and right of each of the network's columns, as positions in a row of
            the frame's bytes, all red ones first, two of [3w].
        across: weight of the right one, float32 [3w].
        down: of the row below, float32 [h, 1].
    """

    def __init__(self, frame_size: tuple[int, ...], size: tuple[int, int]) -> None:
        y, x = (
            SampledAxis.ask_pytorch(*sides, align_corners=False)
            for sides in zip(frame_size, size, strict=True)
        )
        self.frame_size = frame_size
        self.rows = np.concatenate((y.low, y.high))
        self.columns = [(3 * side + np.arange(3)[:, None]).reshape(-1) for side in (x.low, x.high)]
        self.across, self.down = torch.from_numpy(x.far).repeat(3), torch.from_numpy(y.far)[:, None]
        self.of_rows = np.empty((2 * size[0], 3 * frame_size[1]), np.uint8)
        self.of_columns = np.empty((2 * size[0], 3 * size[1]), np.uint8)
        self.floats = torch.empty(2, *self.of_columns.shape)


class Preprocessor:
    """Resizes (bilinear, no antialiasing) and normalises frames into buffers of its own.

    Args:
        spec: size, mean and standard deviation from the manifest.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.size = (spec.height, spec.width)
        std = torch.tensor(spec.std).view(1, 3, 1, 1)
        self.scale = 1 / (255 * std)
        self.shift = -torch.tensor(spec.mean).view(1, 3, 1, 1) / std
        self._views = torch.empty(2, 3, *self.size)
        self._taps: _Taps | None = None

    def single(self, image: NDArray[np.uint8]) -> Tensor:
        """One view: uint8 [H, W, 3] RGB -> float32 [1, 3, h, w].

        The result is valid until the next call of `single` or `pair`.

        Raises:
            FrameError: another dtype or shape, or an empty image.
        """
        check_image(image)
        if image.shape[0] * image.shape[1] >= REDUCED * self.size[0] * self.size[1]:
            pixels = self._sampled(image)
        else:
            if not (image.flags.writeable and image.flags.c_contiguous):  # what torch.from_numpy insists on
                image = image.copy()
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
            if pixels.shape[2:] != self.size:
                pixels = F.interpolate(pixels, self.size, mode="bilinear", align_corners=False)
        return torch.addcmul(self.shift, pixels, self.scale, out=self._views[:1])

    def _sampled(self, image: NDArray[np.uint8]) -> Tensor:
        """The resize of a large frame, [1, 3, h, w]: it reads the four pixels around each of its own."""
        if self._taps is None or self._taps.frame_size != image.shape[:2]:
            self._taps = _Taps(image.shape[:2], self.size)
        taps, (height, width) = self._taps, self.size
        # into buffers, as new memory takes as long as the arithmetic; "clip" writes straight into them
        rows = image.reshape(len(image), -1).take(taps.rows, 0, taps.of_rows, "clip")
        for columns, floats in zip(taps.columns, taps.floats, strict=True):
            rows.take(columns, 1, taps.of_columns, "clip")
            floats.copy_(torch.from_numpy(taps.of_columns))
        left, right = taps.floats
        along_rows = torch.lerp(left, right, taps.across, out=left)
        resized = torch.lerp(along_rows[:height], along_rows[height:], taps.down, out=right[:height])
        return resized.view(1, height, 3, width).transpose(1, 2)

    def pair(self, image: NDArray[np.uint8]) -> Tensor:
        """The view pair, image and horizontal flip: float32 [2, 3, h, w]. Otherwise as `single`."""
        self._views[1:].copy_(self.single(image).flip(3))
        return self._views


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise unless the image is uint8 [H, W, 3] with pixels.

    Raises:
        FrameError: saying what was found; NaN is named where there is any.
    """
    if not isinstance(image, np.ndarray):
        raise FrameError(f"expected a NumPy array uint8 [H, W, 3], got {type(image).__name__}")
    if image.dtype != np.uint8:
        lost = np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all()
        found = f"{image.dtype} with NaN or infinite values" if lost else str(image.dtype)
        raise FrameError(f"expected uint8 pixels of 0 to 255, got {found}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise FrameError(f"expected an RGB image [H, W, 3] with pixels, got {list(image.shape)}")
