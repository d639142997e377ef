"""AdaBN: Li, Wang, Shi, Liu, Hou 2016, arXiv 1603.04779; its online form, section 3.3."""

from __future__ import annotations

from ocl_edge.method.published.published import Network, Published
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.tensors import Tensor, torch, without_gradients


class AdaBN(Published):
    """Every norm takes mean and variance over all frames so far, this one included; nothing trains.

    With n frames before, ``mean' = mean + d / (n + 1)`` and ``var' = (n var + var_frame) / (n + 1) +
    n d^2 / (n + 1)^2``, d being the difference of the means: what the measured form computes where the
    anchor is the average so far and weighs n / (n + 1).
    """

    trains = "nothing"

    def __init__(self, network: Network, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(network, settings, seed)
        self.memory = {"statistics": network.trained.clone(), "frames": torch.zeros(())}
        self._of_frame = network.trained

    @without_gradients
    def logits(self, view: Tensor) -> Tensor:
        before = self._share_before()
        weight = torch.stack((before, before, before * (1 - before))).reshape(3, 1).expand_as(self.weight)
        seen = self.network.run(view, weight.contiguous(), self.memory["statistics"])
        self._of_frame = seen.statistics
        return seen.logits

    @without_gradients
    def learn(self) -> Verdict:
        before, (mean, var) = self._share_before(), self.memory["statistics"]
        apart = self._of_frame[0] - mean
        var.lerp_(self._of_frame[1], 1 - before).add_(before * (1 - before) * apart.square())
        mean.add_((1 - before) * apart)
        self.memory["frames"] += 1
        return Verdict(Reason.NOTHING_TRAINS)

    def _share_before(self) -> Tensor:
        frames = self.memory["frames"]
        return frames / (frames + 1)
