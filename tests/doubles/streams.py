"""Results of frames, and a source that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ocl_edge.method.verdict import Reason, Signals, Verdict, Violation
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.sources.base import Source

SIGNALS = Signals(disagreement=0.1, share_gain=0.1, entropy_ratio=1.0, drift=0.25)
LEARNED = Verdict(Reason.ADAPTED, -2.5, SIGNALS)
UNDONE = Verdict(Reason.ROLLED_BACK, -2.0, SIGNALS, cause=Violation.DRIFT)


class SilentSource(Source):
    """Counts what a test says, and gives nothing."""

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


def frame(index: int = 0, side: int = 8, value: int = 100) -> Frame:
    return Frame(np.full((side, side, 3), value, np.uint8), index, f"{index:06d}", 10.0 + index / 10)


def result(
    verdict: Verdict = LEARNED, latency_ms: float = 12.0, late: bool = False, side: int = 8
) -> FrameResult:
    timings = {"preprocess": 2.0, "backbone": latency_ms - 2.0, "step": 5.0}
    mask = np.ones((side, side), np.uint8)
    return FrameResult(mask, verdict, timings, late, opening=0.5, distance=1.25)
