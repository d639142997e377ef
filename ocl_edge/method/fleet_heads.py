"""Heads that a fleet has learned, each under conditions that the norm statistics of its frames tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ocl_edge.method.guard import compare_heads
from ocl_edge.method.head import Head
from ocl_edge.method.norms import statistics_distance
from ocl_edge.method.verdict import Signals
from ocl_edge.tensors import Tensor


@dataclass(frozen=True)
class FleetHead:
    """A head, and the statistics of the frames that it is for.

    Attributes:
        weights: by their names in the head.
        statistics: of the norms, float32 [2, S].
    """

    weights: Mapping[str, Tensor]
    statistics: Tensor


@dataclass(frozen=True)
class FleetHeads:
    """One head or more."""

    heads: tuple[FleetHead, ...]

    def nearest(self, statistics: Tensor | None) -> Mapping[str, Tensor]:
        """Weights of the head that was learned on frames most like one of these statistics, float32 [2, S].

        None, as networks without norms measure, takes the first: that of the most vehicles.
        """
        if statistics is None or len(self.heads) == 1:
            return self.heads[0].weights
        measured = statistics.cpu()
        return min(self.heads, key=lambda head: statistics_distance(measured, head.statistics)).weights


def try_head(head: Head, weights: Mapping[str, Tensor], features: list[Tensor]) -> Signals:
    """Load weights into a head; what the guard has to judge of them on a frame.

    Args:
        head: takes the weights, and keeps them.
        weights: by their names in it.
        features: of the frame.
    """
    trained = head.trained_logits(features)
    head.load(weights)
    return compare_heads(head.logits(features), trained, head.distance_from_trained())
