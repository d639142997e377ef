"""How statistics enter the backbone in realtime mode.

Some frames go through the measured form, the others through the modulated one, with vectors from a running
average of what was measured. Vectors are always measured in one sequential pass under the trained anchor:
measuring under last frame's vectors and feeding the result back is a loop that diverges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.method.norms import RunningStatistics, why_refused
from ocl_edge.method.opening import OPENED
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.network.form_names import FormName
from ocl_edge.network.form_tensors import features_among
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.durations import Durations
from ocl_edge_runtime.session.openness import Openness, moved
from ocl_edge_runtime.session.options import RealtimeOptions


class NormVectors:
    """Norm vectors from a running average of measured statistics, or from the latest ones alone.

    Args:
        openness: of the stream.
        options: how often statistics are measured, time constant and limit. Where every frame is
            measured, the latest ones count alone.
        clock: of the frames' arrival.
    """

    way_home: Tensor | None = None

    def __init__(self, openness: Openness, options: RealtimeOptions, clock: Clock) -> None:
        self.openness: Openness | None = openness
        self.trained = openness.trained
        self.running = RunningStatistics(options.tau_s, openness.limits.jump)
        self.refused = 0
        self.mixed = self.trained.statistics
        self.vectors = self.trained.vectors(self.mixed)
        self._openness = openness
        self._current: Tensor | None = None
        self._measured_open = openness.value
        self._has_norms = bool(self.trained.mean.numel())
        self._options = options
        self._clock = clock
        self._durations = Durations()

    @property
    def anchor(self) -> dict[str, Tensor]:
        """Inputs of the measured form beside the image; none where there are no norms."""
        return self._openness.anchor()

    @property
    def measured_at(self) -> float | None:
        return self.running.measured_at

    @measured_at.setter
    def measured_at(self, moment: float | None) -> None:
        self.running.measured_at = moment

    def rests(self, image: NDArray[np.uint8], stream_s: float) -> bool:
        return self._openness.rests(image, stream_s)

    def is_due(self, index: int, arrived_at: float, rests: bool) -> bool:
        if not self._has_norms or rests:
            return False
        every, period = self._options.norm_every, self._options.period_s
        if every is not None:
            opened = self._openness.value - self._measured_open > OPENED
            return opened or self._openness.looks_new or index % every == 0
        predicted = self._durations.predicted()
        if predicted is None or period is None or self._clock.now() + predicted <= arrived_at + period:
            return True
        self._durations.refuse()
        return False

    def has_time_for_two(self, arrived_at: float) -> bool:
        period, predicted = self._options.period_s, self._durations.predicted()
        if period is None:
            return True
        return predicted is not None and self._clock.now() + 2 * predicted <= arrived_at + period

    def took(self, seconds: float) -> None:
        self._durations.add(seconds)

    def inputs(self, measured: bool) -> tuple[FormName, Mapping[str, Tensor]]:
        if measured:
            return "measured", self.anchor
        return "modulated", {"norm_vectors": self.vectors} if self._has_norms else {}

    def asks_again(self, outputs: Mapping[str, Tensor]) -> bool:
        return self._openness.jumps(outputs.get("statistics"))

    def take_in(
        self, outputs: Mapping[str, Tensor], arrived_at: float, again: bool = False
    ) -> Verdict | None:
        """See `ocl_edge_runtime.session.norm_policy.NormPolicy`.

        Renews the vectors by the statistics, where they were measured.
        """
        if not all(math.isfinite(float(tensor.sum())) for tensor in features_among(outputs)):
            return Verdict(Reason.FEATURES_NOT_FINITE)
        if "statistics" not in outputs:
            self._openness.follow(None, arrived_at)
            return None
        statistics, opened = outputs["statistics"].cpu(), self._openness.value
        self._openness.follow(statistics, arrived_at, again)
        limit = self._openness.limit_at(self._options.statistics_limit, opened)
        refusal = why_refused(statistics, self.trained.statistics, limit)
        if refusal is not None:
            self.refused += 1
            self._mix()
            return refusal
        if again or opened - self._measured_open > OPENED:
            self.running.average = None  # of somewhere else, or measured nearly unmixed
        self.running.add(statistics, arrived_at)
        self._current = statistics if self._options.norm_every == 1 else self.running.average
        self._measured_open = opened
        self._mix()
        return None

    def _mix(self) -> None:
        """Never farther open than the pass that measured: its statistics hold for its own mixing."""
        if self._current is not None:
            opening = min(self._measured_open, self._openness.value)
            self.use(self.trained.mixed_with(self._current, self._openness.weight_at(opening)))

    def use_average(self) -> None:
        """Normalise with the running average, mixed as far as the session is open."""
        self._current, self._measured_open = self.running.average, self._openness.value
        self._mix()

    def use(self, mixed: Tensor) -> None:
        """Normalise with these statistics, float32 [2, S], until others are measured."""
        self.mixed = mixed
        self.vectors = self.trained.vectors(mixed)

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        average = self.running.average
        tensors = {"mixed": self.mixed} | ({} if average is None else {"average": average})
        opened, facts = self._openness.export_state()
        facts |= {"measured_at": self.measured_at, "refused_statistics": self.refused}
        return tensors | opened, facts

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        self.use(tensors["mixed"])
        self.running.average = tensors.get("average")
        self._current = None if self._options.norm_every == 1 else self.running.average
        self._openness.import_state(tensors, facts, now_s)
        self._measured_open = self._openness.value
        self.measured_at = moved(facts["measured_at"], facts["saved_at"], now_s)
        self.refused = facts["refused_statistics"]
