"""CoTTA: Wang, Fink, Van Gool, Dai 2022, CVPR, arXiv 2203.13591."""

from __future__ import annotations

from ocl_edge.method.published.published import cross_entropy
from ocl_edge.method.published.teacher import PublishedWithTeacher
from ocl_edge.method.verdict import Verdict
from ocl_edge.tensors import Tensor, torch, without_gradients

KEPT = 0.999
"""Of the teacher's weights in every step (alpha)."""

SURE = 0.69
"""Mean confidence of the trained network from which the teacher sees the frame alone (p_th)."""


class CoTTA(PublishedWithTeacher):
    """All weights follow a teacher, their own average over time; some return to their trained values.

    The teacher's prediction counts. Where the trained network is unsure, it is averaged over views: the frame
    and its flip, for a captured network knows one size and the paper's other scales are out of its reach. The
    norms use the frame's statistics alone. Adam with the paper's rate for segmentation, 0.00006 / 8, and
    restoration of 0.01.
    """

    trains = "all"

    @without_gradients
    def logits(self, view: Tensor) -> Tensor:
        self._view, teacher = view, self.teacher
        self._taught = self.network.run(view, self.weight, weights=teacher).logits
        trained = self.network.run(view, self.weight, weights=self.trained).logits
        if trained.softmax(1).amax(1).mean() < SURE:
            flipped = self.network.run(view.flip(3), self.weight, weights=teacher).logits
            self._taught = (self._taught + flipped.flip(3)) / 2
        return self._taught

    def learn(self) -> Verdict:
        with torch.enable_grad():
            own = self.network.run(self._view, self.weight).logits
            verdict = self.descend([cross_entropy(own, self._taught).mean()])
        self.teacher_follows(1 - KEPT)
        self.restore_toward_trained()
        return verdict
