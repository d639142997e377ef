"""The loop for several cameras: every mask that is due, then the updates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from ocl_edge.errors import FrameError, SourceError
from ocl_edge.masks import Mask
from ocl_edge_runtime.loop import RunReport, stop_signal, tell
from ocl_edge_runtime.session.cameras import Cameras
from ocl_edge_runtime.session.frames import Frame, FrameResult, Landed
from ocl_edge_runtime.session.outputs import Outputs
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sinks import Sink
from ocl_edge_runtime.sources import Source

POLL_S = 0.05
"""How long the loop sleeps at most before it looks for a signal."""

END_S = 1.0
"""The end of a run waits so long for a reader's thread, which may hang in a driver."""


def _ignore(*_: object) -> None:
    """Tell nobody."""


@dataclass
class Stream:
    """One camera of a run.

    Attributes:
        source: of its frames.
        sinks: of its masks.
        deadline_s: as for `run_stream`.
        on_frame: likewise.
        on_settled: likewise.
        on_failure: told in words, on the reader's thread, that the source failed; the other cameras go on.
    """

    source: Source
    sinks: Sequence[Sink] = ()
    deadline_s: float | None = None
    on_frame: Callable[[Frame, FrameResult], None] = _ignore
    on_settled: Callable[[Landed], None] = _ignore
    on_failure: Callable[[str], None] = _ignore
    report: RunReport = field(default_factory=RunReport)


def run_cameras(cameras: Cameras[Session], streams: Mapping[str, Stream]) -> dict[str, RunReport]:
    """As `run_cameras_of_outputs`, with one output for each camera.

    Args:
        cameras: open sessions.
        streams: what each of them runs, by the same names.
    """
    alone = {name: Outputs({"": session}, ExitStack()) for name, session in cameras.items()}
    reports = run_cameras_of_outputs(
        Cameras(alone, ExitStack()), {name: {"": stream} for name, stream in streams.items()}
    )
    return {name: of_outputs[""] for name, of_outputs in reports.items()}


def run_cameras_of_outputs(
    cameras: Cameras[Outputs], streams: Mapping[str, Mapping[str, Stream]]
) -> dict[str, dict[str, RunReport]]:
    """Run the frames of several sources, each through the session of its camera.

    Of the frames that are there, every mask is made and emitted before any head updates. An update does
    not begin while the frame of another camera waits that came by itself; frames of files wait. The
    cameras take turns in learning first. A source that fails or ends leaves the others running; its report
    says so. SIGINT and SIGTERM end the run after the masks at hand.

    Args:
        cameras: open sessions.
        streams: what each of them runs, by camera and output; those of a camera have one source.

    Raises:
        FrameError: no frame of any source could be used.
        OutputError: a sink cannot write.
    """
    started = time.perf_counter()
    changed = threading.Condition()
    firsts = {name: next(iter(outputs.values())) for name, outputs in streams.items()}
    readers = {name: _Reader(each.source, changed, each.on_failure) for name, each in firsts.items()}

    def stop() -> None:
        for stream in firsts.values():
            stream.source.stop()

    with stop_signal(stop) as stopped:
        try:
            for ready in _rounds(readers, changed):
                _run_round(cameras, streams, readers, ready)
        finally:
            stop()
            for reader in readers.values():
                reader.end()
        for name, outputs in streams.items():
            finish(cameras[name], outputs, stopped, readers[name].failure, started)
    if not any(stream.report.ran for stream in firsts.values()):
        skipped = sum(stream.report.skipped for stream in firsts.values())
        raise FrameError(f"none of the {skipped} frames could be used")
    return {name: {n: s.report for n, s in outputs.items()} for name, outputs in streams.items()}


@dataclass(frozen=True)
class Shown:
    """A frame whose masks are out, by output."""

    frame: Frame
    masks: Mapping[str, Mask]
    emitted_at: float


