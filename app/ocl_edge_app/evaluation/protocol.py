"""The online protocol: one pass over a stream, every prediction made before its own update.

With ``stream_fps`` the stream does not wait (after Alfarra et al. 2023, arXiv 2304.04795): frame
k arrives at k / fps seconds. While a method is busy with a frame, mask or update, the
frames that arrive are not adapted on, and are answered with the latest mask that is ready: there,
a busy method still predicts with its latest weights, which one processor cannot. Only the
frames before the first mask get one that is not ready yet, the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import FrameError
from ocl_edge.masks import Mask
from ocl_edge_app.evaluation.corruption import Corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_app.pictures import mask_to_text, shrunk
from ocl_edge_runtime.memory import forget_peak, peak_mib
from ocl_edge_runtime.session.session import Session

EXAMPLES = 4


@dataclass(frozen=True)
class ExampleMask:
    """A mask that is kept for the report: it depends on the whole stream before it, and cannot be made anew.

    Attributes:
        index: of the frame.
        miou: of this frame, percent; None where nothing is labelled.
        mask: base64 of a grey PNG of the network's classes, shrunk (`mask_from_text`).
    """

    index: int
    miou: float | None
    mask: str


@dataclass
class Result:
    """One method on one stream with one seed, one round.

    Attributes:
        frames: how many were scored.
        skipped: how many could not be read.
        answered_late: frames that got an earlier frame's mask because the method was busy.
        miou: percent, over the classes that occur in the labels.
        iou: percent per class, None for a class that never occurs.
        frame_miou: percent of every single frame, in order.
        ms_per_frame: median of `frame_ms`.
        openings: that the frames were seen at, every one that the method worked on, in order; empty where
            the norms are never mixed.
        distances: of those frames from home, likewise.
        frame_ms: mask and update together, decoding and corruption left out, of every frame that
            the method worked on.
        memory_mib: peak resident set size of the process during the pass; with what earlier
            passes of the same process did not give back.
        examples: masks of a few frames, chosen by their place in the stream alone.
    """

    frames: int = 0
    skipped: int = 0
    answered_late: int = 0
    miou: float = float("nan")
    iou: list[float | None] = field(default_factory=list)
    frame_miou: list[float | None] = field(default_factory=list)
    ms_per_frame: float = float("nan")
    frame_ms: list[float] = field(default_factory=list)
    openings: list[float] = field(default_factory=list)
    distances: list[float | None] = field(default_factory=list)
    memory_mib: float = 0.0
    examples: list[ExampleMask] = field(default_factory=list)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Result:
        """What `as_dict` gave, after a way through JSON, which has no word for NaN."""
        examples = [ExampleMask(**example) for example in content.get("examples", [])]
        miou = float("nan") if content["miou"] is None else content["miou"]
        return cls(**{**content, "miou": miou, "examples": examples})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class PassSoFar:
    """How far a pass has come.

    Attributes:
        counts: of the confusion matrix, int64 [classes, classes + 1].
        result: what is known of it.
        next_index: the frame that comes next.
        busy_until: when the method is free again, seconds of stream time.
        ready_at: when its latest mask is ready, likewise.
        latest: that mask, uint8 [H, W].
        earlier: the mask before it.
    """

    counts: NDArray[np.int64]
    result: Result = field(default_factory=Result)
    next_index: int = 0
    busy_until: float = 0.0
    ready_at: float = 0.0
    latest: Mask | None = None
    earlier: Mask | None = None

    def work(
        self, session: Session, image: NDArray[np.uint8], arrival: float, clock: Callable[[], float]
    ) -> Mask:
        """The session's mask of a frame, and then its update."""

        def emit(mask: Mask) -> None:
            self.earlier, self.latest = self.latest, mask
            self.ready_at = arrival + clock() - start

        start = clock()
        stepped = session.step(image, emit=emit)
        took = clock() - start
        if session.norms.openness is not None:
            self.result.openings.append(stepped.opening)
            self.result.distances.append(stepped.distance)
        self.result.frame_ms.append(1000 * took)
        self.busy_until = arrival + took
        return stepped.mask

    def answer(self, arrival: float, shape: tuple[int, ...]) -> Mask:
        """What a frame gets that arrives while the method is busy, resized to it (nearest neighbour)."""
        self.result.answered_late += 1
        mask = self.latest if arrival >= self.ready_at or self.earlier is None else self.earlier
        assert mask is not None
        rows, columns = (np.arange(to) * of // to for to, of in zip(shape, mask.shape, strict=True))
        return mask[np.ix_(rows, columns)]


def evaluate_stream(
    session: Session,
    frames: LabelledFrames,
    space: LabelSpace,
    corruption: Corruption,
    stream_fps: float | None = None,
    on_frame: Callable[[float], None] = lambda _: None,
    on_skip: Callable[[Path, FrameError], None] = lambda _file, _why: None,
    clock: Callable[[], float] = time.perf_counter,
    so_far: PassSoFar | None = None,
    keep: Callable[[PassSoFar], None] = lambda _: None,
    repeat: int = 1,
) -> Result:
    """Score a session on one pass over a stream; the session keeps what it learned.

    Args:
        session: predicts and adapts.
        frames: with labels, in order.
        space: the label classes.
        corruption: applied to every frame.
        stream_fps: the stream does not wait; see above.
        on_frame: called after each frame with the mIoU so far, in percent.
        on_skip: called for each frame that cannot be read, with its file.
        clock: seconds; replaced in tests.
        so_far: where the pass goes on; None: at its start.
        keep: called after each frame with how far the pass has come.
        repeat: every frame comes so many times in a row, at so many times the rate, as from a faster
            camera; every time it is scored.

    Raises:
        UsageError: labels that are unreadable, of another size, or of unknown values.
        FrameError: no frame could be used.
    """
    matrix = space.matrix()
    so_far = so_far or PassSoFar(matrix.counts)
    result, matrix.counts = so_far.result, so_far.counts
    wanted = example_indices(len(frames))
    forget_peak()
    for index in range(so_far.next_index, len(frames)):
        so_far.next_index = index + 1
        try:
            image, labels = frames.read(index)
        except FrameError as error:
            result.skipped += 1
            on_skip(frames.pairs[index][0], error)
            continue
        image = corruption.apply(image, index)
        for time_again in range(repeat):
            moment = index + time_again / repeat
            arrival = moment / stream_fps if stream_fps else so_far.busy_until
            if arrival >= so_far.busy_until:
                mask = so_far.work(session, image, arrival, clock)
            else:
                mask = so_far.answer(arrival, labels.shape)
            matrix.add(mask, labels)
        result.frame_miou.append(_single(space, mask, labels))
        if index in wanted:
            result.examples.append(ExampleMask(index, result.frame_miou[-1], mask_to_text(shrunk(mask))))
        result.frames += 1
        result.memory_mib = max(result.memory_mib, peak_mib())
        on_frame(100 * matrix.miou())
        keep(so_far)
    if not result.frames:
        raise FrameError(f"none of the {len(frames)} frames could be used")
    result.miou = 100 * matrix.miou()
    result.iou = [None if np.isnan(v) else 100 * float(v) for v in matrix.iou()]
    result.ms_per_frame = float(np.median(result.frame_ms))
    return result


def example_indices(frames: int, wanted: int = EXAMPLES) -> list[int]:
    """The frames in the middle of ``wanted`` equal parts of a stream; all of a shorter one."""
    wanted = min(frames, wanted)
    return [(2 * part + 1) * frames // (2 * wanted) for part in range(wanted)]


def _single(space: LabelSpace, mask: Mask, labels: Mask) -> float | None:
    matrix = space.matrix()
    matrix.add(mask, labels)
    miou = 100 * matrix.miou()
    return None if np.isnan(miou) else miou
