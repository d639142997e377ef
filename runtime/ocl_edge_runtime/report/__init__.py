"""Reports as one HTML file each: `Page` and its blocks, plots, pictures, and a page a verb."""

from ocl_edge_runtime.report.page import (
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
from ocl_edge_runtime.report.pictures import mask_uri, overlaid, photo_uri
from ocl_edge_runtime.report.plots import (
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
from ocl_edge_runtime.report.recorder import RunRecorder
from ocl_edge_runtime.report.run_report import run_page
from ocl_edge_runtime.report.stages import stage_blocks
from ocl_edge_runtime.report.what_ran import machine_facts, settings_of, what_ran

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
    "RunRecorder",
    "Section",
    "Series",
    "Stack",
    "StackedBars",
    "Table",
    "Text",
    "Tile",
    "Tiles",
    "Timeline",
    "machine_facts",
    "mask_uri",
    "overlaid",
    "photo_uri",
    "render_page",
    "run_page",
    "settings_of",
    "stage_blocks",
    "what_ran",
    "write_page",
]
