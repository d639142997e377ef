"""Dot plots: several methods compared, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ocl_edge_app.report.plots.svg import (
    SHAPES,
    Key,
    Scale,
    Shape,
    drawing,
    empty_drawing,
    marker,
    series_class,
    shortened,
    tag,
    text,
    text_px,
)


@dataclass(frozen=True)
class DotRow:
    """One thing that was measured.

    Attributes:
        name: of the row.
        values: one a series, None or NaN where there is none.
        note: short, at the right edge, for example a gain.
    """

    name: str
    values: Sequence[float | None]
    note: str = ""


@dataclass(frozen=True)
class Dots:
    """A row of marks on one axis for every thing, joined from the least to the most.

    Attributes:
        title: see `Plot`.
        x_name: with the unit.
        series: names, in the order of the rows' values.
        rows: from top to bottom.
        low: where the axis starts, if not by the values.
        high: where it ends, likewise.
        colours: of the series as in `Series`; default: 0, 1, ... with a baseline first.
        absent: words in a row that has no value.
        unit: after the numbers that appear under the pointer.
    """

    title: str
    x_name: str
    series: Sequence[str]
    rows: Sequence[DotRow]
    low: float | None = None
    high: float | None = None
    colours: Sequence[int] = ()
    absent: str = "no value"
    unit: str = "%"

    def legend(self) -> Sequence[Key]:
        return [Key(name, *self._look(index)) for index, name in enumerate(self.series)]

    def _look(self, index: int) -> tuple[str, Shape]:
        colour = self.colours[index] if self.colours else index
        return series_class(colour), SHAPES[colour % len(SHAPES)]

    def svg(self, width: int) -> Markup:
        finite = [v for row in self.rows for v in row.values if v is not None and math.isfinite(v)]
        if not finite:
            return empty_drawing(self.title, width, "no values")
        # On a phone the name stands above its row, else beside it.
        beside = width > 500
        longest = max(text_px(row.name) for row in self.rows)
        left = min(200.0, longest + 14) if beside else 8
        right = width - 8 - max((text_px(row.note) + 8 for row in self.rows if row.note), default=0.0)
        around = Scale.over(finite, left, right)
        x = Scale(
            around.low if self.low is None else self.low,
            around.high if self.high is None else self.high,
            left,
            right,
        )
        row_px = 26 if beside else 40
        bottom = row_px * len(self.rows) + 6
        parts = [self._axis(x, bottom)]
        for index, row in enumerate(self.rows):
            y = row_px * index + (18 if beside else 30)
            parts.append(self._row(row, x, y, beside, width))
        return drawing(self.title, width, bottom + 40, *parts)

    def _axis(self, x: Scale, bottom: float) -> Markup:
        count = max(2, int((x.end - x.start) / 80))
        parts = []
        for value in x.ticks(count):
            at = x(value)
            parts.append(tag("line", x1=at, x2=at, y1=4, y2=bottom, class_="grid"))
            parts.append(text(at, bottom + 16, x.label(value, count), "middle"))
        parts.append(text(x.end, bottom + 33, self.x_name, "end", "name"))
        return Markup("").join(parts)

    def _row(self, row: DotRow, x: Scale, y: float, beside: bool, width: int) -> Markup:
        name = shortened(row.name, x.start - 10 if beside else width - 20)
        parts = [text(x.start - 10, y + 4, name, "end") if beside else text(0, y - 13, name)]
        known = [(i, v) for i, v in enumerate(row.values) if v is not None and math.isfinite(v)]
        if not known:
            return Markup("").join([*parts, text(x.start + 4, y + 4, self.absent, class_="name")])
        places = [x(v) for _, v in known]
        parts.append(tag("line", x1=min(places), x2=max(places), y1=y, y2=y, class_="joint"))
        for index, value in known:
            said = tag("title", f"{row.name}, {self.series[index]}: {value:.1f} {self.unit}")
            colour, shape = self._look(index)
            parts.append(marker(shape, x(value), y, colour, said))
        if row.note:
            parts.append(text(width, y + 4, row.note, "end", "strong"))
        return Markup("").join(parts)
