"""From logits at the network's own resolution to the mask of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

RESIZE = torch.ops.aten.upsample_bilinear2d.out  # what F.interpolate calls, into a given buffer
MOST_CLASSES = 256  # a mask has 8 bits


@dataclass(frozen=True)
class _Buffers:
    """For masks of one size: scores of the best class so far and of the next one, which wins, its index."""

    best: Tensor
    candidate: Tensor
    wins: Tensor
    index: Tensor

    @classmethod
    def of(cls, height: int, width: int) -> _Buffers:
        size = (1, 1, height, width)
        return cls(
            torch.empty(size),
            torch.empty(size),
            torch.empty(size, dtype=torch.bool),
            torch.empty(size, dtype=torch.uint8),
        )


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
        self._buffers: _Buffers | None = None

    @torch.no_grad()
    def mask(self, logits: Tensor, height: int, width: int) -> NDArray[np.uint8]:
        """Class indices: float32 [1, C, h, w] -> uint8 [height, width]; the first of equals wins.

        Bit for bit the argmax of the resized logits, one class at a time: those of all
        classes at the frame's size, 166 MB for 20 classes at 1080p, are never held at once.
        The caller owns the mask.
        """
        if self.module is not None:
            logits = self.module(logits)[0]
        buffers = self._buffers_of(height, width)
        strongest = torch.zeros(1, 1, height, width, dtype=torch.uint8)
        self._resize_into(buffers.best, logits[:, :1])
        for index in range(1, logits.shape[1]):
            self._resize_into(buffers.candidate, logits[:, index : index + 1])
            torch.gt(buffers.candidate, buffers.best, out=buffers.wins)
            # Indices only grow, so that the larger one is the later winner. A masked write takes longer.
            torch.mul(buffers.wins.view(torch.uint8), index, out=buffers.index)
            torch.maximum(strongest, buffers.index, out=strongest)
            torch.maximum(buffers.best, buffers.candidate, out=buffers.best)
        mask: NDArray[np.uint8] = strongest[0, 0].numpy()
        return mask

    def _buffers_of(self, height: int, width: int) -> _Buffers:
        if self._buffers is None or self._buffers.best.shape[2:] != (height, width):
            self._buffers = _Buffers.of(height, width)
        return self._buffers

    def _resize_into(self, buffer: Tensor, logits: Tensor) -> None:
        if logits.shape == buffer.shape:
            buffer.copy_(logits)
        else:
            RESIZE(logits, list(buffer.shape[2:]), self.align_corners, None, None, out=buffer)
