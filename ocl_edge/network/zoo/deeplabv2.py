"""DeepLabV2 on ResNet-101, as the method's paper uses it (Chen et al., TPAMI 2018; arXiv 1606.00915).

Names and order of the tensors are those of the checkpoints that are published for GTA5 and SYNTHIA to
Cityscapes (AdaptSegNet's ``ResNetMulti`` and what came from it: MaxSquareLoss, OCL). Two habits of that code
are kept, because the weights were trained with them: blocks stride in their first convolution, and of the
four dilated classifiers only the first two are added up. Layer 5 is a training head on layer 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = (3, 4, 23, 3)
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)
RATES = (6, 12, 18, 24)
ADDED = 2
"""Of the four classifiers; their code returns within the loop that adds them."""


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside the input, which is projected where its shape changes."""

    def __init__(self, channels: int, width: int, stride: int, dilation: int, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * EXPANSION)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(channels, width * EXPANSION, 1, stride, bias=False),
                nn.BatchNorm2d(width * EXPANSION),
            )
            if projected
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class DilatedClassifiers(nn.Module):
    """Features [N, F, h, w] -> logits [N, C, h, w]: the sum of dilated 3x3 convolutions."""

    def __init__(self, channels: int, classes: int, added: int) -> None:
        super().__init__()
        self.added = added
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(channels, classes, 3, 1, rate, dilation=rate) for rate in RATES
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([conv(x) for conv in self.conv2d_list[: self.added]]).sum(0)


class DeepLabV2(nn.Module):
    """Image [N, 3, H, W] -> logits [N, C, H, W], from an eighth of the size.

    Args:
        classes: that it tells apart.
        branches: dilated classifiers that are added up; 4 for weights that were trained so (ADVENT).
    """

    def __init__(self, classes: int = 19, branches: int = ADDED) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for number, (width, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            stride, dilation = STRIDES[number], DILATIONS[number]
            blocks = []
            for block in range(count):
                first = block == 0
                blocks.append(Bottleneck(channels, width, stride if first else 1, dilation, first))
                channels = width * EXPANSION
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        self.layer5 = DilatedClassifiers(WIDTHS[2] * EXPANSION, classes, branches)
        self.layer6 = DilatedClassifiers(channels, classes, branches)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        for number in range(1, len(BLOCKS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return F.interpolate(self.layer6(x), image.shape[2:], mode="bilinear", align_corners=True)


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """The classes of a checkpoint in this layout; None for any other."""
    weight = shapes.get("layer6.conv2d_list.0.weight")
    last = f"layer3.{BLOCKS[2] - 1}.conv3.weight"
    if weight is None or len(weight) != 4 or weight[1] != 2048 or last not in shapes:
        return None
    return {"classes": weight[0]}
