"""The head: features -> logits, and how it learns from a view pair."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ocl_edge.errors import BundleError
from ocl_edge.method.pixel_grid import is_pointwise
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.step import Loss, adapt_step
from ocl_edge.method.verdict import Verdict
from ocl_edge.method.weights import AdaptedWeights, TrainableWeights
from ocl_edge.tensors import Tensor, torch, without_gradients
from ocl_edge.timings import Stopwatch

if TYPE_CHECKING:
    from torch import nn


class Head(AdaptedWeights):
    """Features -> logits, and how it learns from a view pair."""

    @abstractmethod
    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """Features, each [N, F, h, w] -> logits [N, C, h, w]."""

    @abstractmethod
    def trained_logits(self, features: Sequence[Tensor]) -> Tensor:
        """As `logits`, with the trained weights and without gradients."""

    @abstractmethod
    def is_pointwise(self, features: Sequence[Sequence[int]]) -> bool:
        """Whether it takes features of any height and width, pixel by pixel.

        Args:
            features: shape [F, h, w] of each of its inputs.
        """

    @abstractmethod
    def adapt(
        self, features: Sequence[Tensor], loss_of: Loss, watch: Stopwatch, logits: Tensor | None = None
    ) -> Verdict:
        """One step of gradient descent on a view pair, then restoration.

        Args:
            features: of the image and its flip, each [2, F, h, w].
            loss_of: see `ocl_edge.method.step.adapt_step`.
            watch: receives the laps of the step.
            logits: of these features and weights, with gradients, where they are there already.

        Returns:
            What happened. A loss or gradient that is not finite leaves the weights, the
            momentum and the generator as they were.
        """


class TrainableHead(TrainableWeights, Head):
    """A head module that PyTorch trains.

    Args:
        module: features -> logits; its parameters are trained in place.
        settings: as for `AdaptedWeights`.
        seed: likewise.
    """

    def __init__(self, module: nn.Module, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(dict(module.named_parameters()), settings, seed)
        self.module = module

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """See `Head.logits`; differentiable."""
        try:
            return only_output(self.module(*features))
        except RuntimeError as error:  # of a bundle's program whose arguments make no sense
            raise BundleError(f"the head of this bundle cannot compute: {error}") from error

    @without_gradients
    def trained_logits(self, features: Sequence[Tensor]) -> Tensor:
        return only_output(torch.func.functional_call(self.module, self.trained, tuple(features)))

    def is_pointwise(self, features: Sequence[Sequence[int]]) -> bool:
        return is_pointwise(self.logits, features)

    def adapt(
        self, features: Sequence[Tensor], loss_of: Loss, watch: Stopwatch, logits: Tensor | None = None
    ) -> Verdict:
        return adapt_step(self, self.logits(features) if logits is None else logits, loss_of, watch)


def only_output(output: Tensor | Sequence[Tensor]) -> Tensor:
    """What a head gives: captured programs give a tuple of one, modules a tensor."""
    return output if isinstance(output, torch.Tensor) else output[0]