def _run_round(
    cameras: Cameras[Outputs],
    streams: Mapping[str, Mapping[str, Stream]],
    readers: dict[str, _Reader],
    ready: dict[str, Frame],
) -> None:
    shown = {}
    for name in sorted(ready, key=lambda name: ready[name].captured_at):
        seen = show(cameras[name], streams[name], ready[name])
        if seen is not None:
            shown[name] = seen
    for name in cameras.in_turn(list(shown)):
        others_wait = any(reader.others_wait for each, reader in readers.items() if each != name)
        learn(cameras[name], streams[name], shown[name], others_wait)


def show(outputs: Outputs, streams: Mapping[str, Stream], frame: Frame) -> Shown | None:
    """Predict and emit; None where the frame cannot be used."""
    try:
        masks = outputs.predict(frame.image, frame.captured_at, frame.stream_s)
    except FrameError as error:
        next(iter(streams.values())).source.skip(frame.name, str(error))
        return None
    for name, mask in masks.items():
        for sink in streams[name].sinks:
            sink.emit(frame, mask)
    outputs.lead.watch.lap("emit")
    return Shown(frame, masks, time.monotonic())


def learn(
    outputs: Outputs, streams: Mapping[str, Stream], seen: Shown, others_wait: bool = False
) -> FrameResult:
    """Update on a frame, and tell whoever listens. What the last output gave."""
    for name, result in outputs.result(seen.masks, outputs.adapt(others_wait)).items():
        stream = streams[name]
        told = tell(stream.sinks, seen.frame, result, seen.emitted_at, stream.deadline_s)
        stream.report.add(told)
        stream.on_frame(seen.frame, told)
    return told


def finish(
    outputs: Outputs,
    streams: Mapping[str, Stream],
    stopped: Callable[[], bool],
    failure: SourceError | None,
    started: float,
) -> None:
    """The frames of a camera are over: complete the reports."""
    for name, stream in streams.items():
        stream.report.finish(outputs[name], stream.source, stream.sinks, stopped, stream.on_settled)
        stream.report.source_failure = str(failure) if failure else None
        stream.report.seconds = time.perf_counter() - started


class _Reader:
    """Takes the frames of one source on a thread of its own, one ahead.

    A frame of a file is read while the engine works on the one before. One of a camera is asked for when the
    engine is ready, so that it is the newest.
    """

    def __init__(
        self, source: Source, changed: threading.Condition, on_failure: Callable[[str], None]
    ) -> None:
        self.failure: SourceError | None = None
        self._on_failure = on_failure
        self.ended = False
        self._source = source
        self._waits = source.frame_s is not None
        self._changed = changed
        self._frame: Frame | None = None
        self._wanted = True
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="read a camera", daemon=True)
        self._thread.start()

    @property
    def others_wait(self) -> bool:
        """Whether a frame is there that came by itself."""
        return not self._waits and (self._frame is not None or self._source.waiting)

    def ask(self) -> None:
        """The engine is ready. With the condition held."""
        if self._frame is None and not self._wanted:
            self._wanted = True
            self._changed.notify_all()

    def take(self) -> Frame | None:
        """The frame that is there. With the condition held.

        Raises:
            Exception: what the source failed with, other than a `SourceError`.
        """
        if self._error is not None:
            raise self._error
        frame, self._frame = self._frame, None
        if frame is not None and self._waits:
            self.ask()
        return frame

    def end(self) -> None:
        """Wait for the thread; the source was stopped."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
        self._thread.join(END_S)

    def _read(self) -> None:
        try:
            for frame in self._source:
                with self._changed:
                    self._frame, self._wanted = frame, False
                    self._changed.notify_all()
                    while not self._wanted and not self._source.stopped:
                        self._changed.wait(POLL_S)
        except SourceError as error:
            self.failure = error
            self._on_failure(str(error))
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()


def _rounds(readers: dict[str, _Reader], changed: threading.Condition) -> Iterator[dict[str, Frame]]:
    """The frames that are there, by camera, again and again; waits for the first."""
    while True:
        with changed:
            for reader in readers.values():
                reader.ask()
            taken = {name: reader.take() for name, reader in readers.items()}
            ready = {name: frame for name, frame in taken.items() if frame is not None}
            if not ready:
                if all(reader.ended for reader in readers.values()):
                    return
                changed.wait(POLL_S)
        if ready:
            yield ready
