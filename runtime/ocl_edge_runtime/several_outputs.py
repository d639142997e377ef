"""The loop for several outputs of one network: all masks of a frame, then the updates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ocl_edge.errors import FrameError, SourceError
from ocl_edge.masks import Mask
from ocl_edge.timings import mask_latency_ms
from ocl_edge_runtime.loop import RunReport, stop_signal, tell
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.session.outputs import Outputs
from ocl_edge_runtime.several import Stream
from ocl_edge_runtime.sources import Source


def run_outputs(
    outputs: Outputs,
    source: Source,
    streams: Mapping[str, Stream],
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, RunReport]:
    """Run every frame of a source through all outputs; see `run_stream`.

    Every mask of a frame reaches its sinks before any head updates on it. The times of a frame are those of
    all outputs together.

    Args:
        outputs: open sessions.
        source: of the frames.
        streams: sinks, deadline and records of each output, by the same names.
        progress: told the time of each frame's masks, in words.

    Raises:
        FrameError: no frame of the source could be used.
        OutputError: a sink cannot write.
    """
    started = time.perf_counter()
    failure = None
    with stop_signal(source.stop) as stopped:
        try:
            for frame in source:
                ms = _run_frame(outputs, source, streams, frame)
                progress(f"{ms:.0f} ms")
        except SourceError as error:
            failure = str(error)
        for name, stream in streams.items():
            stream.report.finish(outputs[name], source, stream.sinks, stopped, stream.on_settled)
            stream.report.source_failure = failure
            stream.report.seconds = time.perf_counter() - started
    reports = {name: stream.report for name, stream in streams.items()}
    if not any(report.frames or report.stopped for report in reports.values()) and failure is None:
        raise FrameError(f"none of the {source.skipped} frames could be used")
    return reports


def _run_frame(outputs: Outputs, source: Source, streams: Mapping[str, Stream], frame: Frame) -> float:
    """Milliseconds until its masks were there; 0 where it cannot be used."""
    emitted_at = latency_ms = 0.0

    def emit(masks: Mapping[str, Mask]) -> None:
        nonlocal emitted_at
        for name, mask in masks.items():
            for sink in streams[name].sinks:
                sink.emit(frame, mask)
        emitted_at = time.monotonic()

    try:
        results = outputs.step(frame.image, frame.captured_at, emit, frame.stream_s)
    except FrameError as error:
        source.skip(frame.name, str(error))
        return latency_ms
    for name, result in results.items():
        stream = streams[name]
        told = tell(stream.sinks, frame, result, emitted_at, stream.deadline_s)
        stream.report.add(told)
        stream.on_frame(frame, told)
        latency_ms = mask_latency_ms(told.timings_ms)
    return latency_ms
