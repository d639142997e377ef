"""How far from home the frames of a stream are, and how far adaptation has opened."""

from __future__ import annotations

from collections.abc import Sequence

from ocl_edge.method.home import AWAY_FROM, HOME_UNTIL
from ocl_edge_app.report.page import Figure
from ocl_edge_app.report.plots import Band, Lines, Series

CAPTION = (
    f"Up to a distance of {HOME_UNTIL} a frame is at home, and its mask is the frozen network's; from "
    f"{AWAY_FROM} on adaptation opens fully, over a second or two."
)


def home_figure(
    distances: Sequence[float | None], openings: Sequence[float], bands: Sequence[Band] = ()
) -> Figure:
    """Both curves, frame by frame.

    Args:
        distances: from home; None or NaN where none is known.
        openings: 0 to 1.
        bands: stretches of the stream.
    """
    series = [Series("distance from home", distances, 1), Series("opening", openings, 2)]
    return Figure(
        Lines("How far from home, and how far open", "distance, opening", series, bands=bands), CAPTION
    )
