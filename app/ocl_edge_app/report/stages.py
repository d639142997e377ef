"""Where the time of a frame goes, as bars and as a table."""

from __future__ import annotations

from collections.abc import Mapping

from ocl_edge.timings import MASK_STAGES, STAGES, UPDATE_STAGES
from ocl_edge_app.report.page import Block, Cell, Figure, Table
from ocl_edge_app.report.plots import Stack, StackedBars

OTHER_STAGES = [stage for stage in STAGES if stage not in (*MASK_STAGES, *UPDATE_STAGES)]

STAGE_COLOURS = {
    stage: f"{family}{1 + index}"
    for family, stages in (("mask", MASK_STAGES), ("update", UPDATE_STAGES), ("other", OTHER_STAGES))
    for index, stage in enumerate(stages)
}
"""Blues up to the mask, browns after it, greys for what belongs to neither."""


def said_ms(value: float) -> str:
    """Milliseconds in a few letters."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def stage_blocks(stacks: Mapping[str, Mapping[str, float]]) -> list[Block]:
    """Bars and a table of stage times.

    Args:
        stacks: name -> stage -> milliseconds, stages in the order of execution.
    """
    stages = [stage for stage in STAGES if any(stage in parts for parts in stacks.values())]
    bars = StackedBars(
        "Where the time goes", [Stack(name, parts) for name, parts in stacks.items()], STAGE_COLOURS
    )
    rows: list[list[str | Cell | None]] = [
        [stage, *(f"{parts[stage]:.2f}" if stage in parts else None for parts in stacks.values())]
        for stage in stages
    ]
    rows.append(
        [Cell("sum", "strong"), *(Cell(f"{sum(parts.values()):.2f}", "strong") for parts in stacks.values())]
    )
    caption = "Blue: until the mask is there. Brown: the update after it. Grey: decoding and handing over."
    return [Figure(bars, caption), Table("Stages, ms", ["stage", *stacks], rows)]
