"""One canvas of surface numbers, from which colour, label, depth and light are all read.

Every drawn polygon writes the number of its surface over what was there. What a pixel
shows and what it is labelled therefore come from the same write and cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ocl_edge_app.demo.world.camera import Point

Colour = tuple[int, int, int]
DARK: Colour = (0, 0, 0)
GROUND_M = 0.0
"""Depth of a surface that lies on the ground: each row of it has its own."""


class Canvas:
    """Surfaces by number, and the image of numbers.

    Args:
        width_px, height_px: size of the image of numbers.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        self._image = Image.new("I", (width_px, height_px), 0)
        self._draw = ImageDraw.Draw(self._image)
        self._shade = Image.new("L", (width_px, height_px), 255)
        self._shade_draw = ImageDraw.Draw(self._shade)
        self._pools = Image.new("L", (width_px, height_px), 0)
        self._pools_draw = ImageDraw.Draw(self._pools)
        self._colours: list[int] = []
        self._labels: list[int] = []
        self._depths: list[float] = []
        self._glows: list[int] = []
        self._walls: list[float] = []

    def surface(
        self, label: int, colour: Colour, depth_m: float, glow: Colour = DARK, wall_m: float = 0.0
    ) -> int:
        """Register a surface and return its number; surface 0 is what the empty canvas shows.

        Args:
            label: class.
            colour: RGB in plain daylight.
            depth_m: distance along the camera's axis, `GROUND_M` for the ground.
            glow: RGB light that it sends out by itself.
            wall_m: x of a facade relative to the camera; its pixels then have their own
                depth and texture. 0 for everything else.
        """
        self._colours.append(_packed(colour))
        self._labels.append(label)
        self._depths.append(depth_m)
        self._glows.append(_packed(glow))
        self._walls.append(wall_m)
        return len(self._labels) - 1

    def polygon(self, surface: int, points: Sequence[Point]) -> None:
        self._draw.polygon(points, fill=surface)

    def ellipse(self, surface: int, centre: Point, radius_x: float, radius_y: float) -> None:
        self._draw.ellipse(_box(centre, radius_x, radius_y), fill=surface)

    def shadow(self, points: Sequence[Point], brightness: int) -> None:
        """A shadow that falls on the ground, wherever the ground stays visible; 255 is no shadow."""
        self._shade_draw.polygon(points, fill=brightness)

    def shadow_ellipse(self, centre: Point, radius_x: float, radius_y: float, brightness: int) -> None:
        self._shade_draw.ellipse(_box(centre, radius_x, radius_y), fill=brightness)

    def light_pool(self, centre: Point, radius_x: float, radius_y: float) -> None:
        """Ground that a lamp lights at night."""
        for size, light in ((1.0, 60), (0.75, 120), (0.5, 185), (0.25, 235)):
            self._pools_draw.ellipse(_box(centre, radius_x * size, radius_y * size), fill=light)

    def numbers(self) -> NDArray[np.int32]:
        """Surface number of every pixel, int32 [H, W]."""
        return np.asarray(self._image)

    def ground_shadow(self) -> NDArray[np.float32]:
        """Sunlight that objects leave on the ground, 0 to 1, at half the canvas' size."""
        shade: NDArray[np.float32] = np.asarray(self._shade.reduce(2), np.float32) * np.float32(1 / 255)
        return shade

    def ground_light(self) -> NDArray[np.float32]:
        """Lamp light on the ground, 0 to 1, at half the canvas' size."""
        pools: NDArray[np.float32] = np.asarray(self._pools.reduce(2), np.float32) * np.float32(1 / 255)
        return pools

    def colours(self) -> NDArray[np.uint32]:
        """Packed RGB of every surface."""
        return np.array(self._colours, np.uint32)

    def glows(self) -> NDArray[np.uint32]:
        return np.array(self._glows, np.uint32)

    def labels(self) -> NDArray[np.uint8]:
        return np.array(self._labels, np.uint8)

    def depths(self) -> NDArray[np.float32]:
        return np.array(self._depths, np.float32)

    def walls(self) -> NDArray[np.float32]:
        return np.array(self._walls, np.float32)


def unpacked(pixels: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Packed RGB [H, W] at twice the size -> uint8 [H/2, W/2, 3], each the mean of four pixels."""
    image = Image.fromarray(pixels.view(np.uint8).reshape(*pixels.shape, 4)).convert("RGB")
    return np.asarray(image.reduce(2))


def _packed(colour: Colour) -> int:
    red, green, blue = colour
    return red | green << 8 | blue << 16


def _box(centre: Point, radius_x: float, radius_y: float) -> tuple[float, float, float, float]:
    x, y = centre
    return x - radius_x, y - radius_y, x + radius_x, y + radius_y
