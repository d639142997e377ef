"""Textures, made from noise once per street and looked up for every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ocl_edge.demo.camera import Camera
from ocl_edge.demo.layout import STREET_M, Building, Street

TEXELS_PER_M = 8
WALL_ROWS = 200  # 25 m of wall
MIP_LEVELS = 4
NOISE_SIZE = 512


def tileable_noise(rng: np.random.Generator, size: int, coarsest: int, octaves: int) -> NDArray[np.float32]:
    """Noise that repeats without a seam, float32 [size, size], mean 0 and standard deviation 1.

    Args:
        rng: source of the values.
        size: a power of two.
        coarsest: cells of the coarsest octave along one side, a power of two.
        octaves: each has cells half as large and amplitude half as high as the one before.
    """
    noise = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = min(coarsest << octave, size)
        values = rng.standard_normal((cells, cells), dtype=np.float32)
        padded = Image.fromarray(np.pad(values, 2, mode="wrap"))
        scale = size // cells
        wide = padded.resize(((cells + 4) * scale,) * 2, Image.Resampling.BICUBIC)
        noise += np.asarray(wide)[2 * scale : 2 * scale + size, 2 * scale : 2 * scale + size] / 2**octave
    normalised: NDArray[np.float32] = (noise - noise.mean()) / noise.std()
    return normalised


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
                _paint_building(ImageDraw.Draw(wall), ImageDraw.Draw(lit), building, rng)
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


def _paint_building(
    wall: ImageDraw.ImageDraw, lit: ImageDraw.ImageDraw, building: Building, rng: np.random.Generator
) -> None:
    """One facade: plaster, a cornice, floors of windows, and at street level a door or shops."""

    def box(z: float, y: float, width: float, height: float) -> tuple[int, int, int, int]:
        left, top = round(z * TEXELS_PER_M), WALL_ROWS - round((y + height) * TEXELS_PER_M)
        return (
            left,
            top,
            left + max(round(width * TEXELS_PER_M) - 1, 0),
            top + round(height * TEXELS_PER_M) - 1,
        )

    length = building.end_m - building.start_m
    wall.rectangle(box(building.start_m, 0, length, building.height_m), fill=building.colour)
    trim = tuple(min(255, round(c * 1.18)) for c in building.colour)
    dark = tuple(round(c * 0.72) for c in building.colour)
    wall.rectangle(box(building.start_m, building.height_m - 0.4, length, 0.4), fill=trim)
    wall.rectangle(box(building.start_m, 0, length, 0.6), fill=dark)
    columns = max(2, round(length / building.window_pitch_m))
    pitch = length / columns
    width = pitch * building.window_share
    for floor in range(building.floors):
        base = floor * building.floor_m
        if floor > 0:
            wall.rectangle(box(building.start_m, base - 0.1, length, 0.15), fill=trim)
        shop = floor == 0 and building.has_shops
        for column in range(columns):
            z = building.start_m + (column + 0.5) * pitch - width / 2
            glass = int(rng.integers(35, 95))
            colour = (glass, glass + 12, glass + 24)
            shines = int(rng.integers(110, 255)) if rng.random() < (0.6 if shop else 0.3) else 0
            if shop:
                z, w, y, h = building.start_m + column * pitch + 0.25, pitch - 0.5, 0.5, 2.2
                awning = building.awnings[column % len(building.awnings)]
                wall.rectangle(box(z, y + h, w, 0.6), fill=awning)
            elif floor == 0 and column == columns // 2:
                wall.rectangle(box(z, 0, width, 2.4), fill=dark)
                continue
            else:
                w, y, h = width, base + 0.9, building.floor_m - 1.4
            wall.rectangle(box(z - 0.12, y - 0.12, w + 0.24, h + 0.24), fill=trim)
            wall.rectangle(box(z, y, w, h), fill=colour)
            wall.rectangle(box(z, y + h * 0.55, w, 0.13), fill=trim)
            if rng.random() < 0.35 and not shop:  # a curtain or a blind
                cloth = int(rng.integers(130, 215))
                wall.rectangle(box(z, y + h * 0.6, w, h * 0.4), fill=(cloth, cloth, cloth - 12))
            lit.rectangle(box(z, y, w, h), fill=shines)


@dataclass(frozen=True)
class GroundTexture:
    """Grain, stains and clouds that repeat, and the roof line that casts the street's shadow.

    Attributes:
        grain, stains, clouds: float32 [NOISE_SIZE, NOISE_SIZE].
        roof_m: float32 [STREET_M], height of the buildings on the sunny side at every metre.
        front_m: distance of their facades from the middle of the road.
    """

    grain: NDArray[np.float32]
    stains: NDArray[np.float32]
    clouds: NDArray[np.float32]
    roof_m: NDArray[np.float32]
    front_m: float
    sun_side: int
    sun_slope: float

    def look_up(
        self, across_m: NDArray[np.float32], along_m: NDArray[np.float32], away_m: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Brightness of the ground, about 1, and how wet it gets, about -2 to 2; float32 like ``across_m``.

        What lies too far to be resolved fades out, so that it does not flicker.
        """
        mask = NOISE_SIZE - 1
        grain_row, grain_column = (
            (along_m * 12).astype(np.int32) & mask,
            (across_m * 40).astype(np.int32) & mask,
        )
        stain_row, stain_column = (
            (along_m * 8).astype(np.int32) & mask,
            (across_m * 16).astype(np.int32) & mask,
        )
        near = np.minimum(1, (9 / away_m) ** 2)
        stains = self.stains[stain_row, stain_column]
        fading = np.minimum(1, 30 / away_m)
        return 1 + 0.055 * near * self.grain[grain_row, grain_column] + 0.05 * fading * stains, stains

    def in_shadow(self, across_m: NDArray[np.float32], along_m: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where a building stands between the ground and the sun."""
        distance = np.maximum(self.front_m - self.sun_side * across_m, 0)
        row = (along_m + 0.6 * distance).astype(np.int32) % STREET_M
        shadowed: NDArray[np.bool_] = self.roof_m[row] > distance * self.sun_slope
        return shadowed

    def clouds_above(self, camera: Camera, horizon: int, width: int) -> NDArray[np.float32]:
        """Clouds on a flat layer high above, float32 [horizon, W] for an image of half the canvas' size."""
        rows = camera.horizon_px - np.arange(horizon, dtype=np.float32)[:, None] * 2 - 1
        distance = 110 * camera.focal_px / np.maximum(rows + 0.08 * camera.focal_px, 1)
        columns = np.arange(width, dtype=np.float32)[None] * 2 + 1 - camera.centre_px
        x = (columns * distance / camera.focal_px * 0.7).astype(np.int32) & (NOISE_SIZE - 1)
        y = ((distance + camera.z_m * 0.5) * 0.7).astype(np.int32) & (NOISE_SIZE - 1)
        found: NDArray[np.float32] = self.clouds[y, x]
        return found


def paint_ground(street: Street, rng: np.random.Generator) -> GroundTexture:
    """Textures of the ground and the sky of a street."""
    roof = np.zeros(STREET_M, np.float32)
    for building in street.buildings:
        if building.side == street.sun_side:
            roof[int(building.start_m) : int(building.end_m)] = building.height_m
    return GroundTexture(
        grain=tileable_noise(rng, NOISE_SIZE, 128, 3),
        stains=tileable_noise(rng, NOISE_SIZE, 16, 5),
        clouds=tileable_noise(rng, NOISE_SIZE, 8, 6),
        roof_m=roof,
        front_m=street.pavement_m,
        sun_side=street.sun_side,
        sun_slope=street.sun_slope,
    )
