"""What trains: some weights, one step of gradient descent on them, restoration; and the head."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ocl_edge.bundle import AdaptationDefaults


class TrainableWeights:
    """Weights that adapt, their source values, their optimiser and their random generator.

    SGD as in the OCL paper; after a step every single weight returns to its source value
    with a small probability (stochastic restoration, Wang et al. 2022, CoTTA).

    Args:
        parameters: trained in place, by name.
        settings: lr, momentum, weight decay, restoration.
        seed: of the generator that chooses the weights to restore.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], settings: AdaptationDefaults, seed: int = 0
    ) -> None:
        self.parameters = dict(parameters)
        self.settings = settings
        self.source = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.SGD(
            self.parameters.values(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    def step(self) -> None:
        """Apply the gradients that ``backward`` left, and clear them."""
        self.optimizer.step()
        self.discard_gradients()

    def discard_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=False)

    def gradients_are_finite(self) -> bool:
        return all(p.grad is None or bool(p.grad.isfinite().all()) for p in self.parameters.values())

    @torch.no_grad()
    def restore_toward_source(self) -> None:
        """Each single weight returns to its source value with probability ``settings.restoration``."""
        if self.settings.restoration == 0:
            return
        for name, parameter in self.parameters.items():
            draw = torch.rand(parameter.shape, generator=self.generator)
            parameter.copy_(torch.where(draw < self.settings.restoration, self.source[name], parameter))

    @torch.no_grad()
    def reset(self) -> None:
        """Source weights, no momentum. The generator goes on."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.source[name])
        self.optimizer.state.clear()

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the weights."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights of the same names and shapes, and forget the momentum."""
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])
        self.optimizer.state.clear()

    def momentum(self) -> dict[str, Tensor]:
        """Momentum buffers by weight; zeros before the first step."""
        states = {name: self.optimizer.state.get(p, {}) for name, p in self.parameters.items()}
        return {
            name: torch.zeros_like(self.parameters[name])
            if s.get("momentum_buffer") is None
            else s["momentum_buffer"]
            for name, s in states.items()
        }

    def load_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        """Take over momentum buffers; all zeros equal a fresh optimiser."""
        for name, parameter in self.parameters.items():
            self.optimizer.state[parameter] = {"momentum_buffer": momentum[name].clone()}

    @torch.no_grad()
    def distance_from_source(self) -> float:
        """Euclidean distance of all weights from their source values, over the norm of those."""
        moved = sum(float((p - self.source[name]).square().sum()) for name, p in self.parameters.items())
        size = sum(float(p.square().sum()) for p in self.source.values())
        return float((moved / size) ** 0.5) if size else 0.0

    def weights_sha256(self) -> str:
        """Hash of all weights, to compare two adaptations bit for bit."""
        digest = hashlib.sha256()
        for name in sorted(self.parameters):
            digest.update(name.encode() + self.parameters[name].detach().contiguous().numpy().tobytes())
        return digest.hexdigest()


class TrainableHead(TrainableWeights):
    """A head module whose parameters adapt.

    Args:
        module: features -> logits; its parameters are trained in place.
        settings: as for `TrainableWeights`.
        seed: likewise.
    """

    def __init__(self, module: nn.Module, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(dict(module.named_parameters()), settings, seed)
        self.module = module

    @torch.no_grad()
    def source_logits(self, features: Sequence[Tensor]) -> Tensor:
        """As `logits`, with the source weights."""
        output = torch.func.functional_call(self.module, self.source, tuple(features))
        logits = output[0] if isinstance(output, tuple | list) else output
        assert isinstance(logits, Tensor)
        return logits

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """Features, each [N, F, h, w] -> logits [N, C, h, w], differentiable."""
        output = self.module(*features)
        logits = output[0] if isinstance(output, tuple | list) else output
        assert isinstance(logits, Tensor)
        return logits
