"""Frames, masks and the numbers beside them for the Rerun viewer, on one time line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.errors import MissingExtraError, OutputError
from ocl_edge.masks import Mask
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.timings import mask_latency_ms, update_ms
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.sinks.base import Sink

JPEG_QUALITY = 85
TIME, FRAME = "stream time", "frame"
FLUSH_S = 5.0
"""The end waits so long for a viewer."""

TOLD_ONCE = (Reason.STATISTICS_TOO_FAR, Reason.BLANK, Reason.REPEATED, Reason.FROZEN_BY_GUARD)
"""What becomes an event when it begins, not on each frame."""


class RerunSink(Sink):
    """Logs each camera under its name: ``image``, ``image/classes``, numbers, events.

    Args:
        camera: its name.
        manifest: classes and their colours.
        open_stream: gives the recording, see `into_file` and `into_viewer`.

    Raises:
        MissingExtraError: rerun-sdk is not installed.
        OutputError: the file cannot be written, or there is no viewer.
    """

    def __init__(self, camera: str, manifest: Manifest, open_stream: Callable[[Any], Any]) -> None:
        self._rerun = _import_rerun()
        self._stream = open_stream(self._rerun)
        self._camera = camera
        self._began_at: float | None = None
        self._last = Reason.ADAPTED
        names = [(index, each.name, each.colour) for index, each in enumerate(manifest.classes)]
        self._stream.log(camera, self._rerun.AnnotationContext(names), static=True)

    def emit(self, frame: Frame, mask: Mask) -> None:
        rerun = self._rerun
        self._set_time(frame)
        self._log("image", rerun.Image(frame.image).compress(jpeg_quality=JPEG_QUALITY))
        self._log("image/classes", rerun.SegmentationImage(_at_size_of(frame.image, mask)))

    def told(self, frame: Frame, result: FrameResult) -> None:
        self._set_time(frame)
        numbers = {
            "mask_latency_ms": mask_latency_ms(result.timings_ms),
            "update_ms": update_ms(result.timings_ms) or math.nan,
            "opening": result.opening,
            "distance_from_home": math.nan if result.distance is None else result.distance,
        }
        verdicts = [result.verdict, *([result.background.verdict] if result.background else [])]
        for verdict in verdicts:
            numbers |= _numbers_of(verdict)
            self._event(verdict)
        for name, number in numbers.items():
            if math.isfinite(number):
                self._log(name, self._rerun.Scalars(number))
        if result.late:
            self._log("events", self._rerun.TextLog(f"frame {frame.name}: late", level="WARN"))

    def close(self) -> None:
        """Write what is left; a viewer that does not take it is not waited for long."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            try:
                stream.flush(timeout_sec=FLUSH_S)
            except Exception as error:  # a type of the library's bindings
                raise OutputError(f"rerun did not take everything: {error}") from error
            finally:
                stream.disconnect()

    def _event(self, verdict: Verdict) -> None:
        begins, self._last = verdict.reason is not self._last, verdict.reason
        if verdict.undone or (begins and verdict.reason in TOLD_ONCE):
            level = "WARN" if verdict.undone else "INFO"
            self._log("events", self._rerun.TextLog(str(verdict), level=level))

    def _set_time(self, frame: Frame) -> None:
        if self._began_at is None:
            self._began_at = frame.captured_at
        self._stream.set_time(FRAME, sequence=frame.index)
        self._stream.set_time(TIME, duration=frame.captured_at - self._began_at)

    def _log(self, name: str, content: Any) -> None:
        self._stream.log([self._camera, *name.split("/")], content)


def into_file(path: Path) -> Callable[[Any], Any]:
    """A recording in a new file.

    Raises:
        OutputError: it is there already, or cannot be written.
    """

    def open_stream(rerun: Any) -> Any:
        if path.exists():
            raise OutputError(f"{path} exists; a recording is never written over: name another file")
        stream = rerun.RecordingStream("ocl-edge")
        try:
            stream.save(path)
        except Exception as error:
            raise OutputError(f"cannot write the recording {path}: {error}") from error
        return stream

    return open_stream


def into_viewer(url: str | None) -> Callable[[Any], Any]:
    """A recording in a viewer: one that is open at ``url``, or a new window.

    Raises:
        OutputError: the viewer cannot be started.
    """

    def open_stream(rerun: Any) -> Any:
        stream = rerun.RecordingStream("ocl-edge")
        try:
            if url is None:
                stream.spawn()
            else:
                stream.connect_grpc(url)
        except Exception as error:
            raise OutputError(f"--view rerun: no viewer at {url or 'this machine'}: {error}") from error
        return stream

    return open_stream


def _numbers_of(verdict: Verdict) -> dict[str, float]:
    found = {} if verdict.loss is None else {"loss": verdict.loss}
    return found if verdict.signals is None else {**found, "drift": verdict.signals.drift}


def _at_size_of(image: NDArray[np.uint8], mask: Mask) -> Mask:
    """A mask of another size covers the image."""
    if mask.shape == image.shape[:2]:
        return mask
    rows = np.arange(image.shape[0]) * mask.shape[0] // image.shape[0]
    columns = np.arange(image.shape[1]) * mask.shape[1] // image.shape[1]
    covering: Mask = mask[rows[:, None], columns]
    return covering


def _import_rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise MissingExtraError("rerun-sdk", "rerun", "the Rerun viewer") from error
    rerun.unregister_shutdown()  # at exit it would wait for ever for a viewer that stalls; `close` flushes
    return rerun
