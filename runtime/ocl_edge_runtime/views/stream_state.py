"""The numbers of a stream, as its frames tell them: for whoever shows the run while it goes on."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.timings import mask_latency_ms
from ocl_edge_runtime.session.frames import FrameResult, Landed
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sources.base import Source

LATENCY_BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
"""Of the latency histogram's buckets, seconds."""


class StreamState:
    """Counters and last values. The frame loop writes them, without a lock; anybody may read them.

    A reader may find a frame that is half counted, which the next reading mends.

    Args:
        camera: name of the stream.
        source: whose frames they are.
        sinks: that get its masks.
        output: of the network that gives them; empty where it has one.

    Attributes:
        frames: masks that were emitted.
        late: of these, those that missed the deadline.
        updates: that were applied.
        rollbacks: updates that the guard undid.
        reasons: short name of what became of the updates -> how often.
        latencies: masks in each bucket of `LATENCY_BOUNDS_S`; the last one is beyond.
        latency_s: of all masks together, seconds.
        last_latency_s: of the last one.
        opening: of the last frame.
        distance: of the last frame that was measured, from home; NaN before.
        drift: relative distance of the weights from the trained ones, as the guard saw it last; NaN before.
        statistics_distance: of the last frame whose statistics were refused; NaN before.
        loss: before the last update; NaN before.
    """

    def __init__(self, camera: str, source: Source, sinks: Sequence[Sink] = (), output: str = "") -> None:
        self.camera, self.output = camera, output
        self.frames = self.late = self.updates = self.rollbacks = 0
        self.reasons: dict[str, int] = {}
        self.latencies = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.latency_s = self.last_latency_s = 0.0
        self.opening = 0.0
        self.distance = self.drift = self.statistics_distance = self.loss = math.nan
        self.last_reason = ""
        self._source, self._sinks = source, sinks

    @property
    def dropped(self) -> int:
        """Frames that arrived while the session was busy."""
        return self._source.dropped

    @property
    def skipped(self) -> int:
        """Frames that could not be read or used."""
        return self._source.skipped

    @property
    def left_out(self) -> int:
        """Masks that a sink was too slow to take."""
        return sum(sink.left_out for sink in self._sinks)

    def add(self, result: FrameResult) -> None:
        """Count a frame."""
        latency_s = mask_latency_ms(result.timings_ms) / 1000
        self.latencies[bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1
        self.latency_s += latency_s
        self.last_latency_s = latency_s
        self.late += result.late
        self.opening = result.opening
        self.distance = math.nan if result.distance is None else result.distance
        if result.verdict.reason is not Reason.IN_BACKGROUND:
            self._count(result.verdict)
        if result.background is not None:
            self.add_landed(result.background)
        self.frames += 1

    def add_landed(self, landed: Landed) -> None:
        """Count a background update that was taken in."""
        self._count(landed.verdict)

    def _count(self, verdict: Verdict) -> None:
        name = verdict.reason.name.lower()
        self.reasons[name] = self.reasons.get(name, 0) + 1
        self.last_reason = str(verdict)
        self.updates += verdict.applied
        self.rollbacks += verdict.undone
        if verdict.loss is not None:
            self.loss = verdict.loss
        if verdict.distance is not None:
            self.statistics_distance = verdict.distance
        if verdict.signals is not None:
            self.drift = verdict.signals.drift
