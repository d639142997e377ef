"""Measures two sessions over the same frames, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from ocl_edge.masks import Mask
from ocl_edge.timings import Span, Stopwatch
from ocl_edge_app.profile.energy import Meter
from ocl_edge_app.profile.recording import Profile, Recording
from ocl_edge_runtime.memory import peak_mib
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sinks import Sink


def run_profile(
    off: Session,
    on: Session,
    frames: Iterable[Frame],
    sinks: tuple[Sink, ...] = (),
    warmup: int = 0,
    on_frame: Callable[[], None] = lambda: None,
    meter: Meter | None = None,
) -> Profile:
    """Run both sessions over the same frames, alternating which goes first.

    The first ``warmup`` frames are run and not recorded.

    Args:
        off: without adaptation.
        on: with it.
        frames: to run.
        sinks: given every mask.
        warmup: see above.
        on_frame: called after each.
        meter: of the machine's energy.
    """
    recordings = Recording(), Recording()
    before = peak_mib()
    frozen = before
    for index, frame in enumerate(frames):
        first = index % 2
        for which in (first, 1 - first) if index else (0, 1):
            recording = recordings[which] if index >= warmup else Recording()
            _measure((off, on)[which], frame, sinks, meter, recording)
            if index == 0 and which == 0:
                frozen = peak_mib()
        on_frame()
    return Profile(*recordings, before, frozen, peak_mib())


def _measure(
    session: Session, frame: Frame, sinks: tuple[Sink, ...], meter: Meter | None, recording: Recording
) -> None:
    def emit(mask: Mask) -> None:
        for sink in sinks:
            sink.emit(frame, mask)

    begun = meter.joules() if meter else 0.0
    result = session.step(frame.image, emit=emit)
    if meter:
        recording.joules.append(meter.joules() - begun)
    recording.frames.append(_with_decode(session.watch, frame.decode_ms))
    recording.openings.append(result.opening)
    recording.distances.append(result.distance)
    recording.reasons[result.verdict.reason.value] += 1


def _with_decode(watch: Stopwatch, decode_ms: float) -> list[Span]:
    start = watch.spans[0].start_ns
    decode = [Span("decode", start - round(decode_ms * 1e6), start)] if decode_ms else []
    return [*decode, *watch.spans]


def resized(frames: Iterable[Frame], size: tuple[int, int] | None) -> Iterator[Frame]:
    """Frames at a camera's height and width, as if it had taken them; None leaves them as they are."""
    for frame in frames:
        if size is None or frame.image.shape[:2] == size:
            yield frame
            continue
        image = Image.fromarray(frame.image).resize(size[::-1], Image.Resampling.BILINEAR)
        yield replace(frame, image=np.array(image))
