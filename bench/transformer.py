"""A small transformer segmenter without BatchNorm, trained on the drawn street by day.

    python bench/transformer.py --out segmenter.pth        minutes of one thread; 1.6 MB, not shipped
    ocl-edge export segmenter.pth --arch bench/transformer.py:build --input-size 192x320 --out bundle

What such a network does without norms that adapt, and with the mean of its head's input moved home, is
measured with `bench/without_norms.py`.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES, HEIGHT, LENGTH = 10, 192, 320
PATCH, REDUCTION = 8, 4
PEAK_LEARNING_RATE = 2e-3


class Block(nn.Module):
    """Attention to a coarser copy of the tokens, and a perceptron; each after a LayerNorm, beside a shortcut.

    As in SegFormer (Xie et al. 2021), keys and values come from `REDUCTION` times fewer rows and columns.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.coarser = nn.Conv2d(width, width, REDUCTION, REDUCTION)
        self.to_q, self.to_kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.from_attention = nn.Linear(width, width)
        self.before_perceptron = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [N, h, w, width] -> the same."""
        batch, height, length, _ = tokens.shape
        normed = self.before_attention(tokens)
        few = self.coarser(normed.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        q = self.to_q(normed).reshape(batch, height * length, self.heads, -1).transpose(1, 2)
        k, v = self.to_kv(few).reshape(batch, few.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(tokens.shape)
        tokens = tokens + self.from_attention(seen)
        learned: Tensor = self.perceptron(self.before_perceptron(tokens))
        return tokens + learned


class PatchTransformer(nn.Module):
    """Patches of 8x8 -> blocks -> LayerNorm -> a 1x1 convolution as the head, bilinear upsampling."""

    def __init__(self, width: int = 64, depth: int = 3, heads: int = 2) -> None:
        super().__init__()
        self.patches = nn.Sequential(
            nn.Conv2d(3, width // 2, 4, 4), nn.GELU(), nn.Conv2d(width // 2, width, 2, 2)
        )
        self.places = nn.Parameter(torch.randn(1, HEIGHT // PATCH, LENGTH // PATCH, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Conv2d(width, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        """float32 [N, 3, 192, 320], normalised -> logits [N, 10, 192, 320]."""
        tokens = self.blocks(self.patches(image).permute(0, 2, 3, 1) + self.places)
        logits = self.classifier(self.norm(tokens).permute(0, 3, 1, 2))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


def build() -> nn.Module:
    """With random weights."""
    return PatchTransformer()


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--streets", default=50, show_default=True, help="to train on, six frames each")
@click.option("--steps", default=500, show_default=True, help="batches of eight frames")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(out: Path, streets: int, steps: int, seed: int, threads: int) -> None:
    """Draw day frames, train on them, test on other day streets, and write a checkpoint."""
    from ocl_edge_app.demo.world.train import HELD_OUT_SEED, confusion, draw_frames, train

    torch.set_num_threads(threads)
    started = time.monotonic()
    images, labels = draw_frames(0, streets)
    click.echo(f"drew {len(images)} frames in {time.monotonic() - started:.0f} s")
    network = train(images, labels, steps, seed, build, PEAK_LEARNING_RATE)
    matrix = confusion(network, *draw_frames(HELD_OUT_SEED, 10))
    click.echo(f"mIoU on held-out day streets {100 * matrix.miou():.2f}")
    torch.save(network.state_dict(), out)


if __name__ == "__main__":
    main()
