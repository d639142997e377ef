"""Stacked bars: what a whole is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ocl_edge_app.report.plots.svg import (
    Key,
    Scale,
    drawing,
    empty_drawing,
    shortened,
    tag,
    text,
    text_px,
)

BAR_PX = 26
NAME_PX = 18
ROW_PX = BAR_PX + NAME_PX + 12


@dataclass(frozen=True)
class Stack:
    """One bar: a name and its parts in order, part -> value (not negative)."""

    name: str
    parts: Mapping[str, float]


@dataclass(frozen=True)
class StackedBars:
    """Bars on one scale from zero, each named above with its sum.

    Attributes:
        title: see `Plot`.
        stacks: from top to bottom.
        colours: part -> class of the style sheet.
        unit: after the numbers.
    """

    title: str
    stacks: Sequence[Stack]
    colours: Mapping[str, str]
    unit: str = "ms"

    def legend(self) -> Sequence[Key]:
        parts = dict.fromkeys(part for stack in self.stacks for part in stack.parts)
        return [Key(part, self.colours[part]) for part in parts]

    def svg(self, width: int) -> Markup:
        longest = max((sum(stack.parts.values()) for stack in self.stacks), default=0.0)
        if not longest:
            return empty_drawing(self.title, width, "no values")
        scale = Scale(0, longest, 0, width)
        rows = [self._row(stack, scale, ROW_PX * index, width) for index, stack in enumerate(self.stacks)]
        return drawing(self.title, width, ROW_PX * len(self.stacks), *rows)

    def _row(self, stack: Stack, scale: Scale, top: float, width: int) -> Markup:
        total = f"{sum(stack.parts.values()):.1f} {self.unit}"
        parts = [
            text(0, top + 13, shortened(stack.name, width - text_px(total) - 12), class_="strong"),
            text(width, top + 13, total, "end", "strong"),
        ]
        start = 0.0
        for part, value in stack.parts.items():
            left, right = scale(start), scale(start + value)
            start += value
            number = f"{value:.1f}"
            said = tag("title", f"{part}: {value:.2f} {self.unit}")
            parts.append(
                tag(
                    "rect", said, x=left, y=top + NAME_PX, width=max(0.0, right - left - 1), height=BAR_PX,
                    class_=f"area {self.colours[part]}",
                )
            )  # fmt: skip
            if right - left > text_px(number) + 8:
                middle = (left + right) / 2
                parts.append(text(middle, top + NAME_PX + 17, number, "middle", f"on {self.colours[part]}"))
        return Markup("").join(parts)
