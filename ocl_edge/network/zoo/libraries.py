"""Networks of libraries that the command line names: built with random weights, nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.errors import UsageError

Factory = Callable[..., Any]
USUAL_CLASSES = 19


def _library(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise UsageError(f"--arch {name}: {package} is not installed: pip install {package}") from error


def torchvision(name: str) -> Factory:
    """A function of ``torchvision.models.segmentation``."""
    networks = _library("torchvision.models.segmentation", "torchvision")
    return lambda **more: getattr(networks, name)(weights=None, weights_backbone=None, **more)


def smp(name: str) -> Factory:
    """A class of segmentation_models_pytorch."""
    networks = _library("segmentation_models_pytorch", "segmentation-models-pytorch")
    return lambda **more: getattr(networks, name)(encoder_weights=None, **more)


def transformers(directory: str) -> Factory:
    """A directory with a ``config.json`` of transformers, for semantic segmentation."""
    library = _library("transformers", "transformers")
    config = library.AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    return lambda **more: library.AutoModelForSemanticSegmentation.from_config(config, **more)


def timm(name: str) -> Factory:
    """An encoder of timm with a head: `EncoderWithHead`."""
    library = _library("timm", "timm")

    def build(classes: int = USUAL_CLASSES, head: str | None = None, **more: Any) -> EncoderWithHead:
        encoder = library.create_model(name, pretrained=False, features_only=True, **more)
        channels = list(encoder.feature_info.channels())
        if head is None:
            return EncoderWithHead(encoder, LastFeature(channels[-1], classes))
        from ocl_edge.network.zoo.own_code import build_own, split_factory

        return EncoderWithHead(
            encoder, build_own(split_factory(head)[0], {"channels": channels, "classes": classes})
        )

    return build


def ultralytics(file: str) -> Factory:
    """A ``yaml`` of a semantic segmenter of ultralytics, here or among its own: yolo26n-sem.yaml."""
    tasks = _library("ultralytics.nn.tasks", "ultralytics")
    segmenter = getattr(tasks, "SemanticSegmentationModel", None)
    if segmenter is None:
        raise UsageError(
            f"--arch ultralytics:{file}: this ultralytics has no semantic segmentation; it needs 8.4 or later"
        )
    return lambda **more: segmenter(file, verbose=False, **more)


class EncoderWithHead(nn.Module):
    """Features of an encoder -> head -> logits at the image's size.

    Args:
        encoder: image [N, 3, H, W] -> list of features, from fine to coarse.
        head: that list -> logits [N, C, h, w].
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(self.encoder(image))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


class LastFeature(nn.Module):
    """A classifier on the coarsest feature.

    Args:
        channels: of it.
        classes: that it tells apart.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(features[-1])
        return logits


LIBRARIES: dict[str, Callable[[str], Factory]] = {
    "torchvision": torchvision,
    "smp": smp,
    "transformers": transformers,
    "timm": timm,
    "ultralytics": ultralytics,
}
"""By what stands before the colon of ``--arch``."""
