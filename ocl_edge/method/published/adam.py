"""Adam (Kingma, Ba 2015), for the methods whose papers use it."""

from __future__ import annotations

from ocl_edge.method.published.published import Network, Published
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.tensors import torch, without_gradients

DECAYS = 0.9, 0.999
"""Of the mean of gradients and the mean of their squares."""

EPSILON = 1e-8


class PublishedWithAdam(Published):
    """A published method whose step is Adam's, as ``torch.optim.Adam`` takes it.

    What that calls ``exp_avg`` and ``exp_avg_sq`` is in the memory, so that a saved state has it.
    """

    def __init__(self, network: Network, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(network, settings, seed)
        self.memory["steps"] = torch.zeros(())
        for name, parameter in self.parameters.items():
            self.memory[f"gradient.{name}"] = torch.zeros_like(parameter, requires_grad=False)
            self.memory[f"square.{name}"] = torch.zeros_like(parameter, requires_grad=False)

    @without_gradients
    def step(self) -> None:
        steps = self.memory["steps"].add_(1)
        of_mean, of_square = (1 - decay ** steps.item() for decay in DECAYS)
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            mean, square = self.memory[f"gradient.{name}"], self.memory[f"square.{name}"]
            mean.lerp_(parameter.grad, 1 - DECAYS[0])
            square.lerp_(parameter.grad.square(), 1 - DECAYS[1])
            scale = (square / of_square).sqrt_().add_(EPSILON)
            parameter.addcdiv_(mean, scale, value=-self.settings.lr / of_mean)
        self.discard_gradients()
