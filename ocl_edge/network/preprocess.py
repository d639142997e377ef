"""From a frame to the network's input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ocl_edge.errors import FrameError
from ocl_edge.images import MOST_PIXELS
from ocl_edge.masks import Mask
from ocl_edge.network.letterbox import mask_without_bars, with_bars
from ocl_edge.network.sampling import SampledAxis
from ocl_edge.tensors import Tensor, resize_bilinear, torch

REDUCED = 4
"""From so many frame pixels a network pixel on, reading the pixels that count takes less time than all."""

Side = Annotated[int, Field(gt=0, le=32768)]
Byte = Annotated[int, Field(ge=0, le=255)]
Mean = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
Deviation = Annotated[float, Field(ge=1e-6, le=1000, allow_inf_nan=False)]


Colours = Literal["rgb", "bgr", "grey", "any"]
Resize = Literal["stretch", "letterbox"]
MOST_CHANNELS = 64
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in a grey pixel, ITU-R BT.601."""


class InputSpec(BaseModel):
    """How a frame becomes the network's input: ``(pixel * scale / 255 - mean) / std``.

    Attributes:
        height: in pixels.
        width: in pixels.
        colours: the network's channels, in its order. ``grey`` is one channel, made of RGB frames by
            their luma (ITU-R BT.601); ``any`` is any other number of channels, taken as they come.
        colour_order: the same in earlier bundles, which named what was not kept to: nothing but RGB is read.
        resize: ``stretch`` to the network's size, or ``letterbox``: with grey bars, see `letterbox`.
        scale: what a white pixel becomes before mean and deviation: 1 or 255.
        mean: of each channel, in the network's order and scale.
        std: likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: Side
    width: Side
    colours: Colours = "rgb"
    colour_order: Literal["RGB"] = Field("RGB", exclude=True)
    resize: Resize = "stretch"
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
        expected = {"rgb": 3, "bgr": 3, "grey": 1}.get(self.colours, self.channels)
        if self.channels != expected:
            raise ValueError(f"{self.colours} has {expected} channels, mean and std have {self.channels}")
        return self

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return len(self.mean)

    @property
    def frame_channels(self) -> int:
        """Of the frames that it is made of: grey is made of RGB."""
        return 3 if self.channels == 1 else self.channels


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
        self.spec = spec
        std = torch.tensor(spec.std).view(1, -1, 1, 1)
        self.scale = spec.scale / (255 * std)
        self.shift = -torch.tensor(spec.mean).view(1, -1, 1, 1) / std
        self._views = torch.empty(2, spec.channels, *self.size)
        self._taps: _Taps | None = None

    def single(self, image: NDArray[np.uint8]) -> Tensor:
        """One view: uint8 [H, W, 3] RGB -> float32 [1, C, h, w].

        A network of one channel also takes [H, W, 1]; one of another number takes [H, W, C].
        The result is valid until the next call of `single` or `pair`.

        Raises:
            FrameError: another dtype or shape, or an empty image.
        """
        check_image(image, self.spec.channels)
        if self.spec.resize == "letterbox":
            image = with_bars(image, self.size)
        reduced = image.shape[0] * image.shape[1] >= REDUCED * self.size[0] * self.size[1]
        if reduced and image.shape[2] == 3:
            pixels = self._sampled(image)
        else:
            if not (image.flags.writeable and image.flags.c_contiguous):  # what torch.from_numpy insists on
                image = image.copy()
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
            if pixels.shape[2:] != self.size:
                pixels = resize_bilinear(pixels, self.size, align_corners=False)
        if self.spec.colours == "bgr":
            pixels = pixels.flip(1)
        elif self.spec.channels == 1 and pixels.shape[1] == 3:
            pixels = (pixels * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
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
        """The view pair, image and horizontal flip: float32 [2, C, h, w]. Otherwise as `single`."""
        self._views[1:].copy_(self.single(image).flip(3))
        return self._views


def mask_of_frame(
    make: Callable[[int, int], Mask],
    spec: InputSpec,
    frame: tuple[int, int],
    size: tuple[int, int],
) -> Mask:
    """The mask of a frame, [H, W], from one of all that the network saw.

    Args:
        make: gives the mask of the network's whole input, of any height and width.
        spec: how the frame became that input.
        frame: its height and width, in pixels.
        size: of the wanted mask.
    """
    if spec.resize == "stretch":
        return make(*size)
    return mask_without_bars(make, frame, size, (spec.height, spec.width))


def noise_view(spec: InputSpec) -> Tensor:
    """Pixels that are random and independent, normalised: float32 [1, C, h, w], always the same."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(1, spec.channels, spec.height, spec.width, generator=generator)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (pixels * spec.scale - mean) / std


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
