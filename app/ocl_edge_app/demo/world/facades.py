"""The facades of a street, painted once and looked up for every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ocl_edge_app.demo.world.canvas import Colour
from ocl_edge_app.demo.world.layout import STREET_M, Building, Street
from ocl_edge_app.demo.world.textures import tileable_noise

TEXELS_PER_M = 8
WALL_ROWS = 200  # 25 m of wall
MIP_LEVELS = 4


@dataclass(frozen=True)
class FacadeTexture:
    """The facades of both sides, unrolled along the street, at several resolutions.

    Attributes:
        texels: packed RGB and, in the fourth byte, how brightly a window is lit; uint32, all levels in a row.
        offsets: where each level starts.
    """

    texels: NDArray[np.uint32]
    offsets: NDArray[np.int32]

    def look_up(
        self,
        along_m: NDArray[np.float32],
        up_m: NDArray[np.float32],
        right: NDArray[np.bool_],
        footprint_m: NDArray[np.float32],
    ) -> NDArray[np.uint32]:
        """Texels at z ``along_m`` and height ``up_m``; ``footprint_m`` is how much wall a pixel covers."""
        level = np.log2(np.maximum(footprint_m * TEXELS_PER_M, 1)).astype(np.int32)
        level = np.minimum(level, MIP_LEVELS - 1)
        column = (along_m * TEXELS_PER_M).astype(np.int32) % (STREET_M * TEXELS_PER_M)
        row = WALL_ROWS - 1 - np.clip((up_m * TEXELS_PER_M).astype(np.int32), 0, WALL_ROWS - 1)
        row += right * np.int32(WALL_ROWS)
        width = np.int32(STREET_M * TEXELS_PER_M) >> level
        found: NDArray[np.uint32] = self.texels[
            self.offsets[level] + (row >> level) * width + (column >> level)
        ]
        return found


def paint_facades(street: Street, rng: np.random.Generator) -> FacadeTexture:
    """Walls, windows, doors and shops of every building of the street."""
    size = (STREET_M * TEXELS_PER_M, WALL_ROWS)
    sides = []
    for side in (-1, 1):
        wall = Image.new("RGB", size, (128, 128, 128))
        lit = Image.new("L", size, 0)
        for building in street.buildings:
            if building.side == side:
                _Painter(ImageDraw.Draw(wall), ImageDraw.Draw(lit), building, rng).paint()
        grain = tileable_noise(rng, 256, 32, 3)
        grain = np.tile(grain, (1, size[0] // 256))[:WALL_ROWS]
        pixels = np.asarray(wall, np.float32) * (1 + 0.05 * grain[..., None])
        sides.append(np.dstack((np.clip(pixels, 0, 255), np.asarray(lit, np.float32))))
    return _with_mip_levels(np.concatenate(sides))


def _with_mip_levels(pixels: NDArray[np.float32]) -> FacadeTexture:
    levels, offsets, total = [], [], 0
    for _ in range(MIP_LEVELS):
        packed = np.ascontiguousarray(pixels.astype(np.uint8)).view(np.uint32).ravel()
        levels.append(packed)
        offsets.append(total)
        total += packed.size
        rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = pixels.reshape(rows, 2, columns, 2, 4).mean((1, 3))
    return FacadeTexture(np.concatenate(levels), np.array(offsets, np.int32))


class _Painter:
    """Paints one facade: plaster, a cornice, floors of windows, and at street level a door or shops."""

    def __init__(
        self,
        wall: ImageDraw.ImageDraw,
        lit: ImageDraw.ImageDraw,
        building: Building,
        rng: np.random.Generator,
    ) -> None:
        self.wall, self.lit, self.building, self.rng = wall, lit, building, rng
        self.trim = _brightened(building.colour, 1.18)
        self.dark = _brightened(building.colour, 0.72)
        self.length = building.end_m - building.start_m
        self.columns = max(2, round(self.length / building.window_pitch_m))
        self.pitch = self.length / self.columns

    def paint(self) -> None:
        house = self.building
        self._fill(house.start_m, 0, self.length, house.height_m, house.colour)
        self._fill(house.start_m, house.height_m - 0.4, self.length, 0.4, self.trim)
        self._fill(house.start_m, 0, self.length, 0.6, self.dark)
        for floor in range(house.floors):
            if floor > 0:
                self._fill(house.start_m, floor * house.floor_m - 0.1, self.length, 0.15, self.trim)
            for column in range(self.columns):
                self._opening(floor, column)

    def _opening(self, floor: int, column: int) -> None:
        """A window, a shop window or a door."""
        house, width = self.building, self.pitch * self.building.window_share
        z, y = house.start_m + (column + 0.5) * self.pitch - width / 2, floor * house.floor_m + 0.9
        height, shop = house.floor_m - 1.4, floor == 0 and house.has_shops
        glass = int(self.rng.integers(35, 95))
        shines = int(self.rng.integers(110, 255)) if self.rng.random() < (0.6 if shop else 0.3) else 0
        if shop:
            z, y = house.start_m + column * self.pitch + 0.25, 0.5
            width, height = self.pitch - 0.5, 2.2
            self._fill(z, y + height, width, 0.6, house.awnings[column % len(house.awnings)])
        elif floor == 0 and column == self.columns // 2:
            self._fill(z, 0, width, 2.4, self.dark)
            return
        self._fill(z - 0.12, y - 0.12, width + 0.24, height + 0.24, self.trim)
        self._fill(z, y, width, height, (glass, glass + 12, glass + 24))
        self._fill(z, y + height * 0.55, width, 0.13, self.trim)
        if self.rng.random() < 0.35 and not shop:  # a curtain or a blind
            cloth = int(self.rng.integers(130, 215))
            self._fill(z, y + height * 0.6, width, height * 0.4, (cloth, cloth, cloth - 12))
        self.lit.rectangle(_texels(z, y, width, height), fill=shines)

    def _fill(self, z: float, y: float, width: float, height: float, colour: Colour) -> None:
        self.wall.rectangle(_texels(z, y, width, height), fill=colour)


def _texels(z: float, y: float, width: float, height: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom texel of a rectangle of the wall; metres, ``y`` from the ground up."""
    left, top = round(z * TEXELS_PER_M), WALL_ROWS - round((y + height) * TEXELS_PER_M)
    right = left + max(round(width * TEXELS_PER_M), 1) - 1
    return left, top, right, top + max(round(height * TEXELS_PER_M), 1) - 1


def _brightened(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(c * factor)) for c in colour)
    return red, green, blue
