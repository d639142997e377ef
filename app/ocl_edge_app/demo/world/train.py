"""Trains the demo's network on drawn streets by day: `python -m ocl_edge_app.demo.world.train --out FILE`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge import durable
from ocl_edge.network.zoo.demo import MEAN, STD, build, normalise
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_app.demo.world.classes import CLASSES, PALETTE
from ocl_edge_app.demo.world.drive import day_frames
from ocl_edge_app.demo.world.scene import HEIGHT, WIDTH

FRAMES_PER_STREET = 6
SECONDS_BETWEEN_FRAMES = 4.3
HELD_OUT_SEED = 900_000
"""Streets from here on are never trained on."""
BATCH = 8
PEAK_LEARNING_RATE = 6e-3


def draw_frames(first_seed: int, streets: int) -> tuple[Tensor, Tensor]:
    """Day frames of that many streets: uint8 images [N, H, W, 3] RGB and labels [N, H, W]."""
    times = [index * SECONDS_BETWEEN_FRAMES for index in range(FRAMES_PER_STREET)]
    frames = [frame for seed in range(first_seed, first_seed + streets) for frame in day_frames(seed, times)]
    images, labels = zip(*frames, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))


def class_weights(labels: Tensor) -> Tensor:
    """Weight of every class in the loss: rare ones count a little more, mean 1."""
    counts = torch.bincount(labels.flatten().long(), minlength=len(CLASSES)).float()
    weights = (counts / counts.sum() + 1e-3) ** -0.3
    return weights / weights.mean()


def train(
    images: Tensor,
    labels: Tensor,
    steps: int,
    seed: int,
    untrained: Callable[[], nn.Module] = build,
    peak_learning_rate: float = PEAK_LEARNING_RATE,
) -> nn.Module:
    """Train on those frames; augmentation is a flip and +-10 % contrast, no weather.

    Args:
        images: uint8 [N, H, W, 3] RGB.
        labels: uint8 [N, H, W].
        steps: batches of `BATCH` frames.
        seed: of the initial weights, the order and the augmentation.
        untrained: makes the network.
        peak_learning_rate: of the schedule.

    Returns:
        The network in evaluation mode.
    """
    dice = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(
        devices=[]
    ):  # initial weights come from the global generator: leave it as it was
        torch.manual_seed(seed)
        network = untrained()
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    weights = class_weights(labels)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_learning_rate, total_steps=steps)
    order = torch.empty(0, dtype=torch.long)
    started = time.monotonic()
    for step in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(images), generator=dice)
        chosen, order = order[:BATCH], order[BATCH:]
        contrast = torch.empty(BATCH, 1, 1, 1).uniform_(0.9, 1.1, generator=dice)
        batch, target = normalise(images[chosen]) * contrast, labels[chosen].long()
        if torch.rand((), generator=dice) < 0.5:
            batch, target = batch.flip(3), target.flip(2)
        logits = network(batch.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, target, weights)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 50 == 49 or step + 1 == steps:
            elapsed = time.monotonic() - started
            click.echo(f"step {step + 1:5d} of {steps}, loss {loss.item():.4f}, {elapsed:.0f} s")
    return network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[no-any-return]


@torch.no_grad()
def confusion(network: nn.Module, images: Tensor, labels: Tensor) -> ConfusionMatrix:
    """Count a network's masks of uint8 frames, one at a time."""
    matrix = ConfusionMatrix(len(CLASSES))
    for image, label in zip(images, labels, strict=True):
        mask: NDArray[np.uint8] = network(normalise(image[None])).argmax(1)[0].to(torch.uint8).numpy()
        matrix.add(mask, label.numpy())
    return matrix


def checkpoint_of(network: nn.Module) -> dict[str, object]:
    """What `torch.save` writes: tensors and plain values only."""
    return {
        "ocl_edge": {
            "arch": "demo",
            "input_size": [HEIGHT, WIDTH],
            "classes": list(CLASSES),
            "palette": [list(colour) for colour in PALETTE],
            "mean": list(MEAN),
            "std": list(STD),
        },
        "state_dict": dict(network.state_dict()),
    }


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="checkpoint to write"
)
@click.option("--streets", default=160, show_default=True, help="streets to train on, six frames each")
@click.option("--steps", default=1500, show_default=True, help="batches of eight frames")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(out: Path, streets: int, steps: int, seed: int, threads: int) -> None:
    """Draw day frames, train on them, test on held-out day streets, and write a checkpoint."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    images, labels = draw_frames(0, streets)
    click.echo(f"drew {len(images)} frames in {time.monotonic() - started:.0f} s")
    network = train(images, labels, steps, seed)
    matrix = confusion(network, *draw_frames(HELD_OUT_SEED, 10))
    for name, iou in zip(CLASSES, matrix.iou(), strict=True):
        click.echo(f"{name:12s} {100 * iou:5.1f}")
    click.echo(f"mIoU on held-out day streets {100 * matrix.miou():.2f}")
    with durable.writing(out) as file:
        torch.save(checkpoint_of(network), file)


if __name__ == "__main__":
    main()
