"""Draws a car: a body, a cabin, wheels, glass and lights, from behind or from the front."""

from __future__ import annotations

import math

from ocl_edge_app.demo.world.camera import NEAR_M, Camera
from ocl_edge_app.demo.world.canvas import DARK, Canvas, Colour
from ocl_edge_app.demo.world.classes import CAR
from ocl_edge_app.demo.world.draw_ground import shaded
from ocl_edge_app.demo.world.layout import Car

GLASS: Colour = (52, 64, 74)
HEADLIGHT: Colour = (255, 246, 220)
TAIL_LIGHT: Colour = (210, 24, 20)
GROUND_CLEARANCE_M = 0.28


def draw_car(canvas: Canvas, camera: Camera, car: Car, x_m: float, ahead: float) -> None:
    """The faces that the camera can see, the farther ones first; ``ahead``: distance to the nearer end."""
    _draw_side(canvas, camera, car, x_m, ahead)
    if ahead > NEAR_M:
        _draw_near_end(canvas, camera, car, x_m, ahead)


def waist_m(car: Car) -> float:
    """Height of the bonnet, where the glass begins."""
    return 1.15 if car.is_van else 0.62 * car.height_m


def _draw_side(canvas: Canvas, camera: Camera, car: Car, x_m: float, ahead: float) -> None:
    towards = -1 if x_m > camera.x_m else 1
    x = x_m + towards * car.width_m / 2
    far, waist = ahead + car.length_m, waist_m(car)
    front, back = (0.1, 0.1) if car.is_van else (0.9, 1.1)
    inner = x - towards * 0.14
    depth = max(ahead + car.length_m / 2, NEAR_M)

    def quad(colour: Colour, points: tuple[tuple[float, float, float], ...]) -> None:
        surface = canvas.surface(CAR, colour, depth)
        canvas.polygon(surface, [camera.project(*p) for p in points])

    side = shaded(car.colour, 0.78)
    quad(
        side,
        ((x, GROUND_CLEARANCE_M, ahead), (x, waist, ahead), (x, waist, far), (x, GROUND_CLEARANCE_M, far)),
    )
    quad(
        shaded(side, 0.7),
        ((x, GROUND_CLEARANCE_M, ahead), (x, 0.45, ahead), (x, 0.45, far), (x, GROUND_CLEARANCE_M, far)),
    )
    top = car.height_m
    cabin = (
        (x, waist, ahead + front * 0.5),
        (inner, top, ahead + front),
        (inner, top, far - back),
        (x, waist, far - back * 0.6),
    )
    quad(side, cabin)
    quad(
        GLASS,
        (
            (x, waist + 0.04, ahead + front * 0.5 + 0.25),
            (inner, top - 0.1, ahead + front + 0.15),
            (inner, top - 0.1, far - back - 0.15),
            (x, waist + 0.04, far - back * 0.6 - 0.25),
        ),
    )
    middle = (ahead + far) / 2
    quad(
        side,
        (
            (x, waist, middle - 0.06),
            (inner, top, middle - 0.06),
            (inner, top, middle + 0.06),
            (x, waist, middle + 0.06),
        ),
    )
    for wheel_z in (ahead + 0.8, far - 0.8):
        if wheel_z < NEAR_M + 0.4:
            continue
        for radius, colour in ((0.33, (26, 26, 28)), (0.17, (120, 122, 126))):
            quad(
                colour,
                tuple(
                    (x, 0.33 + radius * math.sin(a * 0.628), wheel_z + radius * math.cos(a * 0.628))
                    for a in range(10)
                ),
            )


def _draw_near_end(canvas: Canvas, camera: Camera, car: Car, x_m: float, ahead: float) -> None:
    half, waist, top = car.width_m / 2, waist_m(car), car.height_m
    slope = 0.12 if car.is_van else 0.9
    lit = shaded(car.colour, 1.12)

    def quad(colour: Colour, left: float, right: float, low: float, high: float, glow: Colour = DARK) -> None:
        surface = canvas.surface(CAR, colour, ahead, glow)
        corners = ((left, low), (left, high), (right, high), (right, low))
        canvas.polygon(surface, [camera.project(x_m + across, up, ahead) for across, up in corners])

    def pane(colour: Colour, inset: float, low: float, high: float) -> None:
        """Part of the inclined face of the cabin; heights as a share of it."""
        surface = canvas.surface(CAR, colour, ahead)
        points = []
        for share, sign in ((low, -1), (high, -1), (high, 1), (low, 1)):
            width = half - inset - 0.14 * share
            z = ahead + slope * (0.5 + 0.5 * share)
            points.append(camera.project(x_m + sign * width, waist + (top - waist) * share, z))
        canvas.polygon(surface, points)

    for side in (-1, 1):
        quad((24, 24, 26), side * half - 0.12 - side * 0.12, side * half + 0.12 - side * 0.12, 0.0, 0.5)
    bonnet = canvas.surface(CAR, shaded(car.colour, 1.25), ahead)
    canvas.polygon(
        bonnet,
        [
            camera.project(x_m + s * half, waist, ahead + d)
            for s, d in ((-1, 0.0), (-1, slope * 0.5), (1, slope * 0.5), (1, 0.0))
        ],
    )
    pane(car.colour, 0.0, 0.0, 1.0)
    pane(GLASS, 0.1, 0.06, 0.86)
    pane(shaded(GLASS, 1.5), 0.1, 0.62, 0.86)  # the sky in the glass
    quad(car.colour, -half, half, GROUND_CLEARANCE_M, waist)
    quad(lit, -half, half, waist - 0.1, waist)
    quad(shaded(car.colour, 0.45), -half, half, GROUND_CLEARANCE_M, 0.42)
    quad((220, 220, 212) if car.faces_us else (226, 206, 120), -0.26, 0.26, 0.46, 0.57)
    light, glow = ((236, 236, 226), HEADLIGHT) if car.faces_us else (TAIL_LIGHT, (255, 30, 20))
    if car.faces_us:
        quad((34, 34, 36), -half * 0.5, half * 0.5, 0.6, waist - 0.12)
    parked = car.speed_mps == 0
    for side in (-1, 1):
        outer, inner = side * (half - 0.05), side * (half - 0.42)
        quad(light, min(outer, inner), max(outer, inner), waist - 0.27, waist - 0.1, DARK if parked else glow)
