"""How statistics enter the backbone: which form a frame goes through, with which inputs.

Frozen: the plain form. Paper: every view pair through the measured form, anchored at what training left.
Realtime: some frames through the measured form, the others through the modulated one, with vectors
from a running average of what was measured. Vectors are always measured in one sequential pass under
the trained anchor: measuring under last frame's vectors and feeding the result back is a loop that
diverges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from ocl_edge.method.norms import RunningStatistics, SourceNorms, why_refused
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.network.forms import FormName
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.durations import Durations
from ocl_edge_runtime.session.options import RealtimeOptions


class NormPolicy(Protocol):
    measured_at: float | None
    """When statistics were last taken in, seconds of the clock."""

    def is_due(self, index: int, arrived_at: float) -> bool:
        """Whether a frame's own statistics are to be measured."""

    def took(self, seconds: float) -> None:
        """A frame whose statistics were measured had its mask after so long."""

    def inputs(self, measured: bool) -> tuple[FormName, Mapping[str, Tensor]]:
        """The form that a frame goes through, and its inputs beside the image."""

    def take_in(self, outputs: Mapping[str, Tensor], arrived_at: float) -> Verdict | None:
        """Learn from what the backbone gave; why nothing may be learned from it, None where it is good.

        Args:
            outputs: of the form.
            arrived_at: when the frame was there, in seconds of stream time.
        """

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and facts that fit into JSON."""

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        """Take over what `export_state` gave, with ``saved_at`` among the facts.

        The clock of another process starts elsewhere; what matters is the age of the measurement.
        """


class FixedNorms:
    """Every frame goes through the same form with the same inputs."""

    measured_at: float | None = None

    def __init__(self, form: FormName, inputs: Mapping[str, Tensor]) -> None:
        self._through = form, inputs

    def is_due(self, index: int, arrived_at: float) -> bool:  # noqa: ARG002
        return self._through[0] == "measured"

    def took(self, seconds: float) -> None:
        """Nobody asks."""

    def inputs(self, measured: bool) -> tuple[FormName, Mapping[str, Tensor]]:  # noqa: ARG002
        return self._through

    def take_in(self, outputs: Mapping[str, Tensor], arrived_at: float) -> Verdict | None:  # noqa: ARG002
        return None

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {}

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        """There is nothing to take over."""


class NormVectors:
    """Norm vectors from a running average of measured statistics, or from the latest ones alone.

    Args:
        trained: what training left in the norms.
        prior: weight of the trained statistics, float32 [1, S]; S is 0 for a backbone without norms.
        options: how often statistics are measured, time constant and limit. Where every frame is
            measured, the latest ones count alone.
        clock: of the frames' arrival.
    """

    def __init__(self, trained: SourceNorms, prior: Tensor, options: RealtimeOptions, clock: Clock) -> None:
        self.running = RunningStatistics(options.tau_s)
        self.refused = 0
        self.mixed = trained.statistics
        self.vectors = trained.vectors(self.mixed)
        self.trained = trained
        self._prior = prior
        self._options = options
        self._clock = clock
        self._durations = Durations()

    @property
    def anchor(self) -> dict[str, Tensor]:
        """Inputs of the measured form beside the image; none where there are no norms."""
        if not self._prior.numel():
            return {}
        return {"anchor_statistics": self.trained.statistics, "anchor_weight": self._prior}

    @property
    def measured_at(self) -> float | None:
        return self.running.measured_at

    @measured_at.setter
    def measured_at(self, moment: float | None) -> None:
        self.running.measured_at = moment

    def is_due(self, index: int, arrived_at: float) -> bool:
        if not self._prior.numel():
            return False
        every, period = self._options.norm_every, self._options.period_s
        if every is not None:
            return index % every == 0
        predicted = self._durations.predicted()
        if predicted is None or period is None or self._clock.now() + predicted <= arrived_at + period:
            return True
        self._durations.refuse()
        return False

    def took(self, seconds: float) -> None:
        self._durations.add(seconds)

    def inputs(self, measured: bool) -> tuple[FormName, Mapping[str, Tensor]]:
        if measured:
            return "measured", self.anchor
        return "modulated", {"norm_vectors": self.vectors} if self._prior.numel() else {}

    def take_in(self, outputs: Mapping[str, Tensor], arrived_at: float) -> Verdict | None:
        """See `NormPolicy`: renews the vectors by the statistics, where they were measured."""
        features = (tensor for name, tensor in outputs.items() if name.startswith("features_"))
        if not all(bool(tensor.sum().isfinite()) for tensor in features):
            return Verdict(Reason.FEATURES_NOT_FINITE)
        if "statistics" not in outputs:
            return None
        statistics = outputs["statistics"].cpu()
        refusal = why_refused(statistics, self.trained.statistics, self._options.statistics_limit)
        if refusal is not None:
            self.refused += 1
            return refusal
        self.running.add(statistics, arrived_at)
        assert self.running.average is not None
        current = statistics if self._options.norm_every == 1 else self.running.average
        self._use(self.trained.mixed_with(current, self._prior))
        return None

    def _use(self, mixed: Tensor) -> None:
        self.mixed = mixed
        self.vectors = self.trained.vectors(mixed)

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        average = self.running.average
        tensors = {"mixed": self.mixed} | ({} if average is None else {"average": average})
        return tensors, {"measured_at": self.measured_at, "refused_statistics": self.refused}

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        self._use(tensors["mixed"])
        self.running.average = tensors.get("average")
        measured_at, saved_at = facts["measured_at"], facts["saved_at"]
        self.measured_at = None if measured_at is None else now_s - (saved_at - measured_at)
        self.refused = facts["refused_statistics"]
