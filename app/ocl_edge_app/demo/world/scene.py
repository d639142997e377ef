"""A drawn street as a video with exact labels: a camera drives along it, cars and people move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ocl_edge_app.demo.world.camera import Camera
from ocl_edge_app.demo.world.canvas import DARK, Canvas
from ocl_edge_app.demo.world.classes import SKY
from ocl_edge_app.demo.world.draw_car import draw_car
from ocl_edge_app.demo.world.draw_ground import ahead_of, draw_buildings, draw_ground, draw_skyline
from ocl_edge_app.demo.world.draw_objects import draw_lamp, draw_sign, draw_tree, draw_walker
from ocl_edge_app.demo.world.facades import paint_facades
from ocl_edge_app.demo.world.layout import STREET_M, Car, Walker
from ocl_edge_app.demo.world.random_street import random_street
from ocl_edge_app.demo.world.textures import paint_ground
from ocl_edge_app.demo.world.view import SKY_DEPTH_M, View, read_view

HEIGHT, WIDTH = 192, 320
SPEED_MPS = 8.0
OBJECTS_SEEN_M = 75.0
LAMP_POOL_M = 5.5
Thing = tuple[float, Callable[[], None]]
"""How far away something stands, and what draws it."""


class Scene:
    """One street, the same for the same seed.

    Args:
        seed: decides everything that is drawn at random.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng((seed, 0x57EE7))
        self.street = random_street(rng)
        self._facades = paint_facades(self.street, rng)
        self._ground = paint_ground(self.street, rng)
        self._start_m = float(rng.uniform(0, STREET_M))
        self._phase = float(rng.uniform(0, 2 * math.pi))
        self._focal = float(rng.uniform(0.76, 0.9)) * WIDTH
        self._height_m = float(rng.uniform(1.35, 1.7))

    def camera(self, time_s: float, scale: int = 1) -> Camera:
        """The camera at a time, for an image ``scale`` times 320x192."""
        sway = math.sin(0.35 * time_s + self._phase)
        return Camera(
            x_m=1.75 + 0.25 * sway,
            height_m=self._height_m,
            z_m=(self._start_m + SPEED_MPS * time_s) % STREET_M,
            focal_px=self._focal * scale,
            centre_px=(WIDTH / 2 + 7 * math.sin(0.23 * time_s + 2 * self._phase)) * scale,
            horizon_px=(0.45 * HEIGHT + 0.8 * math.sin(2.1 * time_s + self._phase)) * scale,
        )

    def view(self, time_s: float, sun: float = 1.0) -> View:
        """What is seen at ``time_s`` seconds; ``sun``: 1 casts full shadows, 0 is overcast."""
        camera = self.camera(time_s, scale=2)
        canvas = Canvas(2 * WIDTH, 2 * HEIGHT)
        canvas.surface(SKY, DARK, SKY_DEPTH_M)
        draw_skyline(canvas, camera)
        draw_ground(canvas, camera, self.street)
        draw_buildings(canvas, camera, self.street, sun)
        self._draw_objects(canvas, camera, time_s, sun)
        return read_view(canvas, camera, self._facades, self._ground, sun)

    def car_at(self, car: Car, camera: Camera, time_s: float) -> float:
        """Distance to the car's nearer end."""
        travelled = car.speed_mps * time_s
        if car.speed_mps > 0:  # drives ahead of us, a little nearer and farther in turn
            return car.z_m + 2.5 * math.sin(0.4 * time_s + self._phase)
        return ahead_of(camera, car.z_m + travelled, car.length_m)

    def walker_at(self, walker: Walker, camera: Camera, time_s: float) -> tuple[float, float]:
        """x of a person, and the distance to them. Who crosses the road is over before we arrive."""
        if not walker.crosses:
            return walker.x_m, ahead_of(camera, walker.z_m + walker.speed_mps * time_s)
        ahead = ahead_of(camera, walker.z_m)
        return walker.x_m * (1 - 2 * min(max((58 - ahead) / 48, 0), 1)), ahead

    def _draw_objects(self, canvas: Canvas, camera: Camera, time_s: float, sun: float) -> None:
        """Everything that stands on the ground, the far things first; their shadows lie below all."""
        things = [
            *self._cars(canvas, camera, time_s),
            *self._trees(canvas, camera, sun),
            *self._lamps(canvas, camera),
            *self._signs(canvas, camera, time_s),
            *self._walkers(canvas, camera, time_s, sun),
        ]
        for _, draw in sorted(things, key=lambda thing: -thing[0]):
            draw()

    def _cars(self, canvas: Canvas, camera: Camera, time_s: float) -> Iterator[Thing]:
        for car in self.street.cars:
            ahead = self.car_at(car, camera, time_s)
            if 1.5 - car.length_m < ahead < OBJECTS_SEEN_M:
                yield ahead, partial(draw_car, canvas, camera, car, car.x_m, ahead)
                half = car.width_m / 2 + 0.15
                corners = ((-half, 0), (-half, car.length_m), (half, car.length_m), (half, 0))
                canvas.shadow([camera.project(car.x_m + x, 0, ahead + z) for x, z in corners], 80)

    def _trees(self, canvas: Canvas, camera: Camera, sun: float) -> Iterator[Thing]:
        for tree in self.street.trees:
            ahead = ahead_of(camera, tree.z_m)
            if 2 < ahead < OBJECTS_SEEN_M:
                yield ahead, partial(draw_tree, canvas, camera, tree, ahead, sun)
                x = tree.x_m - self.street.sun_side * min(tree.height_m / self.street.sun_slope / 2, 4)
                wide = 1.2 * tree.crown_m * camera.pixels_per_metre(ahead)
                deep = _foreshortened(camera, ahead, tree.crown_m)
                canvas.shadow_ellipse(camera.project(x, 0, ahead), wide, deep, _shadow(sun))

    def _lamps(self, canvas: Canvas, camera: Camera) -> Iterator[Thing]:
        for lamp in self.street.lamps:
            ahead = ahead_of(camera, lamp.z_m)
            if 2 < ahead < OBJECTS_SEEN_M + 20:
                yield ahead, partial(draw_lamp, canvas, camera, lamp, ahead)
                wide = LAMP_POOL_M * camera.pixels_per_metre(ahead)
                centre = camera.project(lamp.x_m - lamp.side * 1.7, 0, ahead)
                canvas.light_pool(centre, wide, _foreshortened(camera, ahead, LAMP_POOL_M))

    def _signs(self, canvas: Canvas, camera: Camera, time_s: float) -> Iterator[Thing]:
        for sign in self.street.signs:
            ahead = ahead_of(camera, sign.z_m)
            if 2 < ahead < OBJECTS_SEEN_M:
                yield ahead, partial(draw_sign, canvas, camera, sign, ahead, time_s)

    def _walkers(self, canvas: Canvas, camera: Camera, time_s: float, sun: float) -> Iterator[Thing]:
        for walker in self.street.walkers:
            x, ahead = self.walker_at(walker, camera, time_s)
            if 2 < ahead < OBJECTS_SEEN_M:
                yield ahead, partial(draw_walker, canvas, camera, walker, x, ahead, time_s)
                wide = 0.4 * camera.pixels_per_metre(ahead)
                deep = _foreshortened(camera, ahead, 0.25)
                canvas.shadow_ellipse(camera.project(x, 0, ahead), wide, deep, _shadow(sun))


def _shadow(sun: float) -> int:
    """Brightness of the ground where something keeps the sun off, of 255."""
    return round(255 * (1 - 0.42 * sun))


def _foreshortened(camera: Camera, ahead: float, radius_m: float) -> float:
    """Half the height in pixels of a disc of that radius that lies on the ground."""
    near, far = max(ahead - radius_m, 1.0), ahead + radius_m
    return camera.focal_px * camera.height_m * (1 / near - 1 / far) / 2
