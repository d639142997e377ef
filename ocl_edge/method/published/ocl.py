"""OCL as published: Zhang et al. 2023, arXiv 2311.07877, reference code ``evaluate.py``."""

from __future__ import annotations

from ocl_edge.method.published.published import Published
from ocl_edge.method.step import align_views, mean_of_views
from ocl_edge.method.verdict import Verdict
from ocl_edge.tensors import Tensor, torch


class OCL(Published):
    """Output Contrastive Loss of the frame and its flip on all weights, with restoration of 0.01.

    The norms mix 0.85 of the trained statistics with those of the two views. SGD with momentum 0.9, weight
    decay 0.0005, and a rate of 0.00002 (from GTA5).
    """

    trains = "all"
    views = "pair"

    def logits(self, view: Tensor) -> Tensor:
        with torch.enable_grad():
            self._logits = self.network.run(torch.cat((view, view.flip(3))), self.weight).logits
        return mean_of_views(self._logits)

    def learn(self) -> Verdict:
        from ocl_edge.method.ocl import output_contrastive_loss  # made with PyTorch's gradients in mind

        coefficients = self.settings.pos_coeff, self.settings.neg_coeff
        loss = output_contrastive_loss(*align_views(self._logits), *coefficients)
        verdict = self.descend([loss])
        self.restore_toward_trained()
        return verdict
