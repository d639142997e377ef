"""Whether heads of a fleet may be used: by the guard's own signals on frames, and by mIoU with labels.

The server asks before it publishes, a vehicle before it takes, on its own recent frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.fleet import load_fleet
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FleetError
from ocl_edge.images import read_image
from ocl_edge.method.fleet_heads import FleetHeads, try_head
from ocl_edge.method.guard import violation_of
from ocl_edge.method.head import Head
from ocl_edge.method.verdict import Reason, Signals, Verdict, words_of_guard
from ocl_edge.tensors import without_gradients
from ocl_edge_app.evaluation.corruption import Corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_app.evaluation.protocol import evaluate_stream
from ocl_edge_runtime.session.norm_vectors import NormVectors
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sources.images import find_images

MOST_FRAMES = 64
"""Of those that are given so many are looked at, evenly spread."""

TOLERANCE = 0.5
"""Points of mIoU that a version may be below the one before."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Computes:
    """What runs the network for a judgement: backend and threads."""

    backend: str = "auto"
    threads: int | None = None


def recorded_frames(directory: Path, channels: int) -> list[tuple[str, Image]]:
    """Frames of a directory by their names, at most `MOST_FRAMES` of them.

    Raises:
        UsageError: there are none.
        FrameError: one cannot be read.
    """
    files = find_images(str(directory))
    step = -(-len(files) // MOST_FRAMES)
    return [(file.name, read_image(file, channels)) for file in files[::step]]


def check_heads(bundle: Bundle, frames: Iterable[tuple[str, Image]], computes: Computes) -> list[Signals]:
    """Look at the heads of a version as the guard would, each on the frames that would choose it.

    Args:
        bundle: of a fleet.
        frames: by their names; unlabelled.
        computes: see `Computes`.

    Returns:
        What the guard saw, of every frame.

    Raises:
        FleetError: a head breaks a limit of the guard; it says on which frame.
    """
    options = SessionOptions("norm", backend=computes.backend, threads=computes.threads, opening=1.0)
    with open_session(bundle, options, RealtimeOptions()) as session:
        head = session.weights
        assert isinstance(head, Head)
        fleet = load_fleet(bundle, head.trained)
        assert fleet is not None
        return [_signals(session, head, fleet, name, image) for name, image in frames]


@without_gradients
def _signals(session: Session, head: Head, fleet: FleetHeads, name: str, image: Image) -> Signals:
    norms = session.norms
    if isinstance(norms, NormVectors):
        norms.running.average = None  # each frame for itself
    session.predict(image)
    assert session.seen is not None
    statistics = norms.running.average if isinstance(norms, NormVectors) else None
    signals = try_head(head, fleet.nearest(statistics), session.seen.features)
    head.reset()
    violation = violation_of(signals, session.setup.guard_limits)
    if violation is not None:
        words = words_of_guard(Verdict(Reason.ROLLED_BACK, signals=signals, cause=violation))
        raise FleetError(f"the guard refuses a head of the fleet on {name}: {words}")
    return signals


def compare_versions(
    before: Bundle, after: Bundle, frames: LabelledFrames, space: LabelSpace, computes: Computes
) -> tuple[float, float]:
    """mIoU of two versions on labelled footage, in percent: each adapts to it in realtime mode.

    Raises:
        FleetError: the later one is more than `TOLERANCE` below.
    """
    scores = []
    for bundle in (before, after):
        options = SessionOptions(backend=computes.backend, threads=computes.threads, frame_s=1.0)
        with open_session(bundle, options, RealtimeOptions()) as session:
            scores.append(evaluate_stream(session, frames, space, Corruption()).miou)
    if not scores[1] >= scores[0] - TOLERANCE:
        raise FleetError(
            f"mIoU on the labelled footage falls from {scores[0]:.2f} to {scores[1]:.2f} %, at most "
            f"{TOLERANCE:g} points are allowed"
        )
    return scores[0], scores[1]
