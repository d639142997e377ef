"""EATA: Niu, Wu, Zhang, Chen, Zheng, Zhao, Tan 2022, ICML, arXiv 2204.02610."""

from __future__ import annotations

import math

from ocl_edge.method.published.published import Network, Published, entropy_of
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.tensors import Tensor, torch

RELIABLE = 0.4
"""Largest entropy of a prediction that is learned from, as a share of the largest there is (E_0)."""

ALIKE = 0.4
"""A prediction nearer than that to the average of those before, by the cosine, is redundant (epsilon)."""

KEPT = 0.9
HELD = 1.0
"""Weight of the term that holds important weights (beta)."""

FISHER_FRAMES = 4
"""The first frames of a stream stand for the paper's sample of the trained domain: nothing is learned."""


class EATA(Published):
    """Entropy of predictions that are reliable and new, the surer the more; important weights are held.

    How important a weight is, its Fisher information says: the mean square of the gradient of the cross
    entropy with the network's own classes. SGD with momentum 0.9 and a rate of 0.005; that, epsilon and beta
    are the paper's for CIFAR-10, whose number of classes is near that of a street.
    """

    def __init__(self, network: Network, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(network, settings, seed)
        self.memory = {f"fisher.{name}": torch.zeros_like(p.detach()) for name, p in self.parameters.items()}
        self.memory["frames"] = torch.zeros(())
        self.memory["average"] = torch.zeros(network.classes)

    def logits(self, view: Tensor) -> Tensor:
        with torch.enable_grad():
            self._logits = self.network.run(view, self.weight).logits
        return self._logits.detach()

    def learn(self) -> Verdict:
        self.memory["frames"] += 1
        if self.memory["frames"] <= FISHER_FRAMES:
            return self._weigh()
        largest = RELIABLE * math.log(self.network.classes)
        entropy = entropy_of(self._logits).flatten()
        predicted = self._logits.detach().softmax(1).flatten(2)[0].T
        average = self.memory["average"]
        chosen = entropy < largest
        if average.any():
            chosen &= torch.nn.functional.cosine_similarity(predicted, average[None], dim=1) < ALIKE
        if not chosen.any():
            return Verdict(Reason.NOTHING_RELIABLE)
        new = predicted[chosen].mean(0)
        average.copy_(KEPT * average + (1 - KEPT) * new if average.any() else new)
        surer = (largest - entropy[chosen].detach()).exp()
        return self.descend([(surer * entropy[chosen]).mean() + HELD * self._moved()])

    def _moved(self) -> Tensor:
        """Squared distance of the weights from the trained ones, each by its importance."""
        parts = [
            (self.memory[f"fisher.{name}"] * (p - self.trained[name]).square()).sum()
            for name, p in self.parameters.items()
        ]
        return torch.stack(parts).sum()

    def _weigh(self) -> Verdict:
        own = self._logits.argmax(1).detach()
        torch.nn.functional.cross_entropy(self._logits, own).backward()  # type: ignore[no-untyped-call]
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.memory[f"fisher.{name}"] += parameter.grad.square() / FISHER_FRAMES
        self.discard_gradients()
        return Verdict(Reason.NOT_DUE)
