"""The camera: where a point of the street falls on the canvas."""

from __future__ import annotations

from dataclasses import dataclass

NEAR_M = 1.0
"""Nothing is drawn nearer than this; points nearer are moved out to it."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the street.

    World axes in metres: x to the right (0 in the middle of the road), y up (0 on the
    ground), z along the street. Canvas axes in pixels: x to the right, y down.

    Attributes:
        x_m, height_m, z_m: the position.
        focal_px: focal length.
        centre_px, horizon_px: column and row of the vanishing point.
    """

    x_m: float
    height_m: float
    z_m: float
    focal_px: float
    centre_px: float
    horizon_px: float

    def project(self, x: float, y: float, ahead: float) -> Point:
        """Canvas position of a point; ``ahead`` is its z minus the camera's."""
        scale = self.focal_px / max(ahead, NEAR_M)
        return self.centre_px + (x - self.x_m) * scale, self.horizon_px + (self.height_m - y) * scale

    def pixels_per_metre(self, ahead: float) -> float:
        return self.focal_px / max(ahead, NEAR_M)
