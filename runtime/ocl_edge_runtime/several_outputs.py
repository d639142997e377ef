"""The loop for several outputs of one network: all masks of a frame, then the updates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ocl_edge.errors import FrameError, SourceError
from ocl_edge.timings import mask_latency_ms
from ocl_edge_runtime.loop import RunReport, stop_signal
from ocl_edge_runtime.session.outputs import Outputs
from ocl_edge_runtime.several import Stream, finish, learn, show
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
                seen = show(outputs, streams, frame)
                if seen is not None:
                    result = learn(outputs, streams, seen)
                    progress(f"{mask_latency_ms(result.timings_ms):.0f} ms")
        except SourceError as error:
            failure = error
        finish(outputs, streams, stopped, failure, started)
    reports = {name: stream.report for name, stream in streams.items()}
    if not any(report.ran for report in reports.values()):
        raise FrameError(f"none of the {source.skipped} frames could be used")
    return reports
