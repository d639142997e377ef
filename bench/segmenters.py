"""Small segmenters of different make, which nobody chose a constant on: `bench/other_networks.py` plays them.

    ocl-edge export residual.pth --arch bench/segmenters.py:residual --input-size 192x320 --out bundle

Each takes float32 [N, 3, H, W], H and W multiples of 16, and gives logits [N, 10, H, W]. What differs is what
the rule of home and away depends on: what the first norms see, how wide they are, how training keeps their
statistics, and how the input is scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10
Norm = partial[nn.BatchNorm2d] | type[nn.BatchNorm2d]


def convolved(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    act: type[nn.Module] = nn.ReLU,
    groups: int = 1,
    norm: Norm = nn.BatchNorm2d,
) -> nn.Sequential:
    """Convolution, BatchNorm, activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, norm(outputs), act())


class Decoded(nn.Module):
    """A fine and a coarse map, each projected; their sum classified by a 1x1 convolution, and upsampled."""

    def __init__(self, fine: int, coarse: int, width: int = 32) -> None:
        super().__init__()
        self.fine, self.coarse = convolved(fine, width, 1), convolved(coarse, width, 1)
        self.refine = convolved(width, width)
        self.classifier = nn.Conv2d(width, CLASSES, 1)

    def forward(self, fine: Tensor, coarse: Tensor, size: Sequence[int]) -> Tensor:
        coarse = F.interpolate(self.coarse(coarse), fine.shape[2:], mode="bilinear", align_corners=False)
        logits = self.classifier(self.refine(self.fine(fine) + coarse))
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)


class TwoScales(nn.Module):
    """A stem and a stage to 1/4 of the size, further stages to 1/16, and `Decoded`."""

    def __init__(self, stem: nn.Module, further: nn.Module, fine: int, coarse: int) -> None:
        super().__init__()
        self.stem, self.further, self.decoded = stem, further, Decoded(fine, coarse)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.stem(image)
        logits: Tensor = self.decoded(fine, self.further(fine), image.shape[2:])
        return logits


class Beside(nn.Module):
    """What it is made of, added to its input."""

    def __init__(self, *layers: nn.Module, act: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.act = nn.Sequential(*layers), act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(x + self.layers(x))
        return activated


def inverted() -> nn.Module:
    """Like MobileNetV2 (Sandler et al. 2018): inverted residuals, ReLU6."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        wide = 6 * inputs
        layers = [
            *convolved(inputs, wide, 1, act=nn.ReLU6),
            *convolved(wide, wide, 3, stride, nn.ReLU6, groups=wide),
            *convolved(wide, outputs, 1, act=nn.Identity),
        ]
        return Beside(*layers) if stride == 1 and inputs == outputs else nn.Sequential(*layers)

    stem = nn.Sequential(convolved(3, 16, 3, 2, nn.ReLU6), block(16, 24, 2), block(24, 24, 1))
    further = nn.Sequential(block(24, 32, 2), block(32, 32, 1), block(32, 64, 2), block(64, 64, 1))
    return TwoScales(stem, further, 24, 64)


def residual_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    layers = [*convolved(inputs, outputs, 3, stride), *convolved(outputs, outputs, act=nn.Identity)]
    if stride == 1 and inputs == outputs:
        return Beside(*layers, act=nn.ReLU())
    return nn.Sequential(*layers, nn.ReLU())


def residual() -> nn.Module:
    """Like ResNet-18 (He et al. 2016): a 7x7 stem and a maximum, basic blocks."""
    stem = nn.Sequential(convolved(3, 32, 7, 2), nn.MaxPool2d(3, 2, 1), residual_block(32, 32, 1))
    further = nn.Sequential(residual_block(32, 64, 2), residual_block(64, 64, 1), residual_block(64, 96, 2))
    return TwoScales(stem, further, 32, 96)


class Excited(nn.Module):
    """Channels weighed by the picture's own means (squeeze and excitation, Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.excite(means))


def excited() -> nn.Module:
    """Like EfficientNet (Tan and Le 2019): SiLU, squeeze and excitation; momentum 0.03, eps 1e-3."""
    norm = partial(nn.BatchNorm2d, momentum=0.03, eps=1e-3)

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        wide = 4 * inputs
        layers = [
            *convolved(inputs, wide, 1, act=nn.SiLU, norm=norm),
            *convolved(wide, wide, 5, stride, nn.SiLU, wide, norm),
            Excited(wide),
            *convolved(wide, outputs, 1, act=nn.Identity, norm=norm),
        ]
        return Beside(*layers) if stride == 1 and inputs == outputs else nn.Sequential(*layers)

    stem = nn.Sequential(convolved(3, 16, 3, 2, nn.SiLU, norm=norm), block(16, 24, 2), block(24, 24, 1))
    further = nn.Sequential(block(24, 48, 2), block(48, 48, 1), block(48, 64, 2))
    return TwoScales(stem, further, 24, 64)


def late_norm() -> nn.Module:
    """Its first norm comes after two convolutions and an activation."""
    first = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32)
    )
    stem = nn.Sequential(first, nn.ReLU(), residual_block(32, 32, 1))
    further = nn.Sequential(residual_block(32, 64, 2), residual_block(64, 96, 2))
    return TwoScales(stem, further, 32, 96)


def patches() -> nn.Module:
    """Like ConvMixer (Trockman and Kolter 2022): patches of 4x4, GELU before each norm, wide depthwise."""

    def block(width: int) -> nn.Module:
        depthwise = [nn.Conv2d(width, width, 7, padding=3, groups=width), nn.GELU(), nn.BatchNorm2d(width)]
        pointwise = [nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width)]
        return nn.Sequential(Beside(*depthwise), *pointwise)

    stem = nn.Sequential(nn.Conv2d(3, 48, 4, 4), nn.GELU(), nn.BatchNorm2d(48), block(48))
    further = nn.Sequential(nn.Conv2d(48, 80, 2, 2), nn.GELU(), nn.BatchNorm2d(80), block(80), block(80))
    return TwoScales(stem, further, 48, 80)


def normed_pixels() -> nn.Module:
    """A BatchNorm of the pixels themselves comes first: it alone sees the picture unmixed."""
    network = residual()
    return nn.Sequential(nn.BatchNorm2d(3), network)


class Pyramid(nn.Module):
    """Like ICNet (Zhao et al. 2018): the picture at two scales, each with a stem: two norms sense."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(convolved(3, 16, 3, 2), convolved(16, 32, 3, 2))
        self.coarse = nn.Sequential(
            convolved(3, 24, 3, 2), residual_block(24, 64, 2), residual_block(64, 64, 2)
        )
        self.decoded = Decoded(32, 64)

    def forward(self, image: Tensor) -> Tensor:
        half = F.avg_pool2d(image, 2)
        logits: Tensor = self.decoded(self.fine(image), self.coarse(half), image.shape[2:])
        return logits
