"""From logits at the network's own resolution to the mask of a frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ocl_edge.masks import MOST_IN_8_BITS, Mask, mask_dtype
from ocl_edge.network.bilinear_argmax import BilinearArgmax
from ocl_edge.network.sampling import rounded_as_known
from ocl_edge.tensors import Tensor, resize_bilinear, torch, without_gradients

if TYPE_CHECKING:
    from torch import nn

CHUNK_BYTES = 16 * 2**20
ENLARGED = 2
"""From so many mask pixels a logit on, looking for edges first takes less time than resizing everything."""


class _Buffers:
    """For masks of one size: scores of a few classes, the best so far, which class wins, its index."""

    def __init__(self, classes: int, height: int, width: int) -> None:
        self.key = (classes, height, width)
        at_once = max(1, min(classes, CHUNK_BYTES // (4 * height * width)))
        self.scores = torch.empty(1, at_once, height, width)
        self.best = np.empty((height, width), np.float32)
        self.wins = np.empty((height, width), np.bool_)
        self.index: Mask = np.empty((height, width), mask_dtype(classes))


class Tail:
    """Upsamples logits to the frame's size and takes the strongest class.

    A network whose tail is one bilinear resize is upsampled straight to the frame's
    size. Any other tail runs as it was captured; its output is then resized.

    Args:
        align_corners: how the bilinear resize samples.
        module: the captured tail, None where there is nothing but the resize.
        of_probabilities: it gives probabilities, which are averaged over views as such.
    """

    def __init__(
        self, align_corners: bool, module: nn.Module | None = None, of_probabilities: bool = False
    ) -> None:
        self.of_probabilities = of_probabilities
        self.align_corners = align_corners
        self.module = module
        self._buffers: _Buffers | None = None
        self._by_edges: tuple[tuple[int, ...], BilinearArgmax] | None = None

    @without_gradients
    def mask(self, logits: Tensor, height: int, width: int) -> Mask:
        """Class indices: float32 [1, C, h, w] -> [height, width], uint8 up to 255 classes, else uint16.

        The first of equals wins.

        Several views [N, C, h, w], aligned, are averaged after the captured tail.
        Bit for bit the argmax of the logits that PyTorch resizes. Frames that are much larger
        than the logits are interpolated at the edges between classes alone (`BilinearArgmax`).
        The caller owns the mask.
        """
        if self.module is not None:
            logits = self.module(logits)[0]
        if len(logits) > 1:
            logits = logits.mean(0, keepdim=True)
        if logits.is_cuda:
            return self._everywhere_on_gpu(logits, height, width)
        mask = None
        if height * width >= ENLARGED * logits[0, 0].numel() and rounded_as_known(logits, height, width):
            mask = self._at_edges(logits, height, width)
        return self.everywhere(logits, height, width) if mask is None else mask

    def _at_edges(self, logits: Tensor, height: int, width: int) -> Mask | None:
        key = (*logits.shape[2:], height, width)
        if self._by_edges is None or self._by_edges[0] != key:
            size = (logits.shape[2], logits.shape[3])
            self._by_edges = key, BilinearArgmax(size, (height, width), self.align_corners)
        return self._by_edges[1].mask(logits[0].numpy())

    def _everywhere_on_gpu(self, logits: Tensor, height: int, width: int) -> Mask:
        """As `everywhere`, in the memory where the logits are; only the mask comes to the host."""
        size = [height, width]
        at_once = max(1, CHUNK_BYTES // (4 * height * width))
        best = winner = None
        for first in range(0, logits.shape[1], at_once):
            chunk = logits[:, first : first + at_once]
            if list(chunk.shape[2:]) != size:
                chunk = resize_bilinear(chunk, size, self.align_corners)
            scores, classes = chunk[0].max(0)
            classes = (classes + first).to(torch.int32)
            if best is None or winner is None:
                best, winner = scores, classes
                continue
            winner = torch.where(scores > best, classes, winner)
            best = torch.maximum(best, scores)
        assert winner is not None
        if len(logits[0]) <= MOST_IN_8_BITS:
            winner = winner.to(torch.uint8)  # before it is copied to the host
        mask: Mask = winner.cpu().numpy().astype(mask_dtype(len(logits[0])), copy=False)
        return mask

    def everywhere(self, logits: Tensor, height: int, width: int) -> Mask:
        """Resize all logits, a few classes at a time.

        Those of all classes at the frame's size, 166 MB for 20 classes at 1080p, are never held at
        once. A comparison is so short that waiting for a second thread on a busy core takes longer
        than the comparison.
        """
        classes = logits.shape[1]
        if self._buffers is None or self._buffers.key != (classes, height, width):
            self._buffers = _Buffers(classes, height, width)
        buffers = self._buffers
        mask = np.zeros_like(buffers.index)
        for index, scores in enumerate(self._resized(logits, buffers.scores)):
            if index == 0:
                np.copyto(buffers.best, scores)
                continue
            np.greater(scores, buffers.best, out=buffers.wins)
            # Indices only grow, so that the larger one is the later winner. A masked write takes longer.
            np.multiply(buffers.wins.view(np.uint8), mask.dtype.type(index), out=buffers.index)
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
                resize_bilinear(chunk, size, self.align_corners, out=resized)
            yield from resized[0].numpy()
