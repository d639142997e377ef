"""Reports as one HTML file each: a `Page` of blocks, plots and pictures.

What the verbs make of it is in `run_report`, `profile_report` and `evaluate_report`; `what_ran` is the
section that all of them end with.
"""

from ocl_edge_app.pictures import mask_uri, photo_uri
from ocl_edge_app.report.page import (
    Block,
    Cell,
    Example,
    Examples,
    Facts,
    Figure,
    Page,
    Picture,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
    render_page,
    write_page,
)
from ocl_edge_app.report.plots import (
    Band,
    DotRow,
    Dots,
    Histogram,
    Lines,
    Moment,
    Series,
    Stack,
    StackedBars,
    Timeline,
)
from ocl_edge_app.report.stages import stage_blocks

__all__ = [
    "Band",
    "Block",
    "Cell",
    "DotRow",
    "Dots",
    "Example",
    "Examples",
    "Facts",
    "Figure",
    "Histogram",
    "Lines",
    "Moment",
    "Page",
    "Picture",
    "Section",
    "Series",
    "Stack",
    "StackedBars",
    "Table",
    "Text",
    "Tile",
    "Tiles",
    "Timeline",
    "mask_uri",
    "photo_uri",
    "render_page",
    "stage_blocks",
    "write_page",
]
