"""From logits at the network's own resolution to the mask of a frame."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F


class Tail:
    """Upsamples logits to the frame's size and takes the strongest class.

    A network whose tail is one bilinear resize is upsampled straight to the frame's
    size. Any other tail runs as it was captured; its output is then resized.

    Args:
        align_corners: how the bilinear resize samples.
        module: the captured tail, None where there is nothing but the resize.
    """

    def __init__(self, align_corners: bool, module: nn.Module | None = None) -> None:
        self.align_corners = align_corners
        self.module = module

    @torch.no_grad()
    def upsample(self, logits: Tensor, height: int, width: int) -> Tensor:
        """[1, C, h, w] -> [1, C, height, width]."""
        if self.module is not None:
            logits = self.module(logits)[0]
        if logits.shape[2:] == (height, width):
            return logits
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=self.align_corners)

    @torch.no_grad()
    def mask(self, logits: Tensor, height: int, width: int) -> NDArray[np.uint8]:
        """Class indices: float32 [1, C, h, w] -> uint8 [height, width]; the first of equals wins.

        ``max`` with indices, because ``argmax`` over the channel axis takes three times as long.
        """
        indices = self.upsample(logits, height, width).max(1).indices
        mask: NDArray[np.uint8] = indices[0].to(torch.uint8).numpy()
        return mask
