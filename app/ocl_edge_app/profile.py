"""Where each millisecond of a frame goes, with adaptation on and off."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.timings import STAGES, Span, Stopwatch, mask_latency_ms
from ocl_edge_runtime.memory import peak_mib
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sinks import Sink
from ocl_edge_runtime.statistics import Distribution

DEFAULT_FRAMES = 50
DEFAULT_WARMUP = 5


@dataclass
class Recording:
    """Every measured frame of one session, in order.

    Attributes:
        frames: spans of each.
        openings: that each was seen at (`ocl_edge.method.home`).
        distances: of each from home; None where none is known.
    """

    frames: list[list[Span]] = field(default_factory=list)
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

    def as_dict(self) -> dict[str, Any]:
        return {
            "frame_ms": Distribution.of(self.totals_ms()).as_dict(),
            "latency_ms": Distribution.of(self.latencies_ms()).as_dict(),
            "stages_ms": {stage: d.as_dict() for stage, d in self.stages().items()},
        }


@dataclass(frozen=True)
class Profile:
    """Two recordings over the same frames, interleaved, and the memory they took.

    Attributes:
        off: frozen network, single view.
        on: paper mode.
        peak_before_mib: peak resident memory before the first frame.
        peak_off_mib: after the frozen session's warm-up.
        peak_on_mib: at the end, both sessions loaded.
    """

    off: Recording
    on: Recording
    peak_before_mib: float
    peak_off_mib: float
    peak_on_mib: float

    def latency_ratio(self) -> Distribution:
        """Mask latency on / off, frame by frame."""
        return self._ratio(self.on.latencies_ms(), self.off.latencies_ms())

    def frame_ratio(self) -> Distribution:
        """Whole-frame time on / off, frame by frame."""
        return self._ratio(self.on.totals_ms(), self.off.totals_ms())

    def distance_from_home(self) -> float | None:
        """Mean over the frames; None where nothing tells."""
        known = [distance for distance in self.on.distances if distance is not None]
        return sum(known) / len(known) if known else None

    @staticmethod
    def _ratio(on: list[float], off: list[float]) -> Distribution:
        return Distribution.of([float(r) for r in np.array(on) / np.array(off)])

    def as_dict(self) -> dict[str, Any]:
        return {
            "frames": len(self.on.frames),
            "distance_from_home": self.distance_from_home(),
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
        for row, (name, recording) in enumerate((("adaptation off", self.off), ("adaptation on", self.on))):
            events.append({"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": name}})
            for index, spans in enumerate(recording.frames):
                events.extend(_event(span, row, index) for span in spans)
        return {"traceEvents": events, "displayTimeUnit": "ms"}


def run_profile(
    off: Session,
    on: Session,
    frames: Iterable[Frame],
    sinks: tuple[Sink, ...] = (),
    warmup: int = DEFAULT_WARMUP,
    on_frame: Callable[[], None] = lambda: None,
) -> Profile:
    """Run both sessions over the same frames, alternating which goes first.

    The first ``warmup`` frames are run and not recorded.
    """
    recordings = Recording(), Recording()
    before = peak_mib()
    frozen = before
    for index, frame in enumerate(frames):
        first = index % 2
        for which in (first, 1 - first) if index else (0, 1):
            spans, result = _measure((off, on)[which], frame, sinks)
            if index == 0 and which == 0:
                frozen = peak_mib()
            if index >= warmup:
                recordings[which].frames.append(spans)
                recordings[which].openings.append(result.opening)
                recordings[which].distances.append(result.distance)
        on_frame()
    return Profile(*recordings, before, frozen, peak_mib())


def _measure(session: Session, frame: Frame, sinks: tuple[Sink, ...]) -> tuple[list[Span], FrameResult]:
    def emit(mask: NDArray[np.uint8]) -> None:
        for sink in sinks:
            sink.emit(frame, mask)

    result = session.step(frame.image, emit=emit)
    return _with_decode(session.watch, frame.decode_ms), result


def _with_decode(watch: Stopwatch, decode_ms: float) -> list[Span]:
    start = watch.spans[0].start_ns
    decode = [Span("decode", start - round(decode_ms * 1e6), start)] if decode_ms else []
    return [*decode, *watch.spans]


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
