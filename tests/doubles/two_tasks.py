"""Small networks with several tasks on one encoder, and bundles of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge_export.pipeline import ExportRequest, export_bundle

HEIGHT, WIDTH = 48, 64


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.deep = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        return self.deep(self.stem(image))


class TransposedDecoder(nn.Sequential):
    """Up to the image's size by transposed convolutions; the last one gives the logits."""

    def __init__(self, classes: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(12, 8, 2, 2, bias=False),
            nn.BatchNorm2d(8),
            nn.PReLU(8),
            nn.ConvTranspose2d(8, classes, 2, 2),
        )


class TwinNetwork(nn.Module):
    """As TwinLiteNet: a shared encoder, two decoders, a tuple of two masks of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.area, self.lanes = TransposedDecoder(2), TransposedDecoder(2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(image)
        return self.area(features), self.lanes(features)


class DetectingNetwork(nn.Module):
    """As YOLOP: a list of detections, which are no mask, classes, and one channel of probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.boxes = nn.Conv2d(12, 10, 1)
        self.area = nn.Sequential(nn.Conv2d(12, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1))
        self.lanes = nn.Sequential(
            nn.Conv2d(12, 5, 3, 1, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 1, 1)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        features, size = self.encoder(image), image.shape[2:]
        lanes = self.lanes(features)  # first: so the area's head reads the second feature
        return [
            self.boxes(features).flatten(2),
            F.interpolate(self.area(features), size, mode="bilinear", align_corners=False),
            F.interpolate(lanes, size, mode="bilinear", align_corners=True).sigmoid(),
        ]


class OneFeatureNetwork(nn.Module):
    """Two classifiers on the very same features."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.area, self.lanes = nn.Conv2d(12, 4, 1), nn.Conv2d(12, 2, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.encoder(image)
        found = {"area": self.area(features), "lanes": self.lanes(features)}
        return {name: F.interpolate(z, image.shape[2:], mode="bilinear") for name, z in found.items()}


NETWORKS: dict[str, tuple[type[nn.Module], str]] = {
    "twin": (TwinNetwork, "area=0,lanes=1"),
    "detecting": (DetectingNetwork, "area=1,lanes=2"),
    "one_feature": (OneFeatureNetwork, "all"),
}
"""Name of the function below -> network, and what to export of it: always area and lanes."""


def trained(name: str) -> nn.Module:
    """Reproducible weights, running statistics that are not the initial ones, and classes that all win."""
    state = torch.random.get_rng_state()
    torch.manual_seed(3)
    network = NETWORKS[name][0]()
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(4, 3, HEIGHT, WIDTH) * 1.5 + 0.3)
        network.eval()
        for task in ("area", "lanes"):
            head = getattr(network, task)
            last = head if isinstance(head, nn.Conv2d) else head[-1]
            last.weight.mul_(4)
            given: list[Tensor] = []
            hook = last.register_forward_hook(
                lambda _module, _inputs, output, given=given: given.append(output)
            )
            network(torch.randn(8, 3, HEIGHT, WIDTH))
            hook.remove()
            last.bias.sub_(given[0].mean((0, 2, 3)))
    torch.random.set_rng_state(state)
    return network


def twin() -> nn.Module:
    return TwinNetwork()


def detecting() -> nn.Module:
    return DetectingNetwork()


def one_feature() -> nn.Module:
    return OneFeatureNetwork()


def export_tasks(directory: Path, name: str, output: str | None = None) -> dict[str, Bundle]:
    """A bundle of a network, as ``bundle`` in a directory; its outputs by name."""
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / f"{name}.pth"
    torch.save(trained(name).state_dict(), checkpoint)
    export_bundle(
        ExportRequest(
            checkpoint,
            directory / "bundle",
            arch=f"{Path(__file__)}:{name}",
            input_size=(HEIGHT, WIDTH),
            stat_rows=1,
            output=NETWORKS[name][1] if output is None else output,
        )
    )
    return Bundle.open_outputs(directory / "bundle")
