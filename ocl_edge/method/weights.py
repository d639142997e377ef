"""Weights that adapt: gradient descent in place, restoration, and the way back."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.tensors import Tensor, torch, without_gradients

if TYPE_CHECKING:
    from torch import nn


class AdaptedWeights(ABC):
    """Weights that adapt, their trained values, and the random generator of their restoration.

    After a step every single weight returns to its trained value with a small probability
    (stochastic restoration, Wang et al. 2022, CoTTA).

    Args:
        parameters: changed in place, by name.
        settings: lr, momentum, weight decay, restoration.
        seed: of the generator that chooses the weights to restore.
    """

    def __init__(self, parameters: Mapping[str, Tensor], settings: AdaptationDefaults, seed: int = 0) -> None:
        self.parameters = parameters
        self.settings = settings
        self.trained = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.generator = torch.Generator().manual_seed(seed)

    def draw_restored(self) -> dict[str, Tensor]:
        """Which single weights return to their trained values after the next step: bool, by name."""
        share = self.settings.restoration
        if share == 0:
            return {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in self.parameters.items()}
        return {
            name: torch.rand(p.shape, generator=self.generator) < share for name, p in self.parameters.items()
        }

    def reset(self) -> None:
        """Trained weights, no momentum. The generator goes on."""
        self.load(self.trained)

    @without_gradients
    def go_halfway_home(self) -> None:
        """Half of the way back to the trained weights; no momentum."""
        self.load({name: p.lerp(self.trained[name], 0.5) for name, p in self.parameters.items()})

    def follow(self, settings: AdaptationDefaults) -> None:
        """Take the rates of the next update."""
        self.settings = settings

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the weights, on the CPU."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}

    @without_gradients
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights of the same names and shapes, and forget the momentum."""
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])
        self.forget_momentum()

    @abstractmethod
    def forget_momentum(self) -> None:
        """Go on as if there had been no step before."""

    @abstractmethod
    def momentum(self) -> dict[str, Tensor]:
        """Momentum buffers by weight, on the CPU; zeros before the first step."""

    @abstractmethod
    def load_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        """Take over momentum buffers; all zeros equal none."""

    def export_state(self) -> dict[str, Tensor]:
        """A copy of all that the next step depends on: weights, momentum, generator."""
        tensors = {f"weight.{n}": t for n, t in self.snapshot().items()}
        tensors |= {f"momentum.{n}": t.clone() for n, t in self.momentum().items()}
        return tensors | {"generator": self.generator.get_state()}

    def import_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `export_state` gave."""
        self.load({n: tensors[f"weight.{n}"] for n in self.parameters})
        self.load_momentum({n: tensors[f"momentum.{n}"] for n in self.parameters})
        self.generator.set_state(tensors["generator"])

    @without_gradients
    def distance_from_trained(self) -> float:
        """Euclidean distance of all weights from their trained values, over the norm of those."""
        moved = sum(float((p - self.trained[name]).square().sum()) for name, p in self.parameters.items())
        size = sum(float(p.square().sum()) for p in self.trained.values())
        return float((moved / size) ** 0.5) if size else 0.0

    def step_length(self, before: Mapping[str, Tensor]) -> float:
        """Euclidean length of the step from ``before``, over the norm of the trained ones.

        Weights that have just returned to their trained values are left out: restoration is no error.

        Args:
            before: a `snapshot`.
        """
        moved = size = 0.0
        for name, now in self.snapshot().items():
            trained = self.trained[name].cpu()
            moved += float(torch.where(now == trained, 0.0, now - before[name]).square().sum())
            size += float(trained.square().sum())
        return float((moved / size) ** 0.5) if size else 0.0

    def weights_sha256(self) -> str:
        """Hash of all weights, to compare two adaptations bit for bit."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.snapshot().items()):
            digest.update(name.encode() + weight.contiguous().numpy().tobytes())
        return digest.hexdigest()


class TrainableWeights(AdaptedWeights):
    """Weights that are trained in place: SGD as in the OCL paper. See `AdaptedWeights`.

    Bit for bit ``torch.optim.SGD``, which imports PyTorch's compiler when it is made: half of
    the start of a run.
    """

    parameters: dict[str, nn.Parameter]

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], settings: AdaptationDefaults, seed: int = 0
    ) -> None:
        super().__init__(dict(parameters), settings, seed)
        self._momentum: dict[str, Tensor] = {}

    @without_gradients
    def step(self) -> None:
        """Apply the gradients that ``backward`` left, and clear them."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            change = parameter.grad.add(parameter, alpha=self.settings.weight_decay)
            if name in self._momentum:
                self._momentum[name].mul_(self.settings.momentum).add_(change)
            else:
                self._momentum[name] = change
            parameter.add_(self._momentum[name], alpha=-self.settings.lr)
        self.discard_gradients()

    def discard_gradients(self) -> None:
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad.zero_()

    def gradients_are_finite(self) -> bool:
        return all(p.grad is None or bool(p.grad.isfinite().all()) for p in self.parameters.values())

    @without_gradients
    def restore_toward_trained(self) -> None:
        """Each single weight returns to its trained value with probability ``settings.restoration``."""
        for name, restored in self.draw_restored().items():
            parameter = self.parameters[name]
            parameter.copy_(torch.where(restored, self.trained[name], parameter))

    def forget_momentum(self) -> None:
        self._momentum.clear()

    def momentum(self) -> dict[str, Tensor]:
        none = {
            name: torch.zeros_like(p) for name, p in self.parameters.items() if name not in self._momentum
        }
        return {name: {**none, **self._momentum}[name] for name in self.parameters}

    def load_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        self._momentum = {name: momentum[name].clone() for name in self.parameters}
