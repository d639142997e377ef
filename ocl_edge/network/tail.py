"""From logits at the network's own resolution to the mask of a frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

RESIZE = torch.ops.aten.upsample_bilinear2d.out  # what F.interpolate calls, into a given buffer
MOST_CLASSES = 256  # a mask has 8 bits
CHUNK_BYTES = 16 * 2**20


class _Buffers:
    """For masks of one size: scores of a few classes, the best so far, which class wins, its index."""

    def __init__(self, classes: int, height: int, width: int) -> None:
        self.key = (classes, height, width)
        at_once = max(1, min(classes, CHUNK_BYTES // (4 * height * width)))
        self.scores = torch.empty(1, at_once, height, width)
        self.best = np.empty((height, width), np.float32)
        self.wins = np.empty((height, width), np.bool_)
        self.index = np.empty((height, width), np.uint8)


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

        Several views [N, C, h, w], aligned, are averaged after the captured tail.

        Bit for bit the argmax of the resized logits, a few classes at a time: those of all
        classes at the frame's size, 166 MB for 20 classes at 1080p, are never held at once.
        Only the resize is PyTorch's. A comparison is so short that waiting for a second
        thread on a busy core takes longer than the comparison.
        The caller owns the mask.
        """
        if self.module is not None:
            logits = self.module(logits)[0]
        if len(logits) > 1:
            logits = logits.mean(0, keepdim=True)
        classes = logits.shape[1]
        if self._buffers is None or self._buffers.key != (classes, height, width):
            self._buffers = _Buffers(classes, height, width)
        buffers = self._buffers
        mask = np.zeros((height, width), np.uint8)
        for index, scores in enumerate(self._resized(logits, buffers.scores)):
            if index == 0:
                np.copyto(buffers.best, scores)
                continue
            np.greater(scores, buffers.best, out=buffers.wins)
            # Indices only grow, so that the larger one is the later winner. A masked write takes longer.
            np.multiply(buffers.wins.view(np.uint8), np.uint8(index), out=buffers.index)
            np.maximum(mask, buffers.index, out=mask)
            np.maximum(buffers.best, scores, out=buffers.best)
        return mask

    def _resized(self, logits: Tensor, buffer: Tensor) -> Iterator[NDArray[np.float32]]:
        """Logits of one class after the other at the buffer's size, each valid until the next."""
        size = list(buffer.shape[2:])
        for chunk in torch.split(logits, buffer.shape[1], 1):
            resized = buffer[:, : chunk.shape[1]]
            if list(chunk.shape[2:]) == size:
                resized.copy_(chunk)
            else:
                RESIZE(chunk, size, self.align_corners, None, None, out=resized)
            yield from resized[0].numpy()
