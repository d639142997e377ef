"""What a frame's result says, as numbers and as words, for those who plot or watch a run."""

from __future__ import annotations

from ocl_edge.timings import mask_latency_ms
from ocl_edge_runtime.session.frames import FrameResult


def numbers_of(result: FrameResult) -> dict[str, float]:
    """Name -> value; what was not measured on this frame is left out."""
    numbers = {
        "latency_ms": mask_latency_ms(result.timings_ms),
        "late": float(result.late),
        "opening": result.opening,
        "updated": float(result.verdict.applied),
    }
    if result.distance is not None:
        numbers["distance"] = result.distance
    if result.verdict.loss is not None:
        numbers["loss"] = result.verdict.loss
    return numbers


def values_of(result: FrameResult) -> dict[str, str]:
    """The same as text, with what became of the update."""
    numbers = {name: f"{value:.6g}" for name, value in numbers_of(result).items()}
    return {**numbers, "update": str(result.verdict)}
