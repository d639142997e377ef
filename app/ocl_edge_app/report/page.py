"""A report: sections of facts, numbers, tables, plots and pictures, as one HTML file.

The file needs nothing else: no script, no font, no request. It follows the reader's dark
or light setting, the width of the screen, and the printer.

    page = Page("Drive of 3 May", sections=[
        Section("Accuracy", [Figure(Lines("mIoU of every frame", "mIoU %", series)), table]),
    ])
    write_page(page, Path("report.html"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import jinja2

from ocl_edge import durable
from ocl_edge._version import __version__
from ocl_edge.plain_text import plain_lines
from ocl_edge_app.report.plots import NARROW, WIDE, Plot

Tone = Literal["", "good", "bad", "strong", "quiet"]


@dataclass(frozen=True)
class Tile:
    """One of the numbers to remember: a value with its unit, what it is, and a word beside it."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True)
class Cell:
    """A table cell that stands out; the colour never says anything that the text does not."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Tiles:
    """Numbers to remember, side by side."""

    kind: ClassVar = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar = "text"
    text: str


@dataclass(frozen=True)
class Facts:
    """Names and values, for example what ran."""

    kind: ClassVar = "facts"
    rows: Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; scrolls in its own box where the screen is narrow.

    Attributes:
        title: what the table holds.
        header: names of the columns.
        rows: as long as the header; None is shown as a dash.
        text_columns: how many columns from the left hold text; the others are numbers.
        note: below the table.
    """

    kind: ClassVar = "table"
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell | None]]
    text_columns: int = 1
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A plot with its legend and a caption that says how to read it."""

    kind: ClassVar = "figure"
    plot: Plot
    caption: str = ""
    widths: ClassVar = (WIDE, NARROW)


@dataclass(frozen=True)
class Picture:
    """One picture of an example.

    Attributes:
        name: what it is: image, frozen, adapted, truth.
        uri: of the data (`ocl_edge_app.pictures`).
        caption: a word more, for example its mIoU.
    """

    name: str
    uri: str
    caption: str = ""


@dataclass(frozen=True)
class Example:
    """Pictures of one frame, side by side."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Examples:
    """Frames, one below the other, and the colours of the classes.

    Attributes:
        examples: from top to bottom.
        classes: name -> RGB, 0 to 255.
        note: how the frames were chosen.
    """

    kind: ClassVar = "examples"
    examples: Sequence[Example]
    classes: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    note: str = ""


Block = Tiles | Text | Facts | Table | Figure | Examples


@dataclass(frozen=True)
class Section:
    """A heading with blocks under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: heading, and title of the window.
        lead: a sentence or two under the heading.
        sections: from top to bottom; those without blocks are left out.
        tiles: the numbers to remember, above everything else.
    """

    title: str
    sections: Sequence[Section]
    lead: str = ""
    tiles: Sequence[Tile] = ()


def render_page(page: Page) -> str:
    """The page as HTML."""
    sections = [section for section in page.sections if section.blocks]
    return _templates().get_template("page.html").render(page=page, sections=sections, version=__version__)


def write_page(page: Page, path: Path) -> None:
    """Write the page to a file.

    Raises:
        OutputError: it cannot be written.
    """
    durable.write_text(path, render_page(page))


def _shown(value: object) -> object:
    """Words of strangers become plain text; `Markup` is ours and stays."""
    return plain_lines(value, longest=None) if type(value) is str else value


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ocl_edge_app.report"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
