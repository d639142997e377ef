"""What the frames between two measured ones are normalised with, and what may change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ocl_edge.method.norms import RunningStatistics, SourceNorms, why_refused
from ocl_edge_runtime.session.realtime_options import RealtimeOptions


class NormVectors:
    """Norm vectors from a running average of measured statistics, or from the latest ones alone.

    Args:
        source: statistics of the training, and affine weights.
        prior: weight of the source statistics, float32 [1, S].
        options: time constant, limit of the statistics, and whether every frame is measured: then
            the latest ones count alone.
    """

    def __init__(self, source: SourceNorms, prior: Tensor, options: RealtimeOptions) -> None:
        self.running = RunningStatistics(options.tau_s)
        self.refused = 0
        self.mixed = source.statistics
        self.vectors = source.vectors(self.mixed)
        self._source = source
        self._prior = prior
        self._limit = options.statistics_limit
        self._latest_alone = options.norm_every == 1

    def take_in(self, statistics: Tensor, arrived_at: float) -> str | None:
        """Renew the vectors by a frame's statistics, or refuse these and say why.

        Args:
            statistics: measured in one pass under the source anchor, float32 [2, S].
            arrived_at: when the frame was there, in seconds of stream time.
        """
        refusal = why_refused(statistics, self._source.statistics, self._limit)
        if refusal is not None:
            self.refused += 1
            return refusal
        self.running.add(statistics, arrived_at)
        assert self.running.average is not None
        current = statistics if self._latest_alone else self.running.average
        self._use(self._source.mixed_with(current, self._prior))
        return None

    def _use(self, mixed: Tensor) -> None:
        self.mixed = mixed
        self.vectors = self._source.vectors(mixed)

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and facts that fit into JSON."""
        average = self.running.average
        tensors = {"mixed": self.mixed} | ({} if average is None else {"average": average})
        return tensors, {"measured_at": self.running.measured_at, "refused_statistics": self.refused}

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        """Take over what `export_state` gave, with ``saved_at`` among the facts.

        The clock of another process starts elsewhere; what matters is the age of the measurement.
        """
        self._use(tensors["mixed"])
        self.running.average = tensors.get("average")
        measured_at, saved_at = facts["measured_at"], facts["saved_at"]
        self.running.measured_at = None if measured_at is None else now_s - (saved_at - measured_at)
        self.refused = facts["refused_statistics"]
