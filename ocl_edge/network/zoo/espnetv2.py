"""ESPNetv2 for semantic segmentation (Mehta et al., CVPR 2019, arXiv 1811.11431).

The encoder stacks EESP units (paper, Fig. 1c) and strided EESP units with input
reinforcement (Fig. 2); the decoder climbs back to half resolution through
efficient pyramid pooling. Attribute names equal the tensor names of the published
checkpoints, so that those load with ``strict=True``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BRANCHES = 4
"""Parallel dilated branches of an EESP unit (K in the paper)."""

PYRAMID_SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
DECODER_PLANES = 16
"""Width unit of the decoder that the Cityscapes and Pascal weights use."""

SMALLEST_PYRAMID_SIDE = 5


def channel_plan(scale: float) -> tuple[int, int, int, int]:
    """Channels after the levels 1 to 4 (strides 2, 4, 8, 16) for a width multiplier.

    The stem never grows beyond 32 channels.

    >>> channel_plan(2.0)
    (32, 128, 256, 512)
    """
    base = math.ceil(int(32 * scale) / BRANCHES) * BRANCHES
    return min(32, base), 2 * base, 4 * base, 8 * base


class ConvNormAct(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class ConvNorm(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return y


class NormAct(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(x))
        return y


class DilatedDepthwise(nn.Module):
    def __init__(self, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, 3, stride, dilation, dilation=dilation, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


def branch_dilations(receptive_limit: int) -> list[int]:
    """Dilations of the branches: kernels of 3, 5, 7, 9 pixels, those over the limit fall back to 3."""
    extents = sorted(e if e <= receptive_limit else 3 for e in (3 + 2 * i for i in range(BRANCHES)))
    return [(extent - 1) // 2 for extent in extents]


class EESP(nn.Module):
    """Extremely efficient spatial pyramid of depthwise dilated convolutions (paper, section 3.2).

    Reduce (grouped 1x1), split into dilated branches, fuse hierarchically (each branch
    adds the one before it, against gridding), merge (grouped 1x1).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, receptive_limit: int) -> None:
        super().__init__()
        width = outputs // BRANCHES
        self.stride = stride
        self.proj_1x1 = ConvNormAct(inputs, width, 1, groups=BRANCHES)
        self.spp_dw = nn.ModuleList(
            DilatedDepthwise(width, stride, dilation) for dilation in branch_dilations(receptive_limit)
        )
        self.br_after_cat = NormAct(outputs)
        self.conv_1x1_exp = ConvNorm(outputs, outputs, 1, groups=BRANCHES)
        self.module_act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.proj_1x1(x)
        branches = [self.spp_dw[0](reduced)]
        for depthwise in list(self.spp_dw)[1:]:
            branches.append(depthwise(reduced) + branches[-1])
        merged: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(branches, 1)))
        if self.stride == 2:  # the caller concatenates the pooled input and activates
            return merged
        y: Tensor = self.module_act(merged + x)
        return y


class StridedEESP(nn.Module):
    """Halves the resolution and mixes the input image back in (paper, Fig. 2)."""

    def __init__(self, inputs: int, outputs: int, receptive_limit: int) -> None:
        super().__init__()
        self.eesp = EESP(inputs, outputs - inputs, 2, receptive_limit)
        self.inp_reinf = nn.Sequential(ConvNormAct(3, 3, 3), ConvNorm(3, outputs, 1))
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 3, 2, 1)
        merged = torch.cat((pooled, self.eesp(x)), 1)
        while image.shape[2] > pooled.shape[2]:
            image = F.avg_pool2d(image, 3, 2, 1)
        y: Tensor = self.act(merged + self.inp_reinf(image))
        return y


class Encoder(nn.Module):
    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        stem, two, three, four = channels
        self.level1 = ConvNormAct(3, stem, 3, stride=2)
        self.level2_0 = StridedEESP(stem, two, receptive_limit=13)
        self.level3_0 = StridedEESP(two, three, receptive_limit=11)
        self.level3 = nn.ModuleList(EESP(three, three, 1, receptive_limit=9) for _ in range(3))
        self.level4_0 = StridedEESP(three, four, receptive_limit=9)
        self.level4 = nn.ModuleList(EESP(four, four, 1, receptive_limit=7) for _ in range(7))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = self.level1(image)
        two = self.level2_0(one, image)
        three = self.level3_0(two, image)
        for unit in self.level3:
            three = unit(three)
        four = self.level4_0(three, image)
        for unit in self.level4:
            four = unit(four)
        return one, two, three, four


class ChannelShuffle(nn.Module):
    """Interleaves the channel groups, so that a grouped convolution sees every one of them."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class DecoderConv(nn.Module):
    """Convolution, norm, activation; numbered, as the decoder's tensors are named."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.cbr = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cbr(x)
        return y


class DecoderNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.br = nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.br(x)
        return y


