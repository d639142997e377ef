"""Where the time of a frame goes."""

from __future__ import annotations

import time
from dataclasses import dataclass

STAGES = (
    "decode",
    "preprocess",
    "backbone",
    "head",
    "tail",
    "emit",
    "flipped view",
    "loss",
    "backward",
    "step",
    "restore",
    "guard",
)
"""In the order of execution; docs/profiling.md says what each covers."""

MASK_STAGES = ("preprocess", "backbone", "head", "tail")
"""From the decoded frame to its mask: the latency of a frame."""

UPDATE_STAGES = ("flipped view", "loss", "backward", "step", "restore", "guard")


@dataclass(frozen=True)
class Span:
    """One stage of one frame; nanoseconds of `time.perf_counter_ns`."""

    stage: str
    start_ns: int
    end_ns: int

    @property
    def ms(self) -> float:
        return (self.end_ns - self.start_ns) / 1e6


class Stopwatch:
    """Laps of one frame: each `lap` ends a stage that began with the one before."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._last_ns = time.perf_counter_ns()

    def start(self) -> None:
        """Forget the laps; the first stage begins now."""
        self.spans = []
        self._last_ns = time.perf_counter_ns()

    def resume(self) -> None:
        """The next stage begins now; the laps so far stay."""
        self._last_ns = time.perf_counter_ns()

    def lap(self, stage: str) -> None:
        now = time.perf_counter_ns()
        self.spans.append(Span(stage, self._last_ns, now))
        self._last_ns = now

    def timings_ms(self) -> dict[str, float]:
        """Stage -> how long it took, all heads together."""
        found: dict[str, float] = {}
        for span in self.spans:
            found[span.stage] = found.get(span.stage, 0.0) + span.ms
        return found


def mask_latency_ms(timings_ms: dict[str, float]) -> float:
    """Milliseconds from the decoded frame to its mask."""
    return sum(timings_ms.get(stage, 0.0) for stage in MASK_STAGES)


def update_ms(timings_ms: dict[str, float]) -> float:
    """Milliseconds that the adaptation took after the mask was out."""
    return sum(timings_ms.get(stage, 0.0) for stage in UPDATE_STAGES)
