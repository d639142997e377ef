"""A small segmentation network: what the demo trains, ships and adapts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise convolution, each normalised; residual where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            inputs, inputs, 3, stride, dilation, dilation=dilation, groups=inputs, bias=False
        )
        self.depthwise_norm = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.depthwise_norm(self.depthwise(features)))
        x = self.pointwise_norm(self.pointwise(x))
        return F.relu(x + features if self.residual else x)


class Merge(nn.Module):
    """Upsamples coarse features to fine ones and adds these, projected and normalised."""

    def __init__(self, fine: int, coarse: int, outputs: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(fine, outputs, 1, bias=False)
        self.fine_norm = nn.BatchNorm2d(outputs)
        self.coarse = nn.Conv2d(coarse, outputs, 1, bias=False)
        self.coarse_norm = nn.BatchNorm2d(outputs)
        self.refine = Separable(outputs, outputs)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        x = self.coarse_norm(self.coarse(coarse))
        x = F.interpolate(x, fine.shape[2:], mode="bilinear", align_corners=False)
        merged: Tensor = self.refine(F.relu(x + self.fine_norm(self.fine(fine))))
        return merged


class Segmenter(nn.Module):
    """Encoder to 1/16, decoder to 1/2, a 1x1 convolution as the head, bilinear upsampling.

    Args:
        classes: outputs of the head.
        width: channels at 1/2; 2, 4 and 8 times as many at 1/4, 1/8 and 1/16.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.quarter = nn.Sequential(Separable(width, 2 * width, 2), Separable(2 * width, 2 * width))
        self.eighth = nn.Sequential(
            Separable(2 * width, 4 * width, 2), *(Separable(4 * width, 4 * width) for _ in range(2))
        )
        self.sixteenth = nn.Sequential(
            Separable(4 * width, 8 * width, 2),
            *(Separable(8 * width, 8 * width, dilation=dilation) for dilation in (1, 2, 4, 1)),
        )
        self.to_eighth = Merge(4 * width, 8 * width, 4 * width)
        self.to_quarter = Merge(2 * width, 4 * width, 2 * width)
        self.to_half = Merge(width, 2 * width, 2 * width)
        self.classifier = nn.Conv2d(2 * width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """float32 [N, 3, H, W], normalised, H and W multiples of 16 -> logits [N, classes, H, W]."""
        half = F.relu(self.stem_norm(self.stem(image)))
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        x = self.to_eighth(eighth, self.sixteenth(eighth))
        logits = self.classifier(self.to_half(half, self.to_quarter(quarter, x)))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


def build(classes: int = 10, width: int = 16) -> nn.Module:
    """A `Segmenter` with random weights, by default for the classes of the drawn street."""
    return Segmenter(classes, width)


def normalise(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] RGB -> float32 [N, 3, H, W] as the network expects it."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """The arguments of `build` that a state dict of these tensor shapes was made with, or None."""
    try:
        arguments = {"classes": shapes["classifier.weight"][0], "width": shapes["classifier.weight"][1] // 2}
    except (KeyError, IndexError):
        return None
    with torch.device("meta"):  # shapes are free to claim any size
        expected = {name: tuple(t.shape) for name, t in build(**arguments).state_dict().items()}
    return arguments if dict(shapes) == expected else None
