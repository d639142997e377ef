"""A teacher that is the student's average over time (Tarvainen, Valpola 2017)."""

from __future__ import annotations

from ocl_edge.method.published.adam import PublishedWithAdam
from ocl_edge.method.published.published import Network
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.tensors import Tensor


class PublishedWithTeacher(PublishedWithAdam):
    """A published method whose weights learn from their own average."""

    def __init__(self, network: Network, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(network, settings, seed)
        self.memory |= {f"teacher.{name}": weight.clone() for name, weight in self.trained.items()}

    @property
    def teacher(self) -> dict[str, Tensor]:
        """Its weights, by name."""
        return {name: self.memory[f"teacher.{name}"] for name in self.parameters}

    def teacher_follows(self, share: float) -> None:
        """It goes a share of the way to the student."""
        for name, average in self.teacher.items():
            average.lerp_(self.parameters[name].detach(), share)
