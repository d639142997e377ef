"""Curves over the frames of a stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ocl_edge_app.report.plots.svg import (
    DASHES,
    Axes,
    Key,
    Point,
    Scale,
    drawing,
    empty_drawing,
    path,
    series_class,
    shortened,
    tag,
    text,
    text_px,
)

MOST_POINTS = 400


@dataclass(frozen=True)
class Series:
    """One value a frame; None or NaN where there is none.

    Attributes:
        name: in the legend.
        values: in order.
        colour: 0 is the neutral grey of a baseline, from 1 the palette.
    """

    name: str
    values: Sequence[float | None]
    colour: int

    @property
    def dash(self) -> str | None:
        return DASHES[self.colour % len(DASHES)] or None


@dataclass(frozen=True)
class Band:
    """A named stretch of the stream, frames ``start`` to ``end - 1``."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Lines:
    """A smoothed curve a series, the values themselves faint behind it.

    Attributes:
        title: see `Plot`.
        y_name: with the unit.
        series: one or more.
        x_name: what is counted.
        bands: stretches, shaded in turn and named at the top.
        window: frames that the smoothed curve averages, centred; None: a 25th of the stream. 1: not
            smoothed.
    """

    title: str
    y_name: str
    series: Sequence[Series]
    x_name: str = "frame"
    bands: Sequence[Band] = ()
    window: int | None = None

    def legend(self) -> Sequence[Key]:
        return [Key(s.name, series_class(s.colour), "dashed" if s.dash else "line") for s in self.series]

    @property
    def frames(self) -> int:
        return max((len(s.values) for s in self.series), default=0)

    @property
    def averaged_frames(self) -> int:
        """Width of the smoothing window in frames, odd."""
        return (self.window or self.frames // 25) | 1

    def caption(self) -> str:
        """How the curves were made from the values."""
        words = (
            "The value of every frame."
            if self.averaged_frames == 1
            else f"Strong: mean over {self.averaged_frames} frames, centred. Faint: single frames."
        )
        per_point = math.ceil(self.frames / MOST_POINTS)
        return words if per_point <= 1 else f"{words} Each point stands for {per_point} frames."

    def svg(self, width: int) -> Markup:
        finite = [v for s in self.series for v in s.values if v is not None and math.isfinite(v)]
        if not finite:
            return empty_drawing(self.title, width, "no values")
        height = 300 if width > 500 else 240
        top = 40 if self.bands else 24
        x = Scale(0, max(1, self.frames - 1), 44, width - 8)
        axes = Axes(x, Scale.over(finite, height - 38, top))
        parts = [self._bands(axes), axes.drawn(self.x_name, self.y_name, whole_x=True)]
        for series in self.series:
            colour = series_class(series.colour)
            if self.averaged_frames > 1:
                faint = path(_points(axes, series.values))
                parts.append(tag("path", d=faint, class_=f"line faint {colour}"))
        for series in self.series:
            strong = path(_points(axes, smoothed(series.values, self.averaged_frames)))
            parts.append(
                tag(
                    "path",
                    tag("title", series.name),
                    d=strong,
                    stroke_dasharray=series.dash,
                    class_=f"line {series_class(series.colour)}",
                )
            )
        return drawing(self.title, width, height, *parts)

    def _bands(self, axes: Axes) -> Markup:
        parts = []
        for index, band in enumerate(self.bands):
            left, right = axes.x(max(0, band.start)), axes.x(min(max(1, self.frames - 1), band.end))
            room = max(0.0, right - left)
            if index % 2 == 0:
                parts.append(
                    tag(
                        "rect", x=left, y=axes.y.end - 16, width=room, height=axes.y.start - axes.y.end + 16,
                        class_="band",
                    )
                )  # fmt: skip
            if room >= text_px(band.name[:4]):
                name = shortened(band.name, room - 4)
                parts.append(text((left + right) / 2, axes.y.end - 4, name, "middle", "name"))
        return Markup("").join(parts)


def smoothed(values: Sequence[float | None], window: int) -> list[float | None]:
    """Mean of the values around each, None and NaN left out; the window is cut at both ends.

    Where a value is missing the curve has a gap.
    """
    half = window // 2
    known = [None if v is None or not math.isfinite(v) else v for v in values]
    result: list[float | None] = []
    for index, value in enumerate(known):
        around = [v for v in known[max(0, index - half) : index + half + 1] if v is not None]
        result.append(None if value is None else sum(around) / len(around))
    return result


def _points(axes: Axes, values: Sequence[float | None]) -> list[Point | None]:
    """Of the curve, at most `MOST_POINTS`: neighbours are averaged."""
    size = max(1, math.ceil(len(values) / MOST_POINTS))
    points: list[Point | None] = []
    for start in range(0, len(values), size):
        group = [v for v in values[start : start + size] if v is not None and math.isfinite(v)]
        middle = start + (min(size, len(values) - start) - 1) / 2
        points.append((axes.x(middle), axes.y(sum(group) / len(group))) if group else None)
    return points
