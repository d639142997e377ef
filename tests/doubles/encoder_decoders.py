"""Encoders with a decoder, narrow, written from their papers: ENet (Paszke 2016), SegNeXt (Guo 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.doubles.network_blocks import conv_norm, resized


class Bottleneck(nn.Module):
    """ENet's, figure 2 (b): narrow, convolve, widen, drop out; added to what came in."""

    def __init__(self, channels: int, dilation: int = 1, asymmetric: bool = False) -> None:
        super().__init__()
        narrow = channels // 4
        convolution = (
            nn.Sequential(
                nn.Conv2d(narrow, narrow, (5, 1), padding=(2, 0), bias=False),
                conv_norm(narrow, narrow, (1, 5), activation=nn.PReLU),
            )
            if asymmetric
            else conv_norm(narrow, narrow, 3, dilation=dilation, activation=nn.PReLU)
        )
        self.body = nn.Sequential(
            conv_norm(channels, narrow, activation=nn.PReLU),
            convolution,
            conv_norm(narrow, channels, activation=None),
            nn.Dropout2d(0.1),
        )
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(x + self.body(x))
        return out


class Down(nn.Module):
    """Pooling that remembers its places; missing channels are zeros."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        narrow = channels // 4
        self.body = nn.Sequential(
            nn.Conv2d(channels, narrow, 2, 2, bias=False),
            nn.BatchNorm2d(narrow),
            nn.PReLU(),
            conv_norm(narrow, narrow, 3, activation=nn.PReLU),
            conv_norm(narrow, out, activation=None),
        )
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled, places = F.max_pool2d(x, 2, return_indices=True)
        body = self.body(x)
        missing = body.shape[1] - pooled.shape[1]
        return self.activation(body + F.pad(pooled, (0, 0, 0, 0, 0, missing))), places


class Up(nn.Module):
    """Unpooling to the places, beside a transposed convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        narrow = channels // 4
        self.main = conv_norm(channels, out, activation=None)
        self.body = nn.Sequential(
            conv_norm(channels, narrow),
            nn.ConvTranspose2d(narrow, narrow, 2, 2, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            conv_norm(narrow, out, activation=None),
        )

    def forward(self, x: Tensor, places: Tensor, size: torch.Size) -> Tensor:
        unpooled = F.max_unpool2d(self.main(x), places, 2, output_size=size)
        return F.relu(unpooled + self.body(x))


class ENet(nn.Module):
    """Table 1; its head is a transposed convolution to the image's size."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        w = width
        self.first = nn.Conv2d(3, w - 3, 3, 2, 1, bias=False)
        self.first_norm = nn.Sequential(nn.BatchNorm2d(w), nn.PReLU())
        self.down1, self.stage1 = Down(w, 2 * w), Bottleneck(2 * w)
        self.down2 = Down(2 * w, 4 * w)
        self.stage2 = nn.Sequential(Bottleneck(4 * w, dilation=2), Bottleneck(4 * w, asymmetric=True))
        self.up1, self.up2 = Up(4 * w, 2 * w), Up(2 * w, w)
        self.fullconv = nn.ConvTranspose2d(w, classes, 3, 2, 1, output_padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first_norm(torch.cat((self.first(image), F.max_pool2d(image, 2)), 1))
        first = x.shape[2:]
        x, places1 = self.down1(x)
        x = self.stage1(x)
        second = x.shape[2:]
        x, places2 = self.down2(x)
        x = self.up1(self.stage2(x), places2, second)
        logits: Tensor = self.fullconv(self.up2(x, places1, first))
        return logits


class StripAttention(nn.Module):
    """MSCA of SegNeXt, figure 2: strips of several lengths weigh what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, (1, n), padding=(0, n // 2), groups=channels),
                nn.Conv2d(channels, channels, (n, 1), padding=(n // 2, 0), groups=channels),
            )
            for n in (7, 11, 21)
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        around = self.around(x)
        weights: Tensor = self.mix(around + sum(strip(around) for strip in self.strips))
        return weights * x


class AttentionBlock(nn.Module):
    """Attention and a convolutional MLP, each scaled by numbers of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.into, self.attention = nn.Conv2d(channels, channels, 1), StripAttention(channels)
        self.out = nn.Conv2d(channels, channels, 1)
        self.scale1, self.scale2 = (nn.Parameter(0.5 * torch.ones(channels)) for _ in range(2))
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels),
            nn.GELU(),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm1(x)
        x = x + self.scale1[:, None, None] * (seen + self.out(self.attention(F.gelu(self.into(seen)))))
        return x + self.scale2[:, None, None] * self.mlp(self.norm2(x))


class MatrixDecomposition(nn.Module):
    """The hamburger: features are rebuilt from a few bases, found in rounds of multiplicative updates."""

    def __init__(self, channels: int, bases: int = 8, rounds: int = 3) -> None:
        super().__init__()
        self.rounds = rounds
        self.register_buffer("bases", F.normalize(torch.rand(1, channels, bases), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        x = F.relu(x).flatten(2)
        bases = self.bases.expand(n, -1, -1)
        codes = (x.transpose(1, 2) @ bases).softmax(-1)
        for _ in range(self.rounds):
            codes = codes * (x.transpose(1, 2) @ bases) / (codes @ (bases.transpose(1, 2) @ bases) + 1e-6)
            bases = bases * (x @ codes) / (bases @ (codes.transpose(1, 2) @ codes) + 1e-6)
        return (bases @ codes.transpose(1, 2)).reshape(n, channels, height, width)


class SegNeXt(nn.Module):
    """Figure 3: the three coarser stages together go through the hamburger."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        widths = (width, width, 2 * width, 2 * width)
        before = (3, *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(conv_norm(i, o, 3, 2, activation=nn.GELU), AttentionBlock(o))
            for i, o in zip(before, widths, strict=True)
        )
        self.squeeze = conv_norm(sum(widths[1:]), 2 * width)
        self.hamburger = MatrixDecomposition(2 * width)
        self.align = conv_norm(2 * width, 2 * width)
        self.conv_seg = nn.Conv2d(2 * width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        features = []
        x = image
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        x = self.squeeze(torch.cat([resized(feature, features[1]) for feature in features[1:]], 1))
        return resized(self.conv_seg(self.align(F.relu(x + self.hamburger(x)))), image)


def enet(classes: int = 5) -> nn.Module:
    return ENet(classes)


def segnext(classes: int = 5) -> nn.Module:
    return SegNeXt(classes)
