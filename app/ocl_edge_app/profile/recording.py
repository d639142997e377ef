"""What a profile holds: spans of every frame, with adaptation off and on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ocl_edge.timings import MASK_STAGES, STAGES, Span, mask_latency_ms
from ocl_edge_app.profile.waiting import Pace, Punctuality, played_at
from ocl_edge_runtime.statistics import Distribution


@dataclass
class Recording:
    """Every measured frame of one session, in order.

    Attributes:
        frames: spans of each.
        joules: that the machine took during each; empty where nothing tells.
        reasons: what became of the updates -> how often.
        openings: that the frames were seen at, 0 to 1.
        distances: of the frames from home; None before one was measured, and where nothing tells.
    """

    frames: list[list[Span]] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    openings: list[float] = field(default_factory=list)
    distances: list[float | None] = field(default_factory=list)

    def totals_ms(self) -> list[float]:
        """Whole frame, decoding included."""
        return [sum(span.ms for span in spans) for spans in self.frames]

    def latencies_ms(self) -> list[float]:
        """From the decoded frame to its mask."""
        return [mask_latency_ms({span.stage: span.ms for span in spans}) for spans in self.frames]

    def stages(self) -> dict[str, Distribution]:
        """Distribution of every stage that occurred, in the order of execution."""
        values: dict[str, list[float]] = {}
        for spans in self.frames:
            for span in spans:
                values.setdefault(span.stage, []).append(span.ms)
        return {stage: Distribution.of(values[stage]) for stage in STAGES if stage in values}

    def means(self) -> dict[str, float]:
        """Milliseconds of every stage over all frames: one that only some have counts as 0 in the others."""
        return {stage: d.mean * d.count / len(self.frames) for stage, d in self.stages().items()}

    @property
    def jitter(self) -> float:
        """p99 over p50 of the time to the mask."""
        latency = Distribution.of(self.latencies_ms())
        return latency.p99 / latency.p50

    @property
    def distance(self) -> float | None:
        """Mean distance from home; None where nothing tells."""
        known = [distance for distance in self.distances if distance is not None]
        return float(np.mean(known)) if known else None

    @property
    def joules_a_frame(self) -> float | None:
        """Mean; None where nothing tells."""
        return float(np.mean(self.joules)) if self.joules else None

    def punctuality(self, pace: Pace) -> Punctuality:
        """How many masks would be late, and how many frames passed over, where frames arrive so."""
        return played_at(pace, self.latencies_ms(), self.totals_ms())

    def as_dict(self) -> dict[str, Any]:
        return {
            "frame_ms": Distribution.of(self.totals_ms()).as_dict(),
            "latency_ms": Distribution.of(self.latencies_ms()).as_dict(),
            "jitter": self.jitter,
            "stages_ms": {stage: d.as_dict() for stage, d in self.stages().items()},
            "joules_a_frame": self.joules_a_frame,
            "updates": dict(self.reasons),
            "opening": float(np.mean(self.openings)),
            "distance": self.distance,
        }


@dataclass(frozen=True)
class Profile:
    """Two recordings over the same frames, interleaved, and the memory they took.

    Attributes:
        off: frozen network, single view.
        on: with adaptation.
        peak_before_mib: peak resident memory before the first frame.
        peak_off_mib: after the first frozen frame.
        peak_on_mib: at the end, both sessions loaded.
    """

    off: Recording
    on: Recording
    peak_before_mib: float
    peak_off_mib: float
    peak_on_mib: float

    def recordings(self) -> Mapping[str, Recording]:
        """By the names that tables give them."""
        return {"adaptation off": self.off, "adaptation on": self.on}

    def latency_ratio(self) -> Distribution:
        """Mask latency on / off, frame by frame."""
        return _ratio(self.on.latencies_ms(), self.off.latencies_ms())

    def frame_ratio(self) -> Distribution:
        """Whole-frame time on / off, frame by frame."""
        return _ratio(self.on.totals_ms(), self.off.totals_ms())

    def dominant(self) -> tuple[str, float]:
        """The stage with most of the time to the mask with adaptation on, and its share, 0 to 1."""
        means = {stage: ms for stage, ms in self.on.means().items() if stage in MASK_STAGES}
        stage = max(means, key=means.__getitem__)
        return stage, means[stage] / sum(means.values())

    def as_dict(self) -> dict[str, Any]:
        return {
            "frames": len(self.on.frames),
            "off": self.off.as_dict(),
            "on": self.on.as_dict(),
            "latency_ratio": self.latency_ratio().as_dict(),
            "frame_ratio": self.frame_ratio().as_dict(),
            "peak_memory_mib": {
                "before": self.peak_before_mib,
                "frozen": self.peak_off_mib,
                "both": self.peak_on_mib,
            },
        }

    def trace(self) -> dict[str, Any]:
        """Chrome trace events (open in Perfetto or chrome://tracing): one row for off, one for on."""
        events: list[dict[str, Any]] = []
        for row, (name, recording) in enumerate(self.recordings().items()):
            events.append({"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": name}})
            for index, spans in enumerate(recording.frames):
                events.extend(_event(span, row, index) for span in spans)
        return {"traceEvents": events, "displayTimeUnit": "ms"}


def _ratio(on: list[float], off: list[float]) -> Distribution:
    return Distribution.of([float(ratio) for ratio in np.array(on) / np.array(off)])


def _event(span: Span, row: int, frame: int) -> dict[str, Any]:
    return {
        "name": span.stage,
        "ph": "X",
        "pid": 1,
        "tid": row,
        "ts": span.start_ns / 1e3,
        "dur": (span.end_ns - span.start_ns) / 1e3,
        "args": {"frame": frame},
    }
