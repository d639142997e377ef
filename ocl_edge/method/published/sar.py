"""SAR: Niu, Wu, Zhang, Wen, Chen, Zhao, Tan 2023, ICLR, arXiv 2302.12400."""

from __future__ import annotations

import math

from ocl_edge.method.published.published import Network, Published, entropy_of
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.tensors import Tensor, torch, without_gradients

RELIABLE = 0.4
"""Largest entropy of a prediction that is learned from, as a share of the largest there is (E_0)."""

RADIUS = 0.05
"""How far the weights go uphill before the gradient is taken (rho)."""

KEPT = 0.9
COLLAPSED = 0.2
"""The weights go back to the trained ones where the average loss falls below that (e_0)."""


class SAR(Published):
    """Entropy of reliable predictions, where it is flat: the gradient is taken a radius uphill.

    The norms of the last quarter stay as trained, as the paper leaves out the last of four stages. SGD with
    momentum 0.9 and a rate of 0.00025.
    """

    def __init__(self, network: Network, settings: AdaptationDefaults, seed: int = 0) -> None:
        super().__init__(network, settings, seed)
        self.memory = {"loss": torch.zeros(()), "losses": torch.zeros(())}

    def logits(self, view: Tensor) -> Tensor:
        self._view = view
        with torch.enable_grad():
            self._logits = self.network.run(view, self.weight).logits
        return self._logits.detach()

    def learn(self) -> Verdict:
        largest = RELIABLE * math.log(self.network.classes)
        entropy = entropy_of(self._logits)
        reliable = entropy < largest
        if not reliable.any():
            return Verdict(Reason.NOTHING_RELIABLE)
        entropy[reliable].mean().backward()  # type: ignore[no-untyped-call]
        uphill = self._climb()
        again = entropy_of(self.network.run(self._view, self.weight).logits)[reliable]
        self._move(uphill, -1.0)
        verdict = self.descend([again[again < largest].mean()])
        self._recover(again.mean().item())
        return verdict

    def _climb(self) -> dict[str, Tensor]:
        """Go uphill by `RADIUS`; returns the way."""
        slopes = {name: p.grad.clone() for name, p in self.parameters.items() if p.grad is not None}
        steepness = sum(float(slope.square().sum()) for slope in slopes.values()) ** 0.5
        uphill = {name: slope * (RADIUS / (steepness + 1e-12)) for name, slope in slopes.items()}
        self.discard_gradients()
        self._move(uphill, 1.0)
        return uphill

    @without_gradients
    def _move(self, way: dict[str, Tensor], factor: float) -> None:
        for name, part in way.items():
            self.parameters[name].add_(part, alpha=factor)

    def _recover(self, loss: float) -> None:
        average, losses = self.memory["loss"], self.memory["losses"]
        average.copy_(average * KEPT + loss * (1 - KEPT) if losses else torch.tensor(loss))
        losses += 1
        if average < COLLAPSED:
            self.reset()
            losses.zero_()

    @staticmethod
    def _of(names: tuple[str, ...]) -> tuple[str, ...]:
        return names[: math.ceil(len(names) * 3 / 4)]
