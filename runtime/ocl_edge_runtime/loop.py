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
from ocl_edge.masks import Mask
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.timings import mask_latency_ms, update_ms
from ocl_edge_runtime.session.frames import Frame, FrameResult, Landed
from ocl_edge_runtime.session.session import Session
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
        dropped: frames that arrived while the session was busy, and were passed over.
        late: masks that missed the deadline.
        left_out: masks that a sink was too slow to take.
        updates: updates that were applied.
        stopped: whether a signal ended the run early.
        source_failure: how a live source failed, None where it did not.
        reasons: what became of the updates -> how often.
        latency_ms: from the decoded frame to its mask, per recent frame (`RECENT_FRAMES`).
        update_ms: time of the update, per recent frame that was adapted on.
        openings: that the recent frames were seen at, 0 to 1.
        distances: of the recent frames from home; NaN where none was measured yet.
        losses: the loss before each recent update; may hold values that are not finite.
        seconds: wall-clock time of the whole loop, decoding and sinks included.
    """

    frames: int = 0
    skipped: int = 0
    dropped: int = 0
    late: int = 0
    left_out: int = 0
    updates: int = 0
    stopped: bool = False
    source_failure: str | None = None
    reasons: dict[Reason, int] = field(default_factory=dict)
    latency_ms: list[float] = field(default_factory=list)
    update_ms: list[float] = field(default_factory=list)
    openings: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ran(self) -> bool:
        """Whether there was a frame, or a reason why there was none."""
        return bool(self.frames or self.stopped or self.source_failure)

    @property
    def mean_loss(self) -> float:
        """Over the losses that are finite; NaN where none is."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return sum(finite) / len(finite) if finite else math.nan

    @property
    def known_distances(self) -> list[float]:
        """`distances` without those that are not finite."""
        return [distance for distance in self.distances if math.isfinite(distance)]

    @property
    def late_share(self) -> float:
        """Of the masks, those that missed the deadline, 0 to 1."""
        return self.late / self.frames if self.frames else 0.0

    def add(self, result: FrameResult) -> None:
        self.frames += 1
        self.late += result.late
        _append(self.openings, result.opening)
        _append(self.distances, math.nan if result.distance is None else result.distance)
        _append(self.latency_ms, mask_latency_ms(result.timings_ms))
        if result.verdict.reason is not Reason.IN_BACKGROUND:
            self._count(result.verdict, result.timings_ms)
        if result.background is not None:
            self.add_landed(result.background)

    def add_landed(self, landed: Landed) -> None:
        """Add a background update that was taken in."""
        self._count(landed.verdict, landed.timings_ms)

    def _count(self, verdict: Verdict, timings_ms: dict[str, float]) -> None:
        self.reasons[verdict.reason] = self.reasons.get(verdict.reason, 0) + 1
        if verdict.loss is not None:
            _append(self.losses, verdict.loss)
        if verdict.applied:
            self.updates += 1
            _append(self.update_ms, update_ms(timings_ms))

    def finish(
        self,
        session: Session,
        source: Source,
        sinks: Sequence[Sink],
        stopped: Callable[[], bool],
        on_settled: Callable[[Landed], None],
    ) -> None:
        """Take in what is still in flight, and what source and sinks have counted; the frames are over."""
        landed = session.settle()
        if landed is not None:
            self.add_landed(landed)
            on_settled(landed)
        self.stopped = stopped()
        self.skipped, self.dropped = source.skipped, source.dropped
        self.left_out = sum(sink.left_out for sink in sinks)

    def told_reasons(self) -> dict[str, int]:
        """`reasons` by their names."""
        return {reason.value: count for reason, count in self.reasons.items()}

    def as_dict(self) -> dict[str, object]:
        return {
            "frames": self.frames,
            "skipped": self.skipped,
            "dropped": self.dropped,
            "late": self.late,
            "late_share": self.late_share,
            "left_out": self.left_out,
            "updates": self.updates,
            "stopped": self.stopped,
            "source_failure": self.source_failure,
            "seconds": self.seconds,
            "mean_loss": self.mean_loss,
            "reasons": self.told_reasons(),
            "latency_ms": Distribution.of(self.latency_ms).as_dict() if self.latency_ms else None,
            "update_ms": Distribution.of(self.update_ms).as_dict() if self.update_ms else None,
            "openings": Distribution.of(self.openings).as_dict() if self.openings else None,
            "distances": Distribution.of(self.known_distances).as_dict() if self.known_distances else None,
            "losses": self.losses,
        }


def _append(recent: list[float], value: float) -> None:
    recent.append(value)
    if len(recent) == 2 * RECENT_FRAMES:
        del recent[:RECENT_FRAMES]


def run_stream(
    session: Session,
    source: Source,
    sinks: Sequence[Sink],
    on_frame: Callable[[Frame, FrameResult], None] = lambda *_: None,
    deadline_s: float | None = None,
    on_settled: Callable[[Landed], None] = lambda _: None,
) -> RunReport:
    """Run every frame of a source through a session.

    A frame's mask reaches all sinks before the session updates on it. SIGINT and SIGTERM
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
            for frame, result in play(session, source, sinks, deadline_s):
                report.add(result)
                on_frame(frame, result)
        except SourceError as error:
            report.source_failure = str(error)
        report.finish(session, source, sinks, stopped, on_settled)
    report.seconds = time.perf_counter() - start
    if not report.ran:
        raise FrameError(f"none of the {source.skipped} frames could be used")
    return report


def play(
    session: Session, source: Source, sinks: Sequence[Sink], deadline_s: float | None = None
) -> Iterator[tuple[Frame, FrameResult]]:
    """The loop: predict, emit, adapt, frame after frame; see `Session.step`."""
    emitted_at = 0.0

    def emit(mask: Mask) -> None:
        nonlocal emitted_at
        for sink in sinks:
            sink.emit(frame, mask)
        emitted_at = time.monotonic()

    for frame in source:
        try:
            result = session.step(frame.image, frame.captured_at, emit, frame.stream_s)
        except FrameError as error:
            source.skip(frame.name, str(error))
            continue
        yield frame, tell(sinks, frame, result, emitted_at, deadline_s)


def tell(
    sinks: Sequence[Sink], frame: Frame, result: FrameResult, emitted_at: float, deadline_s: float | None
) -> FrameResult:
    """What became of a frame, with what the loop knows of it; the sinks hear it, too."""
    late = deadline_s is not None and emitted_at > frame.captured_at + deadline_s
    told = replace(result, late=late, timings_ms={**result.timings_ms, "decode": frame.decode_ms})
    for sink in sinks:
        sink.told(frame, told)
    return told


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
