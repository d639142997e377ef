"""What a published method is: how it predicts, and how it learns from the frame that it predicted."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.method.weights import TrainableWeights
from ocl_edge.tensors import Tensor

if TYPE_CHECKING:
    from torch import nn

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pass:
    """What a network made of views.

    Attributes:
        logits: [N, C, h, w], with gradients where weights have them.
        features: input of the head, [N, F, h, w].
        statistics: of every norm's own input, float32 [2, S].
    """

    logits: Tensor
    features: Tensor
    statistics: Tensor


class Network(Protocol):
    """The whole network in PyTorch.

    Attributes:
        parameters: all of them, by name, in the order of the network.
        affine: names of the norms' weights and biases, likewise.
        channels: of every norm, in order of execution.
        trained: statistics that training left in the norms, float32 [2, S].
        image: shape of a preprocessed frame, [3, h, w].
        features: channels of what the head gets.
        classes: of the logits.
    """

    parameters: dict[str, nn.Parameter]
    affine: tuple[str, ...]
    channels: tuple[int, ...]
    trained: Tensor
    image: tuple[int, int, int]
    features: int
    classes: int

    def run(
        self, views: Tensor, weight: Tensor, anchor: Tensor | None = None, weights: Weights | None = None
    ) -> Pass:
        """One pass.

        Args:
            views: float32 [N, 3, h, w], preprocessed.
            weight: of the anchor in every norm, float32 [3, S] (`ocl_edge.network.forms.measured_form`):
                0 takes the statistics of these views alone, 1 the anchor's.
            anchor: statistics, float32 [2, S]; None: those that training left.
            weights: take the place of the network's own, by name.
        """


class Published(TrainableWeights):
    """A method of a paper: `logits` predicts a frame, then `learn` may update on it.

    Here a loss or gradient that is not finite leaves the weights as they are; the papers have no such rule.

    Args:
        network: to adapt.
        settings: lr, momentum, restoration; ``prior`` weighs the trained statistics.
        seed: of all that is random.

    Attributes:
        trains: which weights take gradient steps.
        views: what the mask is made from; so it is compared with the frozen network's of the same views.
        memory: all that is remembered beside weights and momentum. Tensors of constant shapes.
        weight: of the trained statistics by ``prior``, float32 [3, S].
        trained_alone: the same where the frame's own count for nothing.
    """

    trains: Literal["nothing", "norm affine", "all"] = "norm affine"
    views: Literal["single", "pair"] = "single"

    def __init__(self, network: Network, settings: AdaptationDefaults, seed: int = 0) -> None:
        named = {"nothing": (), "norm affine": network.affine, "all": tuple(network.parameters)}
        chosen = {name: network.parameters[name] for name in self._of(named[self.trains])}
        for name, parameter in network.parameters.items():
            parameter.requires_grad_(name in chosen)
        super().__init__(chosen, settings, seed)
        self.network = network
        self.memory: dict[str, Tensor] = {}
        mixing = Mixing.of_prior(network.channels, settings.prior)
        self.weight, self.trained_alone = mixing.at(1.0), mixing.at(0.0)

    @abstractmethod
    def logits(self, view: Tensor) -> Tensor:
        """Of a frame, before any update on it: [1, 3, h, w] -> scores [1, C, h, w]."""

    @abstractmethod
    def learn(self) -> Verdict:
        """Learn from the frame of the last `logits`."""

    def descend(self, losses: Iterable[Tensor]) -> Verdict:
        """One step down the gradient of a sum; each of its terms may be made when the one before is done."""
        value = 0.0
        for loss in losses:
            value += loss.item()
            loss.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(value) or not self.gradients_are_finite():
            self.discard_gradients()
            return Verdict(Reason.LOSS_NOT_FINITE, value)
        self.step()
        return Verdict(Reason.ADAPTED, value)

    def export_state(self) -> dict[str, Tensor]:
        return super().export_state() | {f"memory.{n}": t.clone() for n, t in self.memory.items()}

    def import_state(self, tensors: Mapping[str, Tensor]) -> None:
        super().import_state(tensors)
        for name, remembered in self.memory.items():
            remembered.copy_(tensors[f"memory.{name}"])

    @staticmethod
    def _of(names: tuple[str, ...]) -> tuple[str, ...]:
        """Which of the weights that could train do."""
        return names


def entropy_of(logits: Tensor) -> Tensor:
    """Of every pixel's prediction, in nats: [N, C, h, w] -> [N, h, w]."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Of every pixel against another prediction, which gets no gradient: two [N, C, h, w] -> [N, h, w]."""
    return -(target.detach().softmax(1) * logits.log_softmax(1)).sum(1)
