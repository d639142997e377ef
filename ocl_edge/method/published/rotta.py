"""RoTTA: Yuan, Xie, Li 2023, CVPR, arXiv 2303.13899."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ocl_edge.method.published.memory_bank import MemoryBank
from ocl_edge.method.published.published import Network, Pass, cross_entropy, entropy_of
from ocl_edge.method.published.teacher import PublishedWithTeacher
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.tensors import Tensor, torch, without_gradients

PLACES, EVERY = 16, 8
"""Frames that are remembered, and from one update to the next; 64 in the paper, with longer streams."""

FOLLOWS = 0.001
"""How far the teacher goes to the student in each update (nu)."""


class RoTTA(PublishedWithTeacher):
    """The norms' weight and bias follow a teacher on remembered frames, whose statistics renew the norms'.

    The teacher's prediction counts, with the renewed statistics alone. A frame is of the class that most of
    its pixels are of. Remembered frames run one at a time. The student sees them with other contrast and
    brightness, noise, and every other one flipped. Adam with a rate of 0.001; the statistics so far weigh
    ``prior``, 1 - alpha = 0.95.
    """

    def __init__(self, network: Network, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(network, settings, seed)
        self._bank = MemoryBank(PLACES, network.classes, network.image)
        self.memory |= self._bank.tensors | {"frames": torch.zeros(()), "statistics": network.trained.clone()}

    @without_gradients
    def logits(self, view: Tensor) -> Tensor:
        self._view = view
        self._taught = self._teach(view, self.trained_alone).logits
        return self._taught

    def learn(self) -> Verdict:
        of_class = int(self._taught.argmax(1).flatten().mode().values)
        self._bank.add(self._view, of_class, float(entropy_of(self._taught).mean()))
        self.memory["frames"] += 1
        if self.memory["frames"] % EVERY:
            return Verdict(Reason.NOT_DUE)
        measured: list[Tensor] = []
        with torch.enable_grad():
            verdict = self.descend(self._losses(measured))
        self.memory["statistics"].lerp_(torch.stack(measured).mean(0), 1 - self.weight[:2])
        self.teacher_follows(FOLLOWS)
        return verdict

    def _losses(self, measured: list[Tensor]) -> Iterator[Tensor]:
        """Of each remembered frame, the older the less; the statistics that it measures are added."""
        frames = self._bank.frames()
        for index, (frame, age) in enumerate(frames):
            taught = self._teach(frame, self.weight)
            measured.append(taught.statistics)
            axes = [3] if index % 2 else []
            seen = self._disturbed(frame.flip(axes))
            own = self.network.run(seen, self.weight, self.memory["statistics"]).logits.flip(axes)
            timely = 1 / (1 + math.exp(age))
            yield timely * cross_entropy(own, taught.logits).mean() / len(frames)

    @without_gradients
    def _teach(self, frame: Tensor, weight: Tensor) -> Pass:
        return self.network.run(frame, weight, self.memory["statistics"], self.teacher)

    def _disturbed(self, frame: Tensor) -> Tensor:
        """Other contrast and brightness, and noise."""
        contrast, brightness = (0.6 + 0.8 * torch.rand(2, generator=self.generator)).tolist()
        noise = torch.randn(frame.shape, generator=self.generator)
        mean = frame.mean()
        return torch.add((frame - mean) * contrast + mean * brightness, noise, alpha=0.005)
