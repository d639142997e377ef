"""The loop: source -> mask -> sinks -> update."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

from ocl_edge.errors import FrameError, SourceError
from ocl_edge.timings import mask_latency_ms, update_ms
from ocl_edge_runtime.session.engine import Engine
from ocl_edge_runtime.session.frames import IN_BACKGROUND, Frame, FrameResult
from ocl_edge_runtime.session.updates import Outcome
from ocl_edge_runtime.sinks import Sink
from ocl_edge_runtime.sources import Source
from ocl_edge_runtime.statistics import Distribution

RECENT_FRAMES = 10_000
"""A report holds times and losses of at least so many of the last frames: a run may last for weeks."""


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        frames: how many masks were emitted.
        skipped: frames that could not be read or used.
        dropped: frames that arrived while the engine was busy, and were passed over.
        late: masks that missed the deadline.
        updates: updates that were applied.
        stopped: whether a signal ended the run early.
        source_failure: how a live source failed, None where it did not.
        reasons: why updates were or were not applied, without details -> how often.
        latency_ms: from the decoded frame to its mask, per recent frame (`RECENT_FRAMES`).
        update_ms: time of the update, per recent frame that was adapted on.
        losses: the loss before each recent update; may hold values that are not finite.
        seconds: wall-clock time of the whole loop, decoding and sinks included.
    """

    frames: int = 0
    skipped: int = 0
    dropped: int = 0
    late: int = 0
    updates: int = 0
    stopped: bool = False
    source_failure: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    latency_ms: list[float] = field(default_factory=list)
    update_ms: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def mean_loss(self) -> float:
        """Over the losses that are finite; NaN where none is."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return sum(finite) / len(finite) if finite else math.nan

    @property
    def late_share(self) -> float:
        """Of the masks, those that missed the deadline, 0 to 1."""
        return self.late / self.frames if self.frames else 0.0

    def add(self, result: FrameResult) -> None:
        self.frames += 1
        self.late += result.late
        _append(self.latency_ms, mask_latency_ms(result.timings_ms))
        if result.reason != IN_BACKGROUND:
            self._count(result.reason, result.loss, result.adapted, result.timings_ms)
        if result.background is not None:
            self.add_outcome(result.background)

    def add_outcome(self, outcome: Outcome) -> None:
        """Add a background update that was taken in."""
        update = outcome.update
        self._count(update.reason, update.loss, update.applied, outcome.timings_ms)

    def _count(self, reason: str, loss: float | None, applied: bool, timings_ms: dict[str, float]) -> None:
        kind = reason.partition(":")[0]
        self.reasons[kind] = self.reasons.get(kind, 0) + 1
        if loss is not None:
            _append(self.losses, loss)
        if applied:
            self.updates += 1
            _append(self.update_ms, update_ms(timings_ms))

    def as_dict(self) -> dict[str, object]:
        return {
            "frames": self.frames,
            "skipped": self.skipped,
            "dropped": self.dropped,
            "late": self.late,
            "late_share": self.late_share,
            "updates": self.updates,
            "stopped": self.stopped,
            "source_failure": self.source_failure,
            "seconds": self.seconds,
            "mean_loss": self.mean_loss,
            "reasons": self.reasons,
            "latency_ms": Distribution.of(self.latency_ms).as_dict() if self.latency_ms else None,
            "update_ms": Distribution.of(self.update_ms).as_dict() if self.update_ms else None,
            "losses": self.losses,
        }


def _append(recent: list[float], value: float) -> None:
    recent.append(value)
    if len(recent) == 2 * RECENT_FRAMES:
        del recent[:RECENT_FRAMES]


def run_stream(
    engine: Engine,
    source: Source,
    sinks: Sequence[Sink],
    on_frame: Callable[[Frame, FrameResult], None] = lambda *_: None,
    deadline_s: float | None = None,
    on_settled: Callable[[Outcome], None] = lambda _: None,
) -> RunReport:
    """Run every frame of a source through an engine.

    A frame's mask reaches all sinks before the engine updates on it. SIGINT and SIGTERM
    end the run after the current frame. A mask is late if it is emitted more than
    ``deadline_s`` after its frame arrived, on the clock of `time.monotonic`. A live source
    that fails ends the run like its last frame would; the report says so. A background update
    that is still in flight at the end is waited for, and told to ``on_settled``.

    Raises:
        FrameError: no frame of the source could be used.
        OutputError: a sink cannot write.
    """
    report = RunReport()
    start = time.perf_counter()
    with stop_signal(source.stop) as stopped:
        try:
            for frame in source:
                try:
                    mask = engine.predict(frame.image, frame.captured_at)
                except FrameError as error:
                    source.skip(frame.name, str(error))
                    continue
                for sink in sinks:
                    sink.emit(frame, mask)
                engine.watch.lap("emit")
                late = deadline_s is not None and time.monotonic() > frame.captured_at + deadline_s
                result = replace(engine.result(mask, engine.adapt()), late=late)
                result.timings_ms["decode"] = frame.decode_ms
                report.add(result)
                on_frame(frame, result)
        except SourceError as error:
            report.source_failure = str(error)
        last = engine.settle()
        if last is not None:
            report.add_outcome(last)
            on_settled(last)
        report.stopped = stopped()
    report.seconds = time.perf_counter() - start
    report.skipped, report.dropped = source.skipped, source.dropped
    if not report.frames and not report.stopped and not report.source_failure:
        raise FrameError(f"none of the {source.skipped} frames could be used")
    return report


@contextmanager
def stop_signal(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Call ``stop`` at the first SIGINT or SIGTERM; a second one acts as usual.

    Gives a function that tells whether one has come.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def remember(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        stop()
        for each, handler in previous.items():
            signal.signal(each, handler)

    for number in previous:
        signal.signal(number, remember)
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
