"""Weather and time of day: what happens to light on its way from the street to the sensor.

Light is added and weakened in linear units (the square of a pixel's value), as a camera
would see it, and turned into pixels at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ocl_edge_app.demo.world.view import View

Rgb = tuple[float, float, float]
Light = NDArray[np.float32]


@dataclass(frozen=True)
class Weather:
    """One moment's weather; linear light, 1 is a white wall in plain daylight.

    Attributes:
        daylight: RGB of the light that falls on everything.
        sun: 0 overcast to 1 clear: how hard shadows are, how blue the sky.
        sky_top, sky_low: RGB of the sky overhead and at the horizon.
        fog_per_m: extinction coefficient; visibility is about 3 divided by it.
        fog: RGB of the fog.
        rain: 0 to 1: streaks, a wet road that mirrors, drops that scatter light.
        lamps: 0 to 1: street lamps, windows, and the lights of the cars.
        exposure: gain of the camera.
        noise: standard deviation of the sensor's noise, a little lower where it is bright (after the gamma).
        blur_px: radius of the blur of a wet or wide-open lens.
    """

    daylight: Rgb = (1.0, 1.0, 1.0)
    sun: float = 1.0
    sky_top: Rgb = (0.16, 0.34, 0.72)
    sky_low: Rgb = (0.62, 0.76, 0.9)
    fog_per_m: float = 0.0012
    fog: Rgb = (0.62, 0.72, 0.82)
    rain: float = 0.0
    lamps: float = 0.0
    exposure: float = 1.0
    noise: float = 0.006
    blur_px: float = 0.0

    def towards(self, other: Weather, share: float) -> Weather:
        """The weather on the way to another: 0 is this one, 1 the other."""
        mixed: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, tuple):
                mixed[field.name] = tuple(
                    a * (1 - share) + b * share for a, b in zip(mine, theirs, strict=True)
                )
            else:
                mixed[field.name] = mine * (1 - share) + theirs * share
        return Weather(**mixed)


DAY = Weather()
FOG = Weather(
    daylight=(0.8, 0.82, 0.84), sun=0.0, sky_top=(0.62, 0.64, 0.66), sky_low=(0.6, 0.62, 0.64),
    fog_per_m=0.045, fog=(0.6, 0.62, 0.64), lamps=0.15, noise=0.008,
)  # fmt: skip
RAIN = Weather(
    daylight=(0.4, 0.43, 0.48), sun=0.0, sky_top=(0.26, 0.29, 0.33), sky_low=(0.4, 0.43, 0.47),
    fog_per_m=0.012, fog=(0.34, 0.37, 0.41), rain=1.0, lamps=0.35, exposure=1.15, noise=0.014, blur_px=0.5,
)  # fmt: skip
DUSK = Weather(
    daylight=(0.2, 0.15, 0.18), sun=0.1, sky_top=(0.12, 0.12, 0.26), sky_low=(0.75, 0.36, 0.2),
    fog_per_m=0.004, fog=(0.3, 0.18, 0.16), lamps=0.7, exposure=1.2, noise=0.02,
)  # fmt: skip
NIGHT = Weather(
    daylight=(0.016, 0.02, 0.034), sun=0.0, sky_top=(0.004, 0.006, 0.016), sky_low=(0.03, 0.028, 0.034),
    fog_per_m=0.004, fog=(0.012, 0.012, 0.016), lamps=1.0, exposure=1.7, noise=0.03, blur_px=0.4,
)  # fmt: skip


def expose(view: View, weather: Weather, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the camera records of a view in that weather.

    Args:
        view: from `Scene.view`.
        weather: at this moment.
        rng: of this frame: rain streaks and sensor noise.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    light = _surfaces(view, weather)
    light += view.sky[..., None] * _sky(view, weather)
    if weather.lamps > 0:
        light += _glow(view.glow, weather)
    seen = np.exp(-weather.fog_per_m * np.minimum(view.depth_m, 400))[..., None]
    seen = np.maximum(seen, view.sky[..., None] * np.float32(np.exp(-weather.fog_per_m * 90)))
    light *= seen
    light += (1 - seen) * np.array(weather.fog, np.float32)
    if weather.rain > 0:
        _wet_ground(light, view, weather.rain)
        _rain_streaks(light, weather.rain, rng)
    return _record(light, weather, rng)


def _surfaces(view: View, weather: Weather) -> Light:
    """Everything but the sky under daylight, lamps and our own headlights."""
    albedo: Light = np.square(view.colour.astype(np.float32) * np.float32(1 / 255))
    daylight = np.array(weather.daylight, np.float32)
    albedo *= np.square(view.sunlit)[..., None]
    if weather.lamps == 0:
        albedo *= daylight
        return albedo
    lamp = (view.lamplight * np.float32(0.5 * weather.lamps))[..., None] * np.array((1, 0.8, 0.5), np.float32)
    beam = (_headlight_beam(view) * np.float32(0.55 * weather.lamps))[..., None] * np.array(
        (1, 0.96, 0.86), np.float32
    )
    lit: Light = albedo * (daylight + lamp + beam)
    return lit


def _headlight_beam(view: View) -> Light:
    """Light of our headlights on what stands there, [H, W]: a cone that fades with distance."""
    height, width = view.labels.shape
    across = np.abs(np.arange(width, dtype=np.float32) / width - 0.52)[None] * 2
    down = (np.arange(height, dtype=np.float32)[:, None] - view.horizon) / height
    cone = np.exp(-np.square(across / 0.62)) / (1 + np.exp(-(down + 0.02) * 45))
    falloff = 1 / (1 + np.square(view.depth_m / 16))
    beam: Light = cone * falloff
    return beam


def _sky(view: View, weather: Weather) -> Light:
    """A gradient with clouds, [H, W, 3]; black below the horizon."""
    height, width = view.labels.shape
    sky = np.zeros((height, width, 3), np.float32)
    up = (1 - np.arange(view.horizon, dtype=np.float32) / view.horizon)[:, None, None]
    clear = np.array(weather.sky_low) * (1 - up) ** 1.0 + np.array(weather.sky_top) * up
    cover = np.clip(0.35 + 0.55 * view.clouds - 0.15 * weather.sun, 0, 1)[..., None] * np.minimum(
        1, up * 4 + 0.25
    )
    white = np.array(weather.sky_low) * (1.05 + 0.18 * view.clouds[..., None])
    sky[: view.horizon] = clear * (1 - 0.85 * cover) + white * 0.85 * cover
    sky[view.horizon :] = weather.sky_low
    return sky


def _glow(glow: NDArray[np.uint8], weather: Weather) -> Light:
    """The lamps themselves and the halo that lens and wet air give them."""
    strength = weather.lamps * (0.3 + 0.7 * (1 - min(1.0, weather.daylight[1])))
    sharp = np.square(glow.astype(np.float32) * np.float32(1 / 255))
    small = Image.fromarray(glow).reduce(2)
    near = small.filter(ImageFilter.BoxBlur(3)).resize(glow.shape[1::-1], Image.Resampling.BILINEAR)
    wide = small.reduce(2).filter(ImageFilter.BoxBlur(5)).resize(glow.shape[1::-1], Image.Resampling.BILINEAR)
    halo = (np.asarray(near, np.float32) + np.asarray(wide, np.float32)) * np.float32(0.5 / 255)
    lit: Light = np.float32(0.8 * strength) * sharp
    lit += np.float32(0.88 * strength * (1 + weather.rain)) * np.square(halo)
    return lit


def _wet_ground(light: Light, view: View, rain: float) -> None:
    """Wet ground is darker and mirrors what stands beyond it, most of all in puddles and far away."""
    horizon, height = view.horizon, light.shape[0]
    rows = np.arange(horizon, height)
    above = light[np.clip(2 * horizon - 1 - rows, 0, height - 1)]
    mirrored = (above + np.roll(above, 2, 0) + np.roll(above, -2, 0)) / 3
    grazing = np.linspace(0.5, 0.16, len(rows), dtype=np.float32)[:, None]
    wet = grazing * np.clip(0.75 + 0.35 * view.puddles, 0.25, 1.5) * view.ground[horizon:] * rain
    wet = wet[..., None]
    light[horizon:] *= 1 - 0.4 * rain * view.ground[horizon:, :, None]
    light[horizon:] += wet * (mirrored - 0.4 * light[horizon:])


def _rain_streaks(light: Light, rain: float, rng: np.random.Generator) -> None:
    """Falling drops, blurred by the exposure into short bright lines, near ones long and few."""
    height, width = light.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    for count, length, strength in ((420, 7, 0.05), (110, 16, 0.08), (26, 34, 0.1)):
        number = int(count * rain)
        x, y = rng.integers(0, width, number), rng.integers(-length, height, number)
        steps = np.arange(length)
        rows = (y[:, None] + steps).ravel()
        columns = ((x[:, None] + steps // 6) % width).ravel()
        inside = (rows >= 0) & (rows < height)
        streaks[rows[inside], columns[inside]] += strength
    level = 0.25 + light.mean()
    light += (streaks * np.float32(level * 1.6))[..., None]


def _record(light: Light, weather: Weather, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure, lens, sensor noise and quantisation."""
    light *= np.float32(weather.exposure) * _vignette(*light.shape[:2])
    np.clip(light, 0, 1.4, out=light)
    pixels: Light = np.sqrt(light)
    excess = np.maximum(pixels - np.float32(0.85), 0)
    pixels -= excess * excess / (excess + np.float32(0.15))  # highlights approach white without reaching it
    if weather.blur_px > 0:
        image = Image.fromarray((pixels * 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(weather.blur_px)
        )
        pixels = np.asarray(image, np.float32) * np.float32(1 / 255)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels = pixels + noise * (np.float32(1.25) - np.float32(0.5) * pixels) * np.float32(weather.noise)
    recorded: NDArray[np.uint8] = np.clip(pixels * 255 + 0.5, 0, 255).astype(np.uint8)
    return recorded


def _vignette(height: int, width: int) -> Light:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    brightness: Light = (1 - np.float32(0.1) * (x * x + y * y))[..., None]
    return brightness
