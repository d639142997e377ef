"""How far from home the frames of a stream are, and how far adaptation has opened."""

from __future__ import annotations

from collections.abc import Sequence

from ocl_edge.method.home import AWAY_FROM, HOME_UNTIL
from ocl_edge_app.report.page import Figure
from ocl_edge_app.report.plots import Band, Lines, Series

CAPTION = (
    f"Up to a distance of {HOME_UNTIL} a frame is at home, and its mask is the frozen network's; from "
    f"{AWAY_FROM} on adaptation opens fully, over a second or two. Where home frames were measured, all "
    "norms are asked, too, and the lesser wish counts."
)


def home_figure(
    distances: Sequence[float | None], openings: Sequence[float], bands: Sequence[Band] = (), of: str = ""
) -> Figure:
    """Both curves, frame by frame.

    Args:
        distances: from home; None or NaN where none is known.
        openings: 0 to 1.
        bands: stretches of the stream.
        of: the method that is shown, where there are several.
    """
    title = "How far from home, and how far open" + (f": {of}" if of else "")
    series = [Series("distance from home", distances, 1), Series("opening", openings, 2)]
    held = len(set(openings)) == 1 and openings[0] > 0  # what follows home begins closed
    caption = f"Held open at {openings[0]:g}, whatever the distance." if held else CAPTION
    return Figure(Lines(title, "distance, opening", series, bands=bands), caption)
