"""Numbers as tables show them."""

from __future__ import annotations

import math

from ocl_edge_app.report.page import Cell


def number(value: float | None, decimals: int = 1) -> str | None:
    """Rounded; None where there is none."""
    return None if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"


def gain(value: float | None) -> Cell | None:
    """With its sign, green where something was gained and red where something was lost."""
    if value is None or not math.isfinite(value):
        return None
    return Cell(f"{value:+.2f}", "good" if value > 0 else "bad" if value < 0 else "")


def count(found: int, thing: str) -> str:
    """``1 stream``, ``2 streams``."""
    return f"{found} {thing}" if found == 1 else f"{found} {thing}s"
