"""What segmentation networks are made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(
    channels: int,
    out: int,
    size: int | tuple[int, int] = 1,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution that keeps the size, a norm, and an activation."""
    sides = (size, size) if isinstance(size, int) else size
    padding = (dilation * (sides[0] // 2), dilation * (sides[1] // 2))
    layers = [
        nn.Conv2d(channels, out, sides, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


class Step(nn.Module):
    """A function as a layer."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x)


class Residual(nn.Module):
    """A basic block of ResNet; ``last``: whether a ReLU follows the sum."""

    def __init__(self, channels: int, out: int, stride: int = 1, last: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(channels, out, 3, stride), conv_norm(out, out, 3, activation=None)
        )
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else conv_norm(channels, out, 1, stride, activation=None)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x) + self.shortcut(x)
        return F.relu_(x) if self.last else x


class Separable(nn.Sequential):
    """A depthwise convolution and one across the channels."""

    def __init__(self, channels: int, out: int, stride: int = 1, activation: bool = False) -> None:
        first, second = (nn.ReLU, nn.ReLU) if activation else (None, None)
        super().__init__(
            conv_norm(channels, channels, 3, stride, groups=channels, activation=first),
            conv_norm(channels, out, activation=second),
        )
