"""A small network with what real ones have: strides, groups, dilation, concatenation, pooling, a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEIGHT, WIDTH, CLASSES = 48, 64, 5


class SmallNetwork(nn.Module):
    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 8, 3, 1, 1, groups=4, bias=False)
        self.right = nn.Conv2d(8, 8, 3, 1, 2, dilation=2)
        self.join_norm = nn.BatchNorm2d(16, eps=1e-3)
        self.act = nn.PReLU(16)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.Sigmoid()
        )
        self.narrow = nn.Conv2d(16, 6, 1)
        self.narrow_norm = nn.BatchNorm2d(6, affine=False)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Conv2d(6, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(image)))
        x = self.act(self.join_norm(torch.cat((self.left(x), self.right(x)), 1)))
        context = F.adaptive_avg_pool2d(x, (7, 9))
        x = x * self.gate(x) + F.interpolate(context, x.shape[2:], mode="bilinear", align_corners=True)
        x = self.dropout(F.relu(self.narrow_norm(self.narrow(x))))
        return F.interpolate(self.classifier(x), image.shape[2:], mode="bilinear", align_corners=True)


class WithoutBatchNorm(nn.Module):
    """A network whose norms take the image's own statistics: there is nothing to modulate."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.GroupNorm(2, 8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, 1, 1),
            nn.GroupNorm(3, 12),
            nn.ReLU(),
        )
        self.classifier = nn.Conv2d(12, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.classifier(self.body(image))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


def build(classes: int = CLASSES) -> nn.Module:
    return SmallNetwork(classes)


def build_without_batch_norm(classes: int = CLASSES) -> nn.Module:
    return WithoutBatchNorm(classes)


def trained(seed: int = 0, classes: int = CLASSES) -> SmallNetwork:
    """Reproducible weights, and running statistics that are not the initial ones."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    network = SmallNetwork(classes)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(4, 3, HEIGHT, WIDTH) * 1.5 + 0.3)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        network.eval()
        network.classifier.weight.mul_(4)  # every class wins somewhere, or masks would prove nothing
        network.classifier.bias.sub_(network(torch.randn(8, 3, HEIGHT, WIDTH)).mean((0, 2, 3)))
    torch.random.set_rng_state(state)
    return network
