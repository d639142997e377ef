"""How bilinear interpolation samples one side of a picture, and how PyTorch rounds there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocl_edge.tensors import resize_bilinear, torch

FloatPlane = NDArray[np.float32]
Positions = NDArray[np.intp]

GENERIC_KERNEL_FROM = 129
"""PyTorch computes outputs of fewer rows and columns together by another kernel, rounded otherwise."""

KERNEL_OF_PICTURES = 3
"""Images of so many channels have a kernel of their own, too."""


@dataclass(frozen=True)
class SampledAxis:
    """How one side of the output samples one side of the logits.

    Attributes:
        low: position of the nearer corner before each output pixel, [outputs].
        high: of the one after it, at most the last, [outputs].
        near: weight of ``low``, float32 [outputs].
        far: weight of ``high``, likewise.
        first: of the outputs of each cell, the first, [inputs].
        count: outputs of each cell, [inputs].
    """

    low: Positions
    high: Positions
    near: FloatPlane
    far: FloatPlane
    first: Positions
    count: Positions

    @classmethod
    def ask_pytorch(cls, inputs: int, outputs: int, align_corners: bool) -> SampledAxis:
        """Positions and weights as PyTorch's kernel has them on this machine, read off three combs.

        Their last digits depend on how PyTorch was compiled: position times scale is rounded once or
        twice, and a weight is what remains of it.
        """
        combs = torch.zeros(3, 1, 1, inputs)
        for tooth, comb in enumerate(combs):
            comb[..., tooth::3] = 1
        size = (max(1, GENERIC_KERNEL_FROM - outputs), outputs)
        seen = resize_bilinear(combs, size, align_corners)[:, 0, 0].numpy()
        every = np.arange(outputs)
        if align_corners:
            scaled = every * ((inputs - 1) / max(outputs - 1, 1))
        else:
            scaled = np.maximum((every + 0.5) * (inputs / outputs) - 0.5, 0)
        guess = np.minimum(scaled.astype(np.intp), inputs - 1)
        # where the product is a hair from a whole number, PyTorch may round to its other side
        at_guess, after = seen[guess % 3, every], seen[(guess + 1) % 3, every]
        astray = (seen[(guess + 2) % 3, every] > 0).astype(np.intp)
        low = guess + np.where(after > at_guess, astray, -astray)
        high = np.minimum(low + 1, inputs - 1)
        far = np.where(high > low, seen[(low + 1) % 3, every], np.float32(0))
        cells = np.arange(inputs)
        first = np.searchsorted(low, cells)
        count = np.searchsorted(low, cells, side="right") - first
        return cls(low, high, np.float32(1) - far, far, first, count)

    def outputs_of(self, cells: Positions) -> tuple[Positions, Positions]:
        """All outputs of some cells: which of the cells each belongs to, and its position."""
        counts = self.count[cells]
        cell_of = np.repeat(np.arange(len(cells)), counts)
        within = np.arange(len(cell_of)) - np.repeat(np.cumsum(counts) - counts, counts)
        return cell_of, self.first[cells][cell_of] + within


def rounded_as_known(logits: torch.Tensor, height: int, width: int) -> bool:
    """Whether PyTorch resizes logits [1, C, h, w] by the kernel whose rounding is known here."""
    return logits.shape[1] != KERNEL_OF_PICTURES and height + width >= GENERIC_KERNEL_FROM
