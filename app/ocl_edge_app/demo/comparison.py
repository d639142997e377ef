"""The drive, frame by frame, through the frozen and the adapting network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ocl_edge.bundle.reading import Bundle
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge.timings import mask_latency_ms, update_ms
from ocl_edge_app.demo.world.classes import CLASSES
from ocl_edge_app.demo.world.drive import FRAMES_PER_S, DriveFrame
from ocl_edge_app.report.what_ran import settings_of
from ocl_edge_runtime.session.frames import FrameResult
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.statistics import Distribution

BACKEND = "onnxruntime"
"""On the processor, the same way everywhere, so that the numbers can be compared."""
THREADS = 1
WARM_UP_RUNS = 3
NOTICEABLE = 0.5
"""Points of mIoU below which a difference is called none."""


@dataclass
class Score:
    """What one network did on the drive.

    Attributes:
        results: of every frame: mask, times, and what came of the update.
        frame_miou: of every frame, 0 to 1.
        by_stretch: confusion in each stretch.
    """

    results: list[FrameResult] = field(default_factory=list)
    frame_miou: list[float] = field(default_factory=list)
    by_stretch: dict[str, ConfusionMatrix] = field(default_factory=dict)

    def add(self, frame: DriveFrame, result: FrameResult) -> None:
        alone = ConfusionMatrix(len(CLASSES))
        alone.add(result.mask, frame.labels)
        self.by_stretch.setdefault(frame.stretch, ConfusionMatrix(len(CLASSES))).counts += alone.counts
        self.frame_miou.append(alone.miou())
        self.results.append(result)

    @property
    def whole(self) -> ConfusionMatrix:
        """Confusion over the whole drive."""
        matrix = ConfusionMatrix(len(CLASSES))
        for stretch in self.by_stretch.values():
            matrix.counts += stretch.counts
        return matrix

    @property
    def latency_ms(self) -> list[float]:
        """From image to mask, of every frame."""
        return [mask_latency_ms(result.timings_ms) for result in self.results]

    @property
    def update_ms(self) -> list[float]:
        """After the mask, of every frame; 0 where there was no update."""
        return [update_ms(result.timings_ms) for result in self.results]


@dataclass
class Comparison:
    """The same frames through both networks.

    Attributes:
        frames: of the drive.
        frozen: the network as it was trained.
        adapted: realtime mode, every mask before the update on its frame.
        facts: of the adapting session: bundle, method, backend, settings.
        settings: the same in words, for the report.
    """

    frames: Sequence[DriveFrame]
    frozen: Score = field(default_factory=Score)
    adapted: Score = field(default_factory=Score)
    facts: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, Score]:
        return {"frozen": self.frozen, "adapted": self.adapted}

    @property
    def outcomes(self) -> dict[str, int]:
        """What came of each frame's update -> how often; details of one frame are left out."""
        return dict(Counter(result.verdict.reason.value for result in self.adapted.results))

    def gains(self) -> dict[str, float]:
        """Points of mIoU that adaptation adds in each stretch."""
        return {
            name: 100 * (self.adapted.by_stretch[name].miou() - matrix.miou())
            for name, matrix in self.frozen.by_stretch.items()
        }

    def in_time(self) -> int:
        """Frames whose mask and update together fit between two frames of the camera."""
        whole = np.add(self.adapted.latency_ms, self.adapted.update_ms)
        return int((whole <= 1000 / FRAMES_PER_S).sum())

    def latency_ratio(self) -> float:
        """Median over the frames of adapted over frozen time from image to mask."""
        return float(np.median(np.divide(self.adapted.latency_ms, self.frozen.latency_ms)))

    def as_dict(self) -> dict[str, Any]:
        """Every number, for JSON: mIoU and IoU in percent, gains in points, times in milliseconds."""
        updates = [ms for ms in self.adapted.update_ms if ms]
        miou = {name: 100 * score.whole.miou() for name, score in self.scores.items()}
        return {
            "frames": len(self.frames),
            "whole": {**miou, "gain": miou["adapted"] - miou["frozen"]},
            "stretches": {
                stretch: {
                    **{name: 100 * score.by_stretch[stretch].miou() for name, score in self.scores.items()},
                    "gain": gain,
                }
                for stretch, gain in self.gains().items()
            },
            "class_iou": {
                name: dict(zip(CLASSES, (100 * score.whole.iou()).tolist(), strict=True))
                for name, score in self.scores.items()
            },
            "latency_ms": {
                name: Distribution.of(score.latency_ms).as_dict() for name, score in self.scores.items()
            },
            "latency_ratio": self.latency_ratio(),
            "update_ms": Distribution.of(updates).as_dict() if updates else None,
            "updates": self.outcomes,
            "in_time": self.in_time(),
            **self.facts,
        }


