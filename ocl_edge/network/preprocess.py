"""From a frame to the network's input."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ocl_edge.errors import FrameError

MOST_PIXELS = 1 << 26
"""Of an image, or a network's input: 8192 x 8192."""

Side = Annotated[int, Field(gt=0, le=32768)]
Byte = Annotated[int, Field(ge=0, le=255)]
Mean = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
Deviation = Annotated[float, Field(ge=1e-6, le=1000, allow_inf_nan=False)]


ColourOrder = Literal["RGB", "BGR", "GREY", "ANY"]
MOST_CHANNELS = 64
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in a grey pixel, ITU-R BT.601."""


class InputSpec(BaseModel):
    """How a frame becomes the network's input: ``(pixel * scale / 255 - mean) / std``.

    Attributes:
        height: in pixels.
        width: in pixels.
        colour_order: of the network's channels. ``GREY`` is one channel, made of RGB frames by
            their luma (ITU-R BT.601); ``ANY`` is any other number of channels, taken as they come.
        scale: what a white pixel becomes before mean and deviation: 1 or 255.
        mean: of each channel, in the network's order and scale.
        std: likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: Side
    width: Side
    colour_order: ColourOrder = "RGB"
    scale: Literal[1, 255] = 1
    mean: Annotated[tuple[Mean, ...], Field(min_length=1, max_length=MOST_CHANNELS)] = (0.485, 0.456, 0.406)
    std: Annotated[tuple[Deviation, ...], Field(min_length=1, max_length=MOST_CHANNELS)] = (
        0.229,
        0.224,
        0.225,
    )

    @model_validator(mode="after")
    def _fits_into_memory(self) -> InputSpec:
        check_area(self.height, self.width)
        return self

    @model_validator(mode="after")
    def _numbers_for_each_channel(self) -> InputSpec:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} standard deviations")
        expected = {"RGB": 3, "BGR": 3, "GREY": 1}.get(self.colour_order, self.channels)
        if self.channels != expected:
            raise ValueError(
                f"{self.colour_order} has {expected} channels, mean and std have {self.channels}"
            )
        return self

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return len(self.mean)


class Preprocessor:
    """Resizes (bilinear, no antialiasing) and normalises frames into buffers of its own.

    Args:
        spec: size, mean and standard deviation from the manifest.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.size = (spec.height, spec.width)
        self.spec = spec
        std = torch.tensor(spec.std).view(1, -1, 1, 1)
        self.scale = spec.scale / (255 * std)
        self.shift = -torch.tensor(spec.mean).view(1, -1, 1, 1) / std
        self._views = torch.empty(2, spec.channels, *self.size)

    def single(self, image: NDArray[np.uint8]) -> Tensor:
        """One view: uint8 [H, W, 3] RGB -> float32 [1, C, h, w].

        A network of one channel also takes [H, W, 1]; one of another number takes [H, W, C].
        The result is valid until the next call of `single` or `pair`.

        Raises:
            FrameError: another dtype or shape, or an empty image.
        """
        check_image(image, self.spec.channels)
        if not (image.flags.writeable and image.flags.c_contiguous):  # what torch.from_numpy insists on
            image = image.copy()
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        if pixels.shape[2:] != self.size:
            pixels = F.interpolate(pixels, self.size, mode="bilinear", align_corners=False)
        if self.spec.colour_order == "BGR":
            pixels = pixels.flip(1)
        elif self.spec.channels == 1 and pixels.shape[1] == 3:
            pixels = (pixels * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return torch.addcmul(self.shift, pixels, self.scale, out=self._views[:1])

    def pair(self, image: NDArray[np.uint8]) -> Tensor:
        """The view pair, image and horizontal flip: float32 [2, C, h, w]. Otherwise as `single`."""
        self._views[1:].copy_(self.single(image).flip(3))
        return self._views


def check_area(height: int, width: int) -> None:
    """Raises `ValueError` where an image of this size is larger than `MOST_PIXELS`."""
    if height * width > MOST_PIXELS:
        raise ValueError(f"{height}x{width} is larger than {MOST_PIXELS:,} pixels")


def check_image(image: NDArray[np.uint8], channels: int = 3) -> None:
    """Raise unless the image is uint8 [H, W, 3] with pixels, or [H, W, channels].

    Raises:
        FrameError: saying what was found; NaN is named where there is any.
    """
    if not isinstance(image, np.ndarray):
        raise FrameError(f"expected a NumPy array uint8 [H, W, 3], got {type(image).__name__}")
    if image.dtype != np.uint8:
        lost = np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all()
        found = f"{image.dtype} with NaN or infinite values" if lost else str(image.dtype)
        raise FrameError(f"expected uint8 pixels of 0 to 255, got {found}")
    fits = (1, 3) if channels == 1 else (channels,)
    if image.ndim != 3 or image.shape[2] not in fits or 0 in image.shape:
        of = "an RGB image" if 3 in fits else "an image"
        raise FrameError(f"expected {of} [H, W, {fits[-1]}] with pixels, got {list(image.shape)}")
