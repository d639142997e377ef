"""Elements of SVG, and what every plot shares: scales, axes, keys."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from markupsafe import Markup, escape

from ocl_edge.plain_text import plain

Point = tuple[float, float]
Shape = Literal["line", "dashed", "area", "tick", "dot", "square", "diamond", "triangle"]

SHAPES: tuple[Shape, ...] = ("dot", "square", "diamond", "triangle")
CORNERS: dict[str, Sequence[Point]] = {
    "square": ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
    "diamond": ((0, -6), (6, 0), (0, 6), (-6, 0)),
    "triangle": ((0, -5.5), (5.5, 4.5), (-5.5, 4.5)),
}
DASHES = ("", "", "7 4", "2 3", "10 3 2 3")
COLOURS = 7
"""Series colours ``s0`` (a neutral grey, for the baseline) to ``s6`` of the style sheet; more start again."""

FONT_PX = 12
LETTER_PX = 6.6
"""Mean advance of a letter at `FONT_PX`, on the wide side."""


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a name, a class of the style sheet, and a swatch."""

    name: str
    colour: str
    shape: Shape = "area"

    def swatch(self) -> Markup:
        """18 x 12 px, as the plot draws it."""
        if self.shape in ("line", "dashed"):
            dash = "4 2" if self.shape == "dashed" else None
            drawn = tag("line", x1=0, x2=18, y1=6, y2=6, stroke_dasharray=dash, class_=f"line {self.colour}")
        elif self.shape == "area":
            drawn = tag("rect", x=3, y=0, width=12, height=12, class_=f"area {self.colour}")
        elif self.shape == "tick":
            drawn = tag("line", x1=9, x2=9, y1=1, y2=11, class_=f"line {self.colour}")
        else:
            drawn = marker(self.shape, 9, 6, self.colour)
        return tag(
            "svg", drawn, viewBox="0 0 18 12", width=18, height=12, class_="swatch", aria_hidden="true"
        )


class Plot(Protocol):
    """What a figure shows. Drawn twice: for a screen and for a phone, so that letters keep their size."""

    @property
    def title(self) -> str:
        """What the plot shows, in a sentence: heading, and name for who cannot see it."""

    def legend(self) -> Sequence[Key]:
        """Of the legend; empty where there is nothing to tell apart."""

    def svg(self, width: int) -> Markup:
        """The drawing, ``width`` pixels wide."""


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. Text is escaped, `Markup` is not.

    Attributes: ``class_`` becomes ``class``, ``a_b`` becomes ``a-b``, None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(plain(_written(value), longest=None))}"'
        for key, value in attributes.items()
        if value is not None
    )
    shown = (child if isinstance(child, Markup) else plain(child) for child in children)
    return Markup(f"<{name}{written}>{Markup('').join(shown)}</{name}>")


def drawing(title: str, width: float, height: float, *children: str) -> Markup:
    """An ``svg`` element that says what it shows."""
    return tag(
        "svg",
        tag("title", title),
        *children,
        viewBox=f"0 0 {_written(width)} {_written(height)}",
        role="img",
        aria_label=title,
        class_="wide" if width >= WIDE else "narrow",
    )


WIDE = 860
NARROW = 340


def text(x: float, y: float, content: str, anchor: str = "start", class_: str | None = None) -> Markup:
    return tag("text", content, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def path(points: Iterable[Point | None]) -> str:
    """``d`` of a line through the points; None breaks it, and a single point becomes a dot."""
    parts: list[str] = []
    pen_down = False
    for point in points:
        if point is None:
            pen_down = False
            continue
        here = f"{_written(point[0])},{_written(point[1])}"
        parts.append(f"L{here}" if pen_down else f"M{here}h.01")
        pen_down = True
    return "".join(parts)


def marker(shape: Shape, x: float, y: float, colour: str, *children: str) -> Markup:
    """About 10 px across."""
    marks = f"mark {colour}"
    if shape == "dot":
        return tag("circle", *children, cx=x, cy=y, r=5, class_=marks)
    corners = " ".join(f"{_written(x + dx)},{_written(y + dy)}" for dx, dy in CORNERS[shape])
    return tag("polygon", *children, points=corners, class_=marks)


def series_class(index: int) -> str:
    """Class of the colour of a series."""
    return f"s{index}" if index < COLOURS else f"s{1 + (index - 1) % (COLOURS - 1)}"


def shortened(name: str, room_px: float) -> str:
    """The name, cut where it would be wider than the room."""
    letters = max(4, int(room_px / LETTER_PX))
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def text_px(name: str) -> float:
    return len(name) * LETTER_PX


@dataclass(frozen=True)
class Scale:
    """Maps ``low`` to ``high`` (not equal) linearly to ``start`` to ``end``, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @classmethod
    def over(
        cls,
        values: Iterable[float],
        start: float,
        end: float,
        *,
        from_zero: bool = False,
        margin: float = 0.05,
    ) -> Scale:
        """A scale that holds all values that are finite, with some air."""
        finite = [value for value in values if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        air = (high - low) * margin or abs(high) * margin or 0.5
        low, high = (min(0.0, low) if from_zero else low - air), high + air
        return cls(low, high, start, end)

    def ticks(self, count: int) -> list[float]:
        """About so many round values of 1, 2 or 5 times a power of ten, inside the range."""
        step = self._step(count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def label(self, value: float, count: int) -> str:
        """A tick's text, with as many decimals as the steps need."""
        decimals = max(0, -math.floor(math.log10(self._step(count)) + 1e-9))
        return f"{value + 0.0:,.{decimals}f}"

    def _step(self, count: int) -> float:
        rough = (self.high - self.low) / max(1, count)
        power: float = 10.0 ** math.floor(math.log10(rough))
        return power * next(round_ for round_ in (1, 2, 5, 10) if round_ * power >= rough * (1 - 1e-9))


@dataclass(frozen=True)
class Axes:
    """The two scales of a chart and their drawing: grid, numbers, names."""

    x: Scale
    y: Scale

    def drawn(self, x_name: str, y_name: str, whole_x: bool = False, below_px: float = 0) -> Markup:
        """Grid lines of y, numbers of both axes, and their names.

        Args:
            x_name: right below the numbers of x.
            y_name: above those of y.
            whole_x: x counts things, and has no numbers between them.
            below_px: room to leave between the plot and the axis of x.
        """
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        across, upward = max(2, int((right - left) / 90)), max(2, int((bottom - top) / 42))
        parts = []
        for value in self.y.ticks(upward):
            y = self.y(value)
            parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(text(left - 6, y + 4, self.y.label(value, upward), "end"))
        bottom += below_px
        for value in self.x.ticks(across):
            if whole_x and value != round(value):
                continue
            x = self.x(value)
            parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
            parts.append(text(x, bottom + 17, self.x.label(value, across), "middle"))
        parts.append(tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        parts.append(text(right, bottom + 33, x_name, "end", "name"))
        parts.append(text(0, 11, y_name, class_="name"))
        return Markup("").join(parts)


def empty_drawing(title: str, width: int, reason: str) -> Markup:
    """In place of a plot that has nothing to show."""
    return drawing(f"{title}: {reason}", width, 40, text(0, 24, reason, class_="name"))


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".rstrip("0").rstrip(".")
    return str(value)