class PyramidPooling(nn.Module):
    """Depthwise convolutions at five scales, shuffled and merged (efficient pyramid pooling)."""

    def __init__(self, inputs: int, width: int, outputs: int, *, last: bool = False) -> None:
        super().__init__()
        scales = len(PYRAMID_SCALES)
        self.projection_layer = DecoderConv(inputs, width, 1)
        self.stages = nn.ModuleList(
            nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False) for _ in PYRAMID_SCALES
        )
        self.merge_layer = nn.Sequential(
            DecoderNorm(width * scales),
            ChannelShuffle(scales),
            DecoderConv(width * scales, width, 3, groups=width),
            nn.Conv2d(width, outputs, 1, bias=last),
        )
        self.br = nn.Identity() if last else DecoderNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection_layer(x)
        height, width = x.shape[2:]
        levels = []
        for scale, depthwise in zip(PYRAMID_SCALES, self.stages, strict=True):
            rows, columns = (max(SMALLEST_PYRAMID_SIDE, math.ceil(side * scale)) for side in (height, width))
            if scale > 1:
                level = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=True)
                level = F.adaptive_avg_pool2d(depthwise(level), (height, width))
            elif scale < 1:
                level = depthwise(F.adaptive_avg_pool2d(x, (rows, columns)))
                level = F.interpolate(level, (height, width), mode="bilinear", align_corners=True)
            else:
                level = depthwise(x)
            levels.append(level)
        merged: Tensor = self.br(self.merge_layer(torch.cat(levels, 1)))
        return merged


class SkipProjection(nn.Module):
    """Encoder features for the decoder: grouped 3x3 convolution, weighted by a global channel gate."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sigmoid()
        )
        self.expansion_layer = DecoderConv(inputs, outputs, 3, groups=math.gcd(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.expansion_layer(x) * self.wt_layer(x)
        return y


class ESPNetv2(nn.Module):
    """ESPNetv2 segmentation network.

    Input: float32 [N, 3, H, W], RGB, 0..1 normalised with ImageNet mean and standard
    deviation, H and W multiples of 16. Output: float32 logits [N, classes, H, W],
    computed at half resolution by ``bu_dec_l4`` and upsampled with align_corners=True.
    """

    def __init__(self, scale: float = 2.0, classes: int = 20) -> None:
        super().__init__()
        stem, two, three, four = channel_plan(scale)
        width = min(classes // 2, DECODER_PLANES)
        self.base_net = Encoder((stem, two, three, four))
        self.bu_dec_l1 = PyramidPooling(four, width, 4 * DECODER_PLANES)
        self.bu_dec_l2 = PyramidPooling(4 * DECODER_PLANES, width, 3 * DECODER_PLANES)
        self.bu_dec_l3 = PyramidPooling(3 * DECODER_PLANES, width, 2 * DECODER_PLANES)
        self.bu_dec_l4 = PyramidPooling(2 * DECODER_PLANES, width, classes, last=True)
        self.merge_enc_dec_l2 = SkipProjection(three, 4 * DECODER_PLANES)
        self.merge_enc_dec_l3 = SkipProjection(two, 3 * DECODER_PLANES)
        self.merge_enc_dec_l4 = SkipProjection(stem, 2 * DECODER_PLANES)
        self.bu_br_l2 = nn.Sequential(nn.BatchNorm2d(4 * DECODER_PLANES), nn.PReLU(4 * DECODER_PLANES))
        self.bu_br_l3 = nn.Sequential(nn.BatchNorm2d(3 * DECODER_PLANES), nn.PReLU(3 * DECODER_PLANES))
        self.bu_br_l4 = nn.Sequential(nn.BatchNorm2d(2 * DECODER_PLANES), nn.PReLU(2 * DECODER_PLANES))

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        if height % 16 or width % 16:
            raise ValueError(
                f"ESPNetv2 needs a height and width that are multiples of 16, got {height}x{width}; "
                f"the nearest that fits is {nearest(height)}x{nearest(width)}"
            )
        one, two, three, four = self.base_net(image)
        x = self.bu_dec_l1(four)
        x = self.bu_dec_l2(self.bu_br_l2(self.merge_enc_dec_l2(three) + double_size(x)))
        x = self.bu_dec_l3(self.bu_br_l3(self.merge_enc_dec_l3(two) + double_size(x)))
        x = self.bu_dec_l4(self.bu_br_l4(self.merge_enc_dec_l4(one) + double_size(x)))
        return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


def nearest(side: int) -> int:
    return max(16, round(side / 16) * 16)


def double_size(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float | int] | None:
    """The constructor arguments that a state dict of these tensor shapes was made with, or None.

    The width multiplier follows from the channels of level 3: 4 * 32 * scale.
    """
    try:
        classes = shapes["bu_dec_l4.merge_layer.3.weight"][0]
        three = shapes["base_net.level3_0.act.weight"][0]
    except (KeyError, IndexError):
        return None
    return {"scale": three / 128, "classes": classes}
