"""Learns the weights of the norms: a gradient through the measured form, on corrupted copies of frames.

The truth is what the network is sure of in the clean frame. Nothing else of the network changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle, load_backbone
from ocl_edge.errors import BundleError
from ocl_edge.method.mixing import Mixing
from ocl_edge.network.forms import build_form
from ocl_edge_runtime.calibration.copies import corrupted
from ocl_edge_runtime.calibration.corruptions import CORRUPTIONS
from ocl_edge_runtime.calibration.findings import Progress
from ocl_edge_runtime.calibration.frames import GivenFrames
from ocl_edge_runtime.calibration.measuring import UNKNOWN, HeadAsTrained, Measurer

STEPS = 160
"""One copy of one frame each."""
RATE, BETAS = 0.005, (0.9, 0.99)
PULL = 1.0
"""Of the mean squared distance from the weights that were begun with, beside a mean cross-entropy."""
LEARN = 2
"""Seed of the copies, beside those to fit and to check on."""
MOST_BYTES = 4 << 30
TOLD = 4
"""How often the progress is told."""


class WeightsLearner:
    """Begins with a mixing, and makes it agree better on copies.

    Args:
        measurer: of the network.
        heads: of its outputs, by name.
        frames: all of them.
        truths: of each output, index -> truth (`HeadAsTrained.truth`) of the frames to learn on.

    Raises:
        BundleError: a gradient would take more than `MOST_BYTES`, or the network has none.
    """

    def __init__(
        self,
        measurer: Measurer,
        heads: Mapping[str, HeadAsTrained],
        frames: GivenFrames,
        truths: Mapping[str, Mapping[int, Tensor]],
    ) -> None:
        self._measurer, self._heads, self._frames, self._truths = measurer, heads, frames, truths
        self._network = _differentiable(measurer.bundle)

    def learn(self, start: Mixing, progress: Progress) -> Mixing:
        """The mean weights of the second half of the steps.

        Raises:
            BundleError: an operator of the network has no gradient.
        """
        weights = nn.Parameter(start.weights.clone())
        adam = torch.optim.Adam([weights], RATE, BETAS)
        summed, indices = torch.zeros_like(start.weights), list(next(iter(self._truths.values())))
        for step, index in enumerate(_frames_of_steps(indices)):
            if step % max(1, STEPS // TOLD) == 0:
                progress(f"weights of the norms learn, step {step} of {STEPS}")
            adam.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
            adam.zero_grad()
            try:
                loss = self._loss(weights, step, index)
                (loss + PULL * ((weights - start.weights) ** 2).mean()).backward()  # type: ignore[no-untyped-call]
            except RuntimeError as error:  # an operator without one, or no memory
                raise BundleError(f"no gradient goes through this network: {error}") from error
            assert weights.grad is not None
            if bool(weights.grad.isfinite().all()):  # else of a class that the network rules out
                adam.step()
            with torch.no_grad():
                weights.clamp_(0, 1)
                if step >= STEPS // 2:
                    summed += weights
        return Mixing(summed / (STEPS - STEPS // 2), between=True)

    def _loss(self, weights: Tensor, step: int, index: int) -> Tensor:
        """Cross-entropy of a copy, the mean of the outputs; every second time round seen in a mirror."""
        names = list(CORRUPTIONS)
        copy = corrupted(self._frames.read(index), names[step % len(names)], (LEARN, step))
        view, mirrored = self._measurer.preprocessor.single(copy), step // len(names) % 2 == 1
        mixed = Mixing(weights, between=True).at(1.0)
        *features, _ = self._network(
            view.flip(3) if mirrored else view, self._measurer.norms.statistics, mixed
        )
        losses = []
        for name, head in self._heads.items():
            truth = self._truths[name][index][None]
            logits = head.logits_with_gradients(features)
            losses.append(_cross_entropy(logits, truth.flip(2) if mirrored else truth))
        return torch.stack(losses).mean()


def _frames_of_steps(indices: Sequence[int]) -> Iterator[int]:
    """Every frame once, in an order of its own, before any comes again: under other corruptions each time."""
    order, frames = np.random.default_rng(LEARN), list[int]()
    for _ in range(STEPS):
        frames = frames or order.permutation(indices).tolist()
        yield frames.pop()


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean over the pixels that the truth knows; 0 where it knows none."""
    summed = F.cross_entropy(logits, truth, ignore_index=UNKNOWN, reduction="sum")
    return summed / (truth != UNKNOWN).sum().clamp(min=1)


def _differentiable(bundle: Bundle) -> nn.Module:
    plain = load_backbone(bundle)
    needed = _bytes_held(plain)
    if needed > MOST_BYTES:
        raise BundleError(
            f"a gradient through this network holds some {needed / 1e9:.1f} GB, "
            f"more than {MOST_BYTES / 1e9:.1f}"
        )
    network = build_form(plain, "measured", bundle.manifest.stat_rows)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def _bytes_held(plain: fx.GraphModule) -> int:
    """Of the values of all operators, which a gradient may need again, about."""
    values = (node.meta.get("val") for node in plain.graph.nodes if node.op == "call_function")
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))
