"""What a street consists of: buildings, trees, lamps, signs, cars and people, and where they stand.

The street repeats after `STREET_M`, so a drive of any length finds something to see.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocl_edge_app.demo.world.canvas import Colour

STREET_M = 256


@dataclass(frozen=True)
class Building:
    """A house: ``side`` -1 left or 1 right; its facade stands at x = side * front_m."""

    side: int
    start_m: float
    end_m: float
    front_m: float
    floors: int
    floor_m: float
    height_m: float
    colour: Colour
    roof: Colour | None
    window_pitch_m: float
    window_share: float
    has_shops: bool
    awnings: tuple[Colour, ...]


@dataclass(frozen=True)
class Tree:
    x_m: float
    z_m: float
    height_m: float
    crown_m: float
    colour: Colour
    blobs: tuple[tuple[float, float, float, float], ...]
    """x, y, radius (in crown radii) and brightness of each clump of leaves."""


@dataclass(frozen=True)
class Lamp:
    side: int
    x_m: float
    z_m: float
    height_m: float


@dataclass(frozen=True)
class Sign:
    x_m: float
    z_m: float
    kind: int
    size_m: float
    height_m: float


@dataclass(frozen=True)
class Car:
    """A car; ``speed_mps`` along z: 0 parked, below 0 oncoming."""

    x_m: float
    z_m: float
    speed_mps: float
    colour: Colour
    length_m: float
    width_m: float
    height_m: float
    faces_us: bool
    is_van: bool


@dataclass(frozen=True)
class Walker:
    """Someone on foot: along a pavement, or across the road at ``z_m`` if ``crosses``."""

    x_m: float
    z_m: float
    speed_mps: float
    height_m: float
    shirt: Colour
    trousers: Colour
    skin: Colour
    phase: float
    crosses: bool


@dataclass(frozen=True)
class Street:
    """The whole street; widths in metres from the middle of the road, sun by side and slope."""

    road_m: float
    pavement_m: float
    buildings: tuple[Building, ...]
    trees: tuple[Tree, ...]
    lamps: tuple[Lamp, ...]
    signs: tuple[Sign, ...]
    cars: tuple[Car, ...]
    walkers: tuple[Walker, ...]
    crossings_m: tuple[float, ...]
    road_grey: int
    pavement_colour: Colour
    sun_side: int
    sun_slope: float
