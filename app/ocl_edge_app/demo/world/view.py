"""Reads a drawn canvas: colour, labels, depth, light and ground, at half the canvas' size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocl_edge_app.demo.world.camera import Camera
from ocl_edge_app.demo.world.canvas import GROUND_M, Canvas, unpacked
from ocl_edge_app.demo.world.classes import SKY
from ocl_edge_app.demo.world.facades import FacadeTexture
from ocl_edge_app.demo.world.textures import GroundTexture

SKY_DEPTH_M = 2000.0
FARTHEST_GROUND_M = 400.0
WINDOW_LIGHT = (1.0, 0.8, 0.48)


@dataclass(frozen=True)
class View:
    """What the camera sees.

    Attributes:
        colour: uint8 [H, W, 3] RGB in plain daylight, black where the sky is.
        labels: uint8 [H, W], indices into `classes.CLASSES`.
        depth_m: float32 [H, W], distance along the camera's axis; `SKY_DEPTH_M` for the sky.
        sky, ground: float32 [H, W], share of the pixel that sky and ground fill, 0 to 1.
        sunlit: float32 [H, W], sunlight on and texture of the ground, about 0.3 to 1.1; 1 elsewhere.
        glow: uint8 [H, W, 3] RGB, light that lamps, windows and cars send out.
        lamplight: float32 [H, W], lamp light on the ground, 0 to 1.
        clouds: float32 [horizon, W], thickness of the clouds, about -2 to 2.
        puddles: float32 [H - horizon, W], how wet each place of the ground gets, about -2 to 2.
        horizon: first row below the horizon.
    """

    colour: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    sky: NDArray[np.float32]
    ground: NDArray[np.float32]
    sunlit: NDArray[np.float32]
    glow: NDArray[np.uint8]
    lamplight: NDArray[np.float32]
    clouds: NDArray[np.float32]
    puddles: NDArray[np.float32]
    horizon: int


def read_view(
    canvas: Canvas, camera: Camera, facades: FacadeTexture, ground: GroundTexture, sun: float
) -> View:
    """Read the canvas at half its size.

    Colours are the mean of four canvas pixels, labels and depths belong to the first of them.

    Args:
        canvas: drawn by a camera of twice the focal length; surface 0 is the sky.
        camera: at the canvas' scale.
        facades: texture of the buildings.
        ground: texture of ground and sky.
        sun: how much of a building's shadow is seen, 0 to 1.
    """
    numbers = canvas.numbers()
    labels, depths = canvas.labels(), canvas.depths()
    colour, glow = canvas.colours()[numbers], canvas.glows()[numbers]
    depth = depths[numbers]
    wall = canvas.walls()[numbers]
    _texture_walls(colour, glow, depth, wall, camera, facades)
    height, width = numbers.shape[0] // 2, numbers.shape[1] // 2
    horizon = int(np.ceil(camera.horizon_px / 2))
    away, across, along = ground_below(camera, height, width, horizon)
    depth = depth[::2, ::2].copy()
    below = depth[horizon:]
    np.copyto(below, np.broadcast_to(away, below.shape), where=below == GROUND_M)
    depth[depth == GROUND_M] = FARTHEST_GROUND_M  # ground that rounding has lifted above the horizon
    is_ground = depths == GROUND_M
    shade = canvas.ground_shadow()
    covered = _share(is_ground[numbers])
    light = np.ones((height, width), np.float32)
    texture, puddles = ground.look_up(across, along, away)
    cast = np.minimum(shade[horizon:], 1 - 0.42 * sun * ground.in_shadow(across, along))
    light[horizon:] += covered[horizon:] * (cast * texture - 1)
    return View(
        colour=unpacked(colour),
        labels=labels[numbers[::2, ::2]],
        depth_m=np.maximum(depth, 1.0),
        sky=_share(labels[numbers] == SKY),
        ground=covered,
        sunlit=light,
        glow=unpacked(glow),
        lamplight=canvas.ground_light() * covered,
        clouds=ground.clouds_above(camera, horizon, width),
        puddles=puddles,
        horizon=horizon,
    )


def ground_below(
    camera: Camera, height: int, width: int, horizon: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The ground behind the pixels below the horizon of an image of half the canvas' size.

    Returns:
        Distance [H - horizon, 1], x [H - horizon, W] and z [H - horizon, 1] in metres, float32.
    """
    rows = np.arange(horizon, height, dtype=np.float32)[:, None] * 2 + 1 - camera.horizon_px
    away = np.minimum(camera.focal_px * camera.height_m / np.maximum(rows, 0.1), FARTHEST_GROUND_M)
    columns = np.arange(width, dtype=np.float32)[None] * 2 + 1 - camera.centre_px
    return away, columns * (away / camera.focal_px) + camera.x_m, away + camera.z_m


def _share(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Share of each group of 2x2 that is set."""
    counts = mask.view(np.uint8)
    total: NDArray[np.uint8] = counts[::2, ::2] + counts[1::2, ::2] + counts[::2, 1::2] + counts[1::2, 1::2]
    share: NDArray[np.float32] = total.astype(np.float32) * np.float32(0.25)
    return share


def _texture_walls(
    colour: NDArray[np.uint32],
    glow: NDArray[np.uint32],
    depth: NDArray[np.float32],
    wall: NDArray[np.float32],
    camera: Camera,
    facades: FacadeTexture,
) -> None:
    """Give every facade pixel its own depth, colour and window light, in place."""
    row, column = np.nonzero(wall)
    offset = wall[row, column]
    across = column.astype(np.float32) + 0.5 - camera.centre_px
    across = np.where(np.abs(across) < 1, np.copysign(1, offset), across)
    away = np.clip(camera.focal_px * offset / across, 1, FARTHEST_GROUND_M).astype(np.float32)
    up = camera.height_m - (row.astype(np.float32) + 0.5 - camera.horizon_px) * away / camera.focal_px
    per_pixel = away / camera.focal_px
    footprint = per_pixel * np.sqrt(np.maximum(away / np.abs(offset), 1))
    texel = facades.look_up(away + camera.z_m, up.astype(np.float32), offset > 0, footprint)
    brightness = (colour[row, column] & 255).astype(np.float32) / 255
    levels = texel.view(np.uint8).reshape(-1, 4)
    rgbx = (levels * brightness[:, None]).astype(np.uint8)
    lit = (levels[:, 3:] * np.array((*WINDOW_LIGHT, 0), np.float32)).astype(np.uint8)
    colour[row, column] = rgbx.view(np.uint32)[:, 0]
    glow[row, column] = np.ascontiguousarray(lit).view(np.uint32)[:, 0]
    depth[row, column] = away
