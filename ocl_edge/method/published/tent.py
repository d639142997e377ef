"""Tent: Wang, Shelhamer, Liu, Olshausen, Darrell 2021, ICLR, arXiv 2006.10726."""

from __future__ import annotations

from ocl_edge.method.published.adam import PublishedWithAdam
from ocl_edge.method.published.published import entropy_of
from ocl_edge.method.verdict import Verdict
from ocl_edge.tensors import Tensor, torch


class Tent(PublishedWithAdam):
    """Entropy of the predictions, on the norms' weight and bias; norms use the frame's statistics alone.

    Adam with a rate of 0.001, the paper's for all but ImageNet.
    """

    def logits(self, view: Tensor) -> Tensor:
        with torch.enable_grad():
            self._logits = self.network.run(view, self.weight).logits
        return self._logits.detach()

    def learn(self) -> Verdict:
        return self.descend([entropy_of(self._logits).mean()])