def compare(
    bundle: Bundle, frames: Sequence[DriveFrame], on_frame: Callable[[str], None] = lambda _: None
) -> Comparison:
    """Run the drive frozen and in realtime mode, frames interleaved.

    Every frame is given the time for its update, however slow the machine: the same drive
    gives the same masks. Stream time is the drive's own.

    Args:
        bundle: of the demo's network.
        frames: of the drive, in order.
        on_frame: called after each frame with a few words.
    """
    comparison, options = Comparison(frames), SessionOptions(backend=BACKEND, threads=THREADS)
    with (
        open_session(bundle, replace(options, method="frozen")) as frozen,
        open_session(bundle, options, RealtimeOptions()) as adapting,
    ):
        for _ in range(WARM_UP_RUNS):
            frozen.step(frames[0].image)
        adapting.warm_up()
        for frame in frames:
            comparison.frozen.add(frame, frozen.step(frame.image))
            comparison.adapted.add(frame, adapting.step(frame.image, frame.index / FRAMES_PER_S))
            pair = (100 * score.frame_miou[-1] for score in comparison.scores.values())
            on_frame("{}: mIoU {:.0f} frozen, {:.0f} adapted".format(frame.stretch, *pair))
        comparison.facts = {"mode": "realtime", **adapting.facts()}
        comparison.settings = settings_of(adapting)
    return comparison


def gains_in_words(gains: dict[str, float]) -> list[str]:
    """What adaptation does in each stretch, in words; where it does not help they say so."""
    said = {name: f"{name} ({gain:+.1f})" for name, gain in gains.items()}
    better = [said[name] for name, gain in gains.items() if gain >= NOTICEABLE]
    same = [said[name] for name, gain in gains.items() if abs(gain) < NOTICEABLE]
    worse = [said[name] for name, gain in gains.items() if gain <= -NOTICEABLE]
    sentences = [f"Adaptation helps: {', '.join(better)}." if better else "Adaptation helps in no stretch."]
    if same:
        sentences.append(f"It makes no difference: {', '.join(same)}.")
    if worse:
        sentences.append(f"It does not help, it costs accuracy: {', '.join(worse)}.")
    return sentences


def speed_in_words(comparison: Comparison) -> list[str]:
    """What adaptation costs, in words."""
    total, period_ms = len(comparison.frames), 1000 / FRAMES_PER_S
    return [
        f"An adapted mask takes {comparison.latency_ratio():.2f} times as long as a frozen one.",
        f"Mask and update fit into the {period_ms:.0f} ms between two frames on {comparison.in_time()} of "
        f"{total} frames; the demo waits where they do not, a live run would skip the update.",
    ]


def representative(comparison: Comparison) -> int:
    """The frame whose mIoU, frozen and adapted, is closest to that of the whole drive."""
    distances = [
        np.abs(np.array(score.frame_miou) - score.whole.miou()) for score in comparison.scores.values()
    ]
    return int(np.sum(distances, axis=0).argmin())
