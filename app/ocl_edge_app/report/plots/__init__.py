"""Plots as SVG text: no script, no font, no request."""

from ocl_edge_app.report.plots.bars import Stack, StackedBars
from ocl_edge_app.report.plots.dots import DotRow, Dots
from ocl_edge_app.report.plots.histogram import Histogram
from ocl_edge_app.report.plots.lines import Band, Lines, Series
from ocl_edge_app.report.plots.svg import NARROW, WIDE, Key, Plot
from ocl_edge_app.report.plots.timeline import Moment, Timeline

__all__ = [
    "NARROW",
    "WIDE",
    "Band",
    "DotRow",
    "Dots",
    "Histogram",
    "Key",
    "Lines",
    "Moment",
    "Plot",
    "Series",
    "Stack",
    "StackedBars",
    "Timeline",
]
