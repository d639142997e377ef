"""What happened when: mask latency and update of every frame, and what the guard decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from ocl_edge_app.report.plots.svg import Axes, Key, Scale, drawing, empty_drawing, tag, text

LANE_PX = 16


@dataclass(frozen=True)
class Moment:
    """One frame, or several in a row together.

    Attributes:
        frames: how many.
        latency_ms: mean, from the decoded frame to its mask.
        worst_ms: the largest latency.
        update_ms: mean over all the frames of the time after the mask.
        kept: updates that were applied.
        undone: updates that the guard undid.
        late: masks that missed the deadline.
    """

    frames: int
    latency_ms: float
    worst_ms: float
    update_ms: float
    kept: int = 0
    undone: int = 0
    late: int = 0

    def __add__(self, other: Moment) -> Moment:
        """Both together."""
        frames = self.frames + other.frames
        return Moment(
            frames,
            (self.frames * self.latency_ms + other.frames * other.latency_ms) / frames,
            max(self.worst_ms, other.worst_ms),
            (self.frames * self.update_ms + other.frames * other.update_ms) / frames,
            self.kept + other.kept,
            self.undone + other.undone,
            self.late + other.late,
        )


LANES: tuple[tuple[str, str, Callable[[Moment], int]], ...] = (
    ("kept", "kept", lambda moment: moment.kept),
    ("undone", "undone", lambda moment: moment.undone),
    ("late", "late", lambda moment: moment.late),
)


@dataclass(frozen=True)
class Timeline:
    """Latency with the update stacked on it, and lanes of marks below.

    Attributes:
        title: see `Plot`.
        moments: in order.
        deadline_ms: drawn across, None where nobody waits.
    """

    title: str
    moments: Sequence[Moment]
    deadline_ms: float | None = None

    def legend(self) -> Sequence[Key]:
        names = {"kept": "update kept", "undone": "update undone by the guard", "late": "mask late"}
        keys = [Key("to the mask", "mask2")]
        if any(moment.update_ms for moment in self.moments):
            keys.append(Key("update, after the mask", "update2"))
        if self._merged:
            keys.append(Key("slowest mask of the group", "worst", "line"))
        if self.deadline_ms:
            keys.append(Key("time to the next frame", "deadline", "dashed"))
        return keys + [Key(names[lane], colour, "tick") for lane, colour, _ in self._lanes()]

    @property
    def _merged(self) -> bool:
        return any(moment.frames > 1 for moment in self.moments)

    def _lanes(self) -> list[tuple[str, str, Callable[[Moment], int]]]:
        return [lane for lane in LANES if any(lane[2](moment) for moment in self.moments)]

    def svg(self, width: int) -> Markup:
        if not self.moments:
            return empty_drawing(self.title, width, "no frames")
        lanes = self._lanes()
        plot_end = 240 if width > 500 else 190
        lanes_px = LANE_PX * len(lanes)
        starts = np.cumsum([0, *(moment.frames for moment in self.moments)]).tolist()
        x = Scale(0, starts[-1], 50, width - 8)
        y = Scale.over([0.0, self._highest()], plot_end, 24, from_zero=True, margin=0.04)
        axes, places = Axes(x, y), [(x(a), x(b)) for a, b in pairwise(starts)]
        parts = [
            axes.drawn("frame", "ms", whole_x=True, below_px=lanes_px),
            self._area(axes, places, lambda m: m.latency_ms + m.update_ms, "update2"),
            self._area(axes, places, lambda m: m.latency_ms, "mask2"),
        ]
        if self._merged:
            parts.append(self._worst(axes, places))
        if self.deadline_ms and self.deadline_ms <= y.high:
            at = y(self.deadline_ms)
            across = {"x1": x.start, "x2": x.end, "y1": at, "y2": at}
            parts.append(tag("line", **across, stroke_dasharray="6 4", class_="line deadline"))
        parts += [
            self._lane(name, colour, of, places, plot_end + LANE_PX * index)
            for index, (name, colour, of) in enumerate(lanes)
        ]
        return drawing(self.title, width, plot_end + lanes_px + 40, *parts)

    def _highest(self) -> float:
        """Top of the axis: a few outliers far above the rest are cut off, and told in the caption."""
        sums = [moment.latency_ms + moment.update_ms for moment in self.moments]
        highest = max([*sums, *(moment.worst_ms for moment in self.moments)])
        usual = max(float(np.percentile(sums, 98)), self.deadline_ms or 0.0)
        return min(highest, 2.5 * usual) or 1.0

    def caption(self) -> str:
        """What was put together or cut off."""
        most = max((moment.frames for moment in self.moments), default=1)
        words = f"Each column stands for up to {most} frames in a row." if most > 1 else "A column a frame."
        top = self._highest() if self.moments else 0.0
        cut = [m.worst_ms for m in self.moments if max(m.worst_ms, m.latency_ms + m.update_ms) > top * 1.001]
        if cut:
            words += f" {len(cut)} higher than the plot; the slowest mask took {max(cut):,.0f} ms."
        return words

    def _area(
        self,
        axes: Axes,
        places: Sequence[tuple[float, float]],
        value: Callable[[Moment], float],
        colour: str,
    ) -> Markup:
        steps = "".join(
            f"V{axes.y(min(value(m), axes.y.high)):.1f}H{right:.1f}"
            for m, (_, right) in zip(self.moments, places, strict=True)
        )
        outline = f"M{axes.x.start:.1f},{axes.y.start:.1f}{steps}V{axes.y.start:.1f}Z"
        return tag("path", d=outline, class_=f"area {colour}")

    def _worst(self, axes: Axes, places: Sequence[tuple[float, float]]) -> Markup:
        steps = "".join(
            f"{'L' if index else 'M'}{left:.1f},{axes.y(min(m.worst_ms, axes.y.high)):.1f}H{right:.1f}"
            for index, (m, (left, right)) in enumerate(zip(self.moments, places, strict=True))
        )
        return tag("path", d=steps, class_="line worst")

    def _lane(
        self,
        name: str,
        colour: str,
        of: Callable[[Moment], int],
        places: Sequence[tuple[float, float]],
        top: float,
    ) -> Markup:
        """Marks as high as the share of the moment's frames that they are about."""
        marks, bottom = [], top + LANE_PX - 1
        for moment, (left, right) in zip(self.moments, places, strict=True):
            if of(moment):
                tall = (LANE_PX - 4) * max(0.25, of(moment) / moment.frames)
                wide = min(6.0, max(0.8, 0.7 * (right - left)))
                middle = (left + right) / 2
                corner = f"M{middle - wide / 2:.1f},{bottom:.1f}"
                marks.append(f"{corner}v{-tall:.1f}h{wide:.1f}v{tall:.1f}z")
        return text(0, bottom - 2, name) + tag("path", d="".join(marks), class_=f"area {colour}")
