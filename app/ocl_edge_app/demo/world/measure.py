"""mIoU of every stretch of the drive, frozen and with modulated norms.

python -m ocl_edge_app.demo.world.measure
"""

from __future__ import annotations

import copy
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.network.zoo.demo import build, normalise
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_app.demo.world.classes import CLASSES
from ocl_edge_app.demo.world.drive import STRETCHES, drive

SHIPPED = Path(__file__).parents[1] / "segmenter.pth"


class CurrentNorm(nn.Module):
    """A BatchNorm whose statistics are ``prior * source + (1 - prior) * this image's``, no gradient.

    The variance is unbiased, as in the reference code (Zhang et al. 2023).
    """

    def __init__(self, norm: nn.BatchNorm2d, prior: float) -> None:
        super().__init__()
        self.norm = norm
        self.prior = prior

    def forward(self, x: Tensor) -> Tensor:
        source_mean, source_var = self.norm.running_mean, self.norm.running_var
        assert source_mean is not None
        assert source_var is not None
        var, mean = torch.var_mean(x, (0, 2, 3))
        mean = torch.lerp(mean, source_mean, self.prior)
        var = torch.lerp(var, source_var, self.prior)
        return F.batch_norm(x, mean, var, self.norm.weight, self.norm.bias, eps=self.norm.eps)


def load_shipped(path: Path = SHIPPED) -> nn.Module:
    """The network with the weights that ship, in evaluation mode."""
    network = build()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    return network.eval()


def with_current_norms(network: nn.Module, prior: float) -> nn.Module:
    """A copy of the network in which every BatchNorm is a `CurrentNorm`."""
    copied = copy.deepcopy(network)
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, CurrentNorm(child, prior))
    return copied


@torch.no_grad()
def measure(
    networks: dict[str, nn.Module], frames: int, seeds: range
) -> dict[str, dict[str, ConfusionMatrix]]:
    """Confusion of each network in each stretch, over drives of those seeds; single view, frame by frame."""
    matrices = {n: {s: ConfusionMatrix(len(CLASSES)) for s in (*STRETCHES, "all")} for n in networks}
    for seed in seeds:
        for frame in drive(frames, seed):
            image = normalise(torch.from_numpy(frame.image)[None])
            for name, network in networks.items():
                mask: NDArray[np.uint8] = network(image).argmax(1)[0].to(torch.uint8).numpy()
                for stretch in (frame.stretch, "all"):
                    matrices[name][stretch].add(mask, frame.labels)
    return matrices


@click.command()
@click.option(
    "--weights", type=click.Path(path_type=Path, exists=True), default=SHIPPED, show_default="shipped"
)
@click.option("--frames", default=150, show_default=True, help="length of each drive")
@click.option("--seeds", default=4, show_default=True, help="number of drives: seeds 0, 1, ...")
@click.option("--prior", "priors", type=float, multiple=True, default=(0.85, 0.7), show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(weights: Path, frames: int, seeds: int, priors: tuple[float, ...], threads: int) -> None:
    """Print a table of mIoU in percent, and one of the IoU of every class at night."""
    torch.set_num_threads(threads)
    frozen = load_shipped(weights)
    networks = {"frozen": frozen} | {f"prior {p}": with_current_norms(frozen, p) for p in priors}
    matrices = measure(networks, frames, range(seeds))
    click.echo("| mIoU | " + " | ".join((*STRETCHES, "all")) + " |")
    click.echo("|---" * (len(STRETCHES) + 2) + "|")
    for name, by_stretch in matrices.items():
        click.echo(f"| {name} | " + " | ".join(f"{100 * m.miou():.1f}" for m in by_stretch.values()) + " |")
    for stretch in STRETCHES:
        click.echo(f"\n| IoU, {stretch} | " + " | ".join(CLASSES) + " |")
        click.echo("|---" * (len(CLASSES) + 1) + "|")
        for name, by_stretch in matrices.items():
            cells = " | ".join(f"{100 * iou:.1f}" for iou in by_stretch[stretch].iou())
            click.echo(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
