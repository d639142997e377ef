"""DIGA: Wang, Zhong, Wang, Chen, Ling, Wang, Sebe 2023, CVPR; reference code without its use of labels."""

from __future__ import annotations

from ocl_edge.errors import UsageError
from ocl_edge.method.published.published import Network, Published
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.tensors import Tensor, torch, without_gradients

SURE = 0.9
"""Confidence from which a pixel says what its class looks like (P_0)."""

RENEWED = 0.1
"""Of the prototypes of the past, in every frame (rho)."""

OF_THE_PAST = 0.8
"""Weight of the classification by the prototypes of the past, against those of the frame (lambda_P)."""

OF_PROTOTYPES = 0.8
"""Weight of both, against the network's own (lambda_F)."""


class DIGA(Published):
    """Statistics of the norms mixed with the frame's, and classes told by prototypes; no gradient.

    The norms mix 0.8 of the trained statistics with the frame's. The prototype of a class is the mean of the
    head's input over the pixels that are surely of it; a pixel is of a class by ``exp(-distance)``. The
    reference code renews the past's prototypes with the labels of the very frames that it is scored on; here
    the sure pixels renew them.
    """

    trains = "nothing"

    def __init__(self, network: Network, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(network, settings, seed)
        self.memory = {"past": torch.zeros(network.classes, network.features)}
        self.memory["known"] = torch.zeros(network.classes, dtype=torch.bool)

    @without_gradients
    def logits(self, view: Tensor) -> Tensor:
        """Of the frame, as probabilities: their weighted mean is what the paper upsamples."""
        seen = self.network.run(view, self.weight)
        own, features = seen.logits.softmax(1), seen.features.flatten(2)[0].T
        if own.shape[2:] != seen.features.shape[2:]:
            raise UsageError(
                f"diga tells the class of each pixel of the head's input, and this head makes "
                f"{tuple(own.shape[2:])} pixels of {tuple(seen.features.shape[2:])}: compare other methods"
            )
        means, there = self._prototypes(own.flatten(2)[0].T, features)
        self._renew(means, there)
        known = self.memory["known"]
        if not there.any():
            return own
        past = _by_distance(features, self.memory["past"], known)
        by_prototypes = OF_THE_PAST * past + (1 - OF_THE_PAST) * _by_distance(features, means, there)
        return OF_PROTOTYPES * by_prototypes.T.reshape(own.shape) + (1 - OF_PROTOTYPES) * own

    def learn(self) -> Verdict:
        return Verdict(Reason.NOTHING_TRAINS)

    def _prototypes(self, predicted: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean features [C, F] of sure pixels, and which classes have any: of [P, C] and [P, F]."""
        confidence, classes = predicted.max(1)
        sure = confidence >= SURE
        of_class = torch.nn.functional.one_hot(classes[sure], predicted.shape[1]).float()
        pixels = of_class.sum(0)
        return of_class.T @ features[sure] / pixels.clamp(min=1)[:, None], pixels > 0

    def _renew(self, means: Tensor, there: Tensor) -> None:
        past, known = self.memory["past"], self.memory["known"]
        renewed = torch.where(known[:, None], past.lerp(means, RENEWED), means)
        past.copy_(torch.where(there[:, None], renewed, past))
        known |= there


def _by_distance(features: Tensor, prototypes: Tensor, known: Tensor) -> Tensor:
    """Classes of pixels [P, F] by prototypes [C, F]: [P, C], sums to 1 over the known ones."""
    nearness = -torch.cdist(features, prototypes)
    return nearness.masked_fill(~known, -torch.inf).softmax(1)
