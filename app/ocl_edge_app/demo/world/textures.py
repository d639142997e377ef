"""Textures of ground and sky, made from noise once per street and looked up for every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocl_edge_app.demo.world.camera import Camera
from ocl_edge_app.demo.world.layout import STREET_M, Street

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
