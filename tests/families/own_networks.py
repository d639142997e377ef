"""Networks of users' own code on top of libraries, for ``--arch tests/families/own_networks.py:FUNCTION``."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class LinearOnPatches(nn.Module):
    """A linear classifier on the last tokens of a vision transformer, [N, HW, C] -> [N, classes, h, w]."""

    def __init__(self, backbone: nn.Module, width: int, patch: int, classes: int) -> None:
        super().__init__()
        self.backbone, self.patch = backbone, patch
        self.classifier = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        height, columns = image.shape[2] // self.patch, image.shape[3] // self.patch
        tokens = self.backbone(image).last_hidden_state[:, -height * columns :]
        logits = (
            self.classifier(tokens).transpose(1, 2).reshape(-1, self.classifier.out_features, height, columns)
        )
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


def dinov2_linear(classes: int = 5) -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=224, patch_size=16
    )
    return LinearOnPatches(Dinov2Model(config), 48, 16, classes)


def dinov3_linear(classes: int = 5) -> nn.Module:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96, patch_size=16
    )
    return LinearOnPatches(DINOv3ViTModel(config), 48, 16, classes)


class TwoFeatures(nn.Module):
    """A head of the user's own for ``timm:ENCODER,head=FILE:two_features``."""

    def __init__(self, channels: list[int], classes: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(channels[-2], 16, 1, bias=False)
        self.coarse = nn.Conv2d(channels[-1], 16, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.classifier = nn.Conv2d(16, classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        fine = self.fine(features[-2])
        coarse = F.interpolate(
            self.coarse(features[-1]), fine.shape[2:], mode="bilinear", align_corners=False
        )
        logits: Tensor = self.classifier(F.relu(self.norm(fine + coarse)))
        return logits


def two_features(channels: list[int], classes: int) -> nn.Module:
    return TwoFeatures(channels, classes)
