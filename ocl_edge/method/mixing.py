"""How the norms mix the trained statistics with the frame's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocl_edge.method.norms import Prior, prior_of_channels
from ocl_edge.tensors import Tensor, torch


@dataclass(frozen=True)
class Mixing:
    """What the trained statistics weigh where a session is wide open.

    Attributes:
        weights: of the trained means (row 0) and variances (row 1), 0 to 1, float32 [2, S].
        between: the variance is that of a mixture: it gains ``a (1 - a) (difference of the means)^2``, with
            a = the weight of the trained mean. The published mixing leaves that out.
    """

    weights: Tensor
    between: bool = False

    @classmethod
    def of_prior(cls, channels: Sequence[int], prior: Prior, places: Sequence[float] | None = None) -> Mixing:
        """As published, the weights on a line from the first norm to the last.

        Args:
            channels: of every norm, in order of execution.
            prior: weight at the first and at the last of them.
            places: as for `prior_of_channels`.
        """
        row = prior_of_channels(channels, prior, places)
        return cls(torch.cat((row, row)))

    def at(self, opening: float) -> Tensor:
        """The ``anchor_weight`` of the measured form at an opening, float32 [3, S].

        At 0 the trained statistics alone count, at 1 the very weights hold.
        """
        weights = torch.lerp(torch.ones_like(self.weights), self.weights, opening)
        of_mean = weights[:1]
        between = of_mean * (1 - of_mean) if self.between else torch.zeros_like(of_mean)
        return torch.cat((weights, between))
