"""A grid of every n-th pixel: as good a sample for the loss as all pixels, at a fraction of the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ocl_edge.tensors import Tensor, torch, without_gradients


@dataclass(frozen=True)
class PixelGrid:
    """Every ``stride``-th pixel in both directions."""

    stride: int

    def sample(self, features: Sequence[Tensor], flip: bool = False) -> list[Tensor]:
        """Views of features [N, F, h, w] on the grid.

        Args:
            features: of one view.
            flip: they are of the flipped view; its grid is mirrored, so that pixels correspond.
        """
        n = self.stride
        if n == 1:  # of tokens, too, which have no rows
            return list(features)
        starts = [(f.shape[3] - 1) % n if flip else 0 for f in features]
        return [f[:, :, ::n, start::n] for f, start in zip(features, starts, strict=True)]


@without_gradients
def is_pointwise(logits_of: Callable[[Sequence[Tensor]], Tensor], features: Sequence[Sequence[int]]) -> bool:
    """Whether a head commutes with taking every second pixel, tried on noise.

    Args:
        logits_of: the head to try.
        features: shape [F, h, w] of each of its inputs.
    """
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(1, *shape, generator=generator) for shape in features]
    if len({f.shape[2:] for f in noise}) != 1 or any(f.dim() != 4 for f in noise):
        return False
    grid = PixelGrid(2)
    try:
        few = logits_of(grid.sample(noise))
    except RuntimeError:  # a head that insists on its size
        return False
    expected = grid.sample([logits_of(noise)])[0]
    return few.shape == expected.shape and torch.allclose(few, expected, atol=1e-4)
