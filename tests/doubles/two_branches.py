"""Narrow networks of two and three branches, after their papers: PIDNet, DDRNet, BiSeNetV2, Fast-SCNN.

They give what they give in training: the heads that only the training loss sees, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.doubles.network_blocks import Residual, Separable, conv_norm, resized

POOLS = ((5, 2), (9, 4), (17, 8))
"""Windows and strides of the pyramids of DDRNet and PIDNet, which end with the mean of the whole."""


def pre_activated(channels: int, out: int, size: int = 1) -> nn.Sequential:
    """Norm first, then ReLU in place, then the convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, out, size, padding=size // 2, bias=False),
    )


def head(channels: int, between: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        *pre_activated(channels, between, 3),
        nn.BatchNorm2d(between),
        nn.ReLU(inplace=True),
        nn.Conv2d(between, classes, 1),
    )


class Pyramid(nn.Module):
    """DAPPM of DDRNet: each scale is added to the next coarser one; PAPPM of PIDNet: all of them at once."""

    def __init__(self, channels: int, between: int, out: int, parallel: bool) -> None:
        super().__init__()
        self.parallel = parallel
        pools = [nn.AvgPool2d(size, stride, size // 2) for size, stride in POOLS]
        self.scales = nn.ModuleList(
            nn.Sequential(pool, *pre_activated(channels, between))
            for pool in [nn.Identity(), *pools, nn.AdaptiveAvgPool2d(1)]
        )
        count = len(self.scales) - 1
        self.process = (
            pre_activated(between * count, between * count, 3)
            if parallel
            else nn.ModuleList(pre_activated(between, between, 3) for _ in range(count))
        )
        self.compression = pre_activated(between * (count + 1), out)
        self.shortcut = pre_activated(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = [resized(scale(x), x) for scale in self.scales]
        if self.parallel:
            kept = [first, self.process(torch.cat([first + other for other in others], 1))]
        else:
            kept = [first]
            for process, other in zip(self.process, others, strict=True):
                kept.append(process(other + kept[-1]))
        merged: Tensor = self.compression(torch.cat(kept, 1)) + self.shortcut(x)
        return merged


class DDRNet(nn.Module):
    """Hong et al. 2021, figure 3: two branches that add to each other twice.

    Gives the logits and those of a training head.
    """

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(conv_norm(3, w, 3, 2), conv_norm(w, w, 3, 2), Residual(w, w))
        self.layer2 = Residual(w, 2 * w, 2, last=False)
        self.low3 = Residual(2 * w, 4 * w, 2, last=False)
        self.low4 = Residual(4 * w, 8 * w, 2, last=False)
        self.low5 = Residual(8 * w, 8 * w, 2, last=False)
        self.high3, self.high4, self.high5 = (Residual(2 * w, 2 * w, last=False) for _ in range(3))
        self.compress3 = conv_norm(4 * w, 2 * w, activation=None)
        self.compress4 = conv_norm(8 * w, 2 * w, activation=None)
        self.down3 = conv_norm(2 * w, 4 * w, 3, 2, activation=None)
        self.down4 = nn.Sequential(
            conv_norm(2 * w, 4 * w, 3, 2), conv_norm(4 * w, 8 * w, 3, 2, activation=None)
        )
        self.relu = nn.ReLU(inplace=True)
        self.pyramid = Pyramid(8 * w, 2 * w, 2 * w, parallel=False)
        self.seghead_extra = head(2 * w, w, classes)
        self.final = head(2 * w, w, classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer2(self.relu(self.stem(image)))
        low = self.low3(self.relu(x))
        high = self.high3(self.relu(x))
        low, high = low + self.down3(self.relu(high)), high + resized(self.compress3(self.relu(low)), high)
        extra = self.seghead_extra(high)
        low = self.low4(self.relu(low))
        high = self.high4(self.relu(high))
        low, high = low + self.down4(self.relu(high)), high + resized(self.compress4(self.relu(low)), high)
        high = self.high5(self.relu(high))
        low = resized(self.pyramid(self.low5(self.relu(low))), high)
        return self.final(high + low), extra


class PixelAttention(nn.Module):
    """Pag of PIDNet: how alike two branches are at a pixel says how much of the other one is taken."""

    def __init__(self, channels: int, between: int) -> None:
        super().__init__()
        self.fine, self.coarse = (conv_norm(channels, between, activation=None) for _ in range(2))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        alike = (self.fine(fine) * resized(self.coarse(coarse), fine)).sum(1, keepdim=True).sigmoid()
        return (1 - alike) * fine + alike * resized(coarse, fine)


class PIDNet(nn.Module):
    """Xu et al. 2023, figure 4: details (P), context (I), boundaries (D).

    Gives the logits of a training head on P, the logits, and one channel of boundaries, in this order.
    """

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(conv_norm(3, w, 3, 2), conv_norm(w, w, 3, 2), Residual(w, w))
        self.layer2 = Residual(w, 2 * w, 2, last=False)
        self.i3, self.i4, self.i5 = (
            Residual(2 * w, 4 * w, 2),
            Residual(4 * w, 8 * w, 2),
            Residual(8 * w, 8 * w, 2, last=False),
        )
        self.p3, self.p4, self.p5 = (Residual(2 * w, 2 * w, last=False) for _ in range(3))
        self.d3, self.d4, self.d5 = (
            Residual(2 * w, w, last=False),
            Residual(w, w, last=False),
            Residual(w, 2 * w, last=False),
        )
        self.compress3, self.compress4 = (conv_norm(c * w, 2 * w, activation=None) for c in (4, 8))
        self.diff3, self.diff4 = (
            conv_norm(4 * w, w, 3, activation=None),
            conv_norm(8 * w, w, 3, activation=None),
        )
        self.pag3, self.pag4 = PixelAttention(2 * w, w), PixelAttention(2 * w, w)
        self.relu = nn.ReLU(inplace=True)
        self.pyramid = Pyramid(8 * w, w, 2 * w, parallel=True)
        self.of_details, self.of_context = (conv_norm(2 * w, 2 * w, activation=None) for _ in range(2))
        self.seghead_p, self.seghead_d = head(2 * w, w, classes), head(w, w, 1)
        self.final_layer = head(2 * w, w, classes)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.relu(self.layer2(self.stem(image)))
        p, d, i = self.p3(x), self.d3(x), self.relu(self.i3(x))
        p = self.pag3(p, self.compress3(i))
        d = d + resized(self.diff3(i), d)
        extra_p = self.seghead_p(p)
        i = self.relu(self.i4(i))
        p, d = self.p4(self.relu(p)), self.d4(self.relu(d))
        p = self.pag4(p, self.compress4(i))
        d = d + resized(self.diff4(i), d)
        extra_d = self.seghead_d(d)
        p, d = self.p5(self.relu(p)), self.d5(self.relu(d))
        i = resized(self.pyramid(self.i5(i)), p)
        edge = d.sigmoid()
        merged = self.of_details((1 - edge) * i + p) + self.of_context(i + edge * p)
        return [extra_p, self.final_layer(merged), extra_d]


class GatherExpansion(nn.Module):
    """Of BiSeNetV2's semantic branch: widen, gather by depth, narrow; added to what came in."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 6 * channels
        gather = [conv_norm(channels, wide, 3, stride, groups=channels, activation=None)]
        if stride > 1:
            gather.append(conv_norm(wide, wide, 3, groups=wide, activation=None))
        self.body = nn.Sequential(
            conv_norm(channels, channels, 3), *gather, conv_norm(wide, out, activation=None)
        )
        self.shortcut = (
            nn.Sequential(
                conv_norm(channels, channels, 3, stride, groups=channels, activation=None),
                conv_norm(channels, out, activation=None),
            )
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.body(x) + self.shortcut(x))


class BiSeNetV2(nn.Module):
    """Yu et al. 2021, table 1. Gives the logits and, for the training's boosters, three more."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        w = width
        self.detail = nn.Sequential(
            conv_norm(3, w, 3, 2),
            conv_norm(w, w, 3, 2),
            conv_norm(w, 2 * w, 3, 2),
            conv_norm(2 * w, 2 * w, 3),
        )
        self.stem = conv_norm(3, w, 3, 2)
        self.stem_left = nn.Sequential(conv_norm(w, w // 2), conv_norm(w // 2, w, 3, 2))
        self.stem_right = nn.MaxPool2d(3, 2, 1)
        self.stem_fuse = conv_norm(2 * w, w, 3)
        self.stages = nn.ModuleList(
            [GatherExpansion(w, w, 2), GatherExpansion(w, 2 * w, 2), GatherExpansion(2 * w, 2 * w, 2)]
        )
        self.context_norm = nn.BatchNorm2d(2 * w)
        self.context, self.context_out = conv_norm(2 * w, 2 * w), conv_norm(2 * w, 2 * w, 3)
        self.detail_keep = Separable(2 * w, 2 * w)
        self.detail_down = nn.Sequential(
            conv_norm(2 * w, 2 * w, 3, 2, activation=None), nn.AvgPool2d(3, 2, 1)
        )
        self.semantic_up = conv_norm(2 * w, 2 * w, 3, activation=None)
        self.semantic_keep = Separable(2 * w, 2 * w)
        self.aggregate = conv_norm(2 * w, 2 * w, 3, activation=None)
        self.head = self._head(2 * w, classes)
        self.boosters = nn.ModuleList(self._head(c, classes) for c in (w, 2 * w, 2 * w))

    @staticmethod
    def _head(channels: int, classes: int) -> nn.Sequential:
        return nn.Sequential(
            conv_norm(channels, 2 * channels, 3), nn.Dropout(0.1), nn.Conv2d(2 * channels, classes, 1)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        detail, x = self.detail(image), self.stem(image)
        x = self.stem_fuse(torch.cat((self.stem_left(x), self.stem_right(x)), 1))
        seen = []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        semantic = self.context_out(x + self.context(self.context_norm(x.mean((2, 3), keepdim=True))))
        fine = self.detail_keep(detail) * resized(self.semantic_up(semantic), detail).sigmoid()
        coarse = self.detail_down(detail) * self.semantic_keep(semantic).sigmoid()
        logits = self.head(self.aggregate(fine + resized(coarse, fine)))
        others = [booster(feature) for booster, feature in zip(self.boosters, seen, strict=True)]
        return tuple(resized(output, image) for output in (logits, *others))


class FastSCNN(nn.Module):
    """Poudel et al. 2019, table 1. Gives a mapping: the logits, and those of a training head."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        w = width
        self.downsample = nn.Sequential(
            conv_norm(3, w, 3, 2),
            Separable(w, w, 2, activation=True),
            Separable(w, 2 * w, 2, activation=True),
        )
        self.features = nn.Sequential(GatherExpansion(2 * w, 2 * w, 2), GatherExpansion(2 * w, 4 * w, 2))
        self.bins = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), conv_norm(4 * w, w)) for size in (1, 2, 3, 6)
        )
        self.merge = conv_norm(8 * w, 4 * w)
        self.coarse = nn.Sequential(
            conv_norm(4 * w, 4 * w, 3, dilation=4, groups=4 * w), conv_norm(4 * w, 4 * w, activation=None)
        )
        self.fine = conv_norm(2 * w, 4 * w, activation=None)
        self.classifier = nn.Sequential(
            Separable(4 * w, 4 * w, activation=True), nn.Dropout(0.1), nn.Conv2d(4 * w, classes, 1)
        )
        self.auxlayer = nn.Sequential(conv_norm(2 * w, w, 3), nn.Conv2d(w, classes, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        fine = self.downsample(image)
        x = self.features(fine)
        x = self.merge(torch.cat((x, *(resized(scale(x), x) for scale in self.bins)), 1))
        logits = self.classifier(F.relu(self.fine(fine) + self.coarse(resized(x, fine)), inplace=True))
        return {"out": resized(logits, image), "aux": resized(self.auxlayer(fine), image)}


def pidnet(classes: int = 5) -> nn.Module:
    return PIDNet(classes)


def ddrnet(classes: int = 5) -> nn.Module:
    return DDRNet(classes)


def bisenetv2(classes: int = 5) -> nn.Module:
    return BiSeNetV2(classes)


def fast_scnn(classes: int = 5) -> nn.Module:
    return FastSCNN(classes)
