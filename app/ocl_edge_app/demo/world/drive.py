"""One drive from a clear day into fog, rain, dusk and night, frame by frame with its labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import UsageError
from ocl_edge_app.demo.world.scene import Scene
from ocl_edge_app.demo.world.weather import DAY, DUSK, FOG, NIGHT, RAIN, Weather, expose

FRAMES_PER_S = 10.0
STRETCHES: dict[str, Weather] = {"day": DAY, "fog": FOG, "rain": RAIN, "dusk": DUSK, "night": NIGHT}
TURNING = 0.3
"""Share of a stretch in which the weather turns from the one before."""
FIRST_DRIVE_SEED = 1_000_000
"""Drives draw their streets from here on; training stays below."""


@dataclass(frozen=True)
class DriveFrame:
    """A frame of the drive.

    Attributes:
        image: uint8 [192, 320, 3] RGB.
        labels: uint8 [192, 320], indices into `classes.CLASSES`.
        stretch: name of the stretch, a key of `STRETCHES`.
        index: number of the frame, from 0.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    stretch: str
    index: int


def drive(frames: int, seed: int) -> Iterator[DriveFrame]:
    """The drive, its stretches equally long; the same seed gives the same bits.

    Args:
        frames: length, at `FRAMES_PER_S`.
        seed: 0 or more; the street, the clouds, the drops and the noise.

    Raises:
        UsageError: ``frames`` or ``seed`` below 0.
    """
    if frames < 0 or seed < 0:
        raise UsageError(f"expected a number of frames and a seed of 0 or more, got {frames} and {seed}")
    scene = Scene(FIRST_DRIVE_SEED + seed)
    for index in range(frames):
        stretch, weather = weather_at(index / frames)
        image, labels = record(scene, index / FRAMES_PER_S, weather, (FIRST_DRIVE_SEED + seed, index))
        yield DriveFrame(image, labels, stretch, index)


def day_frames(seed: int, times_s: list[float]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Day images and labels of one street at those times; each street has its own kind of day."""
    rng = np.random.default_rng((seed, 0xDA7))
    overcast = Weather(
        sun=0.0, daylight=(0.84, 0.86, 0.88), sky_top=(0.56, 0.6, 0.66), sky_low=(0.74, 0.77, 0.8)
    )
    weather = DAY.towards(overcast, float(rng.uniform(0, 1)) * float(rng.random() < 0.5))
    scene = Scene(seed)
    for index, time_s in enumerate(times_s):
        yield record(scene, time_s, weather, (seed, index))


def record(
    scene: Scene, time_s: float, weather: Weather, seed: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image uint8 [192, 320, 3] RGB and labels uint8 [192, 320] of a scene at a time, in that weather."""
    view = scene.view(time_s, weather.sun)
    return expose(view, weather, np.random.default_rng(seed)), view.labels


def weather_at(progress: float) -> tuple[str, Weather]:
    """The stretch, and the weather, after a share of the drive (0 to below 1)."""
    names = list(STRETCHES)
    place = progress * len(names)
    number = min(int(place), len(names) - 1)
    now = STRETCHES[names[number]]
    if number == 0:
        return names[0], now
    turned = min((place - number) / TURNING, 1.0)
    smooth = turned * turned * (3 - 2 * turned)
    return names[number], STRETCHES[names[number - 1]].towards(now, smooth)
