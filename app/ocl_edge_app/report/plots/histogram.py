"""How often which time occurred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ocl_edge_app.report.plots.lines import Series
from ocl_edge_app.report.plots.svg import (
    Axes,
    Key,
    Scale,
    drawing,
    empty_drawing,
    series_class,
    shortened,
    tag,
    text,
)

PERCENTILES = (50, 90, 99)
BINS = 40
PANEL_PX = 176


@dataclass(frozen=True)
class Histogram:
    """A panel a series on one x axis, with p50, p90 and p99.

    The axis ends a little after the largest p99; what lies beyond is counted in words.

    Attributes:
        title: see `Plot`.
        x_name: with the unit.
        series: values in any order; None and values that are not finite are left out.
        unit: after the percentiles.
    """

    title: str
    x_name: str
    series: Sequence[Series]
    unit: str = "ms"

    def legend(self) -> Sequence[Key]:
        return ()  # every panel bears its name

    def svg(self, width: int) -> Markup:
        samples = [np.array([v for v in s.values if v is not None and math.isfinite(v)]) for s in self.series]
        if not any(sample.size for sample in samples):
            return empty_drawing(self.title, width, "no values")
        shown = [sample for sample in samples if sample.size]
        low = min(float(sample.min()) for sample in shown)
        high = max(min(float(sample.max()), 1.3 * float(np.percentile(sample, 99))) for sample in shown)
        x = Scale.over([low, high], 44, width - 8, margin=0.02)
        height = PANEL_PX * len(samples)
        parts = []
        for index, (series, sample) in enumerate(zip(self.series, samples, strict=True)):
            parts.append(self._panel(x, PANEL_PX * index, series, sample, index == len(samples) - 1))
        return drawing(self.title, width, height, *parts)

    def _panel(self, x: Scale, top: float, series: Series, sample: np.ndarray, last: bool) -> Markup:
        inside = sample[sample <= x.high]
        beyond = sample.size - inside.size
        counts, edges = np.histogram(inside, BINS, (x.low, x.high))
        axes = Axes(x, Scale(0, max(1, int(counts.max())) * 1.02, PANEL_PX - 36, 70))
        parts = [axes.drawn(self.x_name if last else "", "", whole_x=False)]
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
            if count:
                y = axes.y(float(count))
                said = tag("title", f"{left:.1f} to {right:.1f} {self.unit}: {count}")
                parts.append(
                    tag(
                        "rect", said, x=x(left) + 0.5, y=y, width=max(1.0, x(right) - x(left) - 1),
                        height=axes.y.start - y, class_=f"area {series_class(series.colour)}",
                    )
                )  # fmt: skip
        words = f"{series.name}, {sample.size} frames"
        if beyond:
            words += f", {beyond} beyond the right edge (up to {sample.max():.0f} {self.unit})"
        parts.append(text(0, 11, shortened(words, x.end), class_="name"))
        if sample.size:
            parts.append(self._percentiles(axes, sample))
        return tag("g", *parts, transform=f"translate(0 {top:g})")

    def _percentiles(self, axes: Axes, sample: np.ndarray) -> Markup:
        parts = []
        for row, percentile in enumerate(PERCENTILES):
            value = float(np.percentile(sample, percentile))
            at, y = axes.x(value), 34 + 13 * row
            words = f"p{percentile} {value:.1f} {self.unit}"
            fits = at + 6 + len(words) * 6.6 <= axes.x.end
            parts.append(tag("line", x1=at, x2=at, y1=y - 9, y2=axes.y.start, class_="percentile"))
            parts.append(text(at + 4 if fits else at - 4, y, words, "start" if fits else "end"))
        return Markup("").join(parts)
