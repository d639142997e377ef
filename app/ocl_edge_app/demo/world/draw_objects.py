"""Draws what stands and moves on the ground: trees, lamps, signs, people."""

from __future__ import annotations

import math

from ocl_edge_app.demo.world.camera import Camera, Point
from ocl_edge_app.demo.world.canvas import DARK, Canvas, Colour
from ocl_edge_app.demo.world.classes import PEDESTRIAN, POLE, SIGN, TREE
from ocl_edge_app.demo.world.draw_ground import shaded
from ocl_edge_app.demo.world.layout import Lamp, Sign, Tree, Walker

METAL: Colour = (96, 102, 104)
LAMP_LIGHT: Colour = (255, 214, 150)
WHITE: Colour = (236, 236, 232)
RED: Colour = (196, 26, 34)
BLUE: Colour = (28, 78, 168)

Shape = tuple[Point, ...]
"""Corners around the middle of a sign, in its radii."""
Face = tuple[Colour, Shape, Colour]
"""Colour, corners and glow of one part of a sign; later parts cover earlier ones."""


def _scaled(shape: Shape, size: float) -> Shape:
    return tuple((across * size, down * size) for across, down in shape)


def _bar(width: float, height: float) -> Shape:
    return ((-width, -height), (width, -height), (width, height), (-width, height))


DISC: Shape = tuple((math.cos(a * math.pi / 6), math.sin(a * math.pi / 6)) for a in range(12))
OCTAGON: Shape = tuple((math.cos(a * math.pi / 4 + 0.39), math.sin(a * math.pi / 4 + 0.39)) for a in range(8))
DIAMOND: Shape = ((0, -1.15), (1.15, 0), (0, 1.15), (-1.15, 0))
LETTER_P: Shape = ((-0.3, -0.6), (0.3, -0.6), (0.3, 0.0), (-0.05, 0.0), (-0.05, 0.6), (-0.3, 0.6))
SPEED_LIMIT: tuple[Face, ...] = (
    (RED, DISC, DARK),
    (WHITE, _scaled(DISC, 0.74), DARK),
    ((30, 30, 30), _scaled(_bar(0.4, 0.3), 0.8), DARK),
)
WARNING: tuple[Face, ...] = (
    (RED, ((0, -1.1), (1.1, 0.9), (-1.1, 0.9)), DARK),
    (WHITE, _scaled(((0, -0.9), (1.1, 1.0), (-1.1, 1.0)), 0.68), DARK),
)
PARKING: tuple[Face, ...] = (
    (WHITE, _bar(0.9, 0.9), DARK),
    (BLUE, _bar(0.8, 0.8), DARK),
    (WHITE, _scaled(LETTER_P, 0.8), DARK),
)
STOP: tuple[Face, ...] = (
    (WHITE, _scaled(OCTAGON, 1.05), DARK),
    (RED, _scaled(OCTAGON, 0.95), DARK),
    (WHITE, _bar(0.6, 0.18), DARK),
)
PRIORITY_ROAD: tuple[Face, ...] = ((WHITE, DIAMOND, DARK), ((238, 186, 28), _scaled(DIAMOND, 0.74), DARK))
SIGN_FACES = (SPEED_LIMIT, WARNING, PARKING, STOP, PRIORITY_ROAD)


def draw_tree(canvas: Canvas, camera: Camera, tree: Tree, ahead: float, sun: float) -> None:
    """A trunk, and a crown of clumps that are brighter on top."""
    scale = camera.pixels_per_metre(ahead)
    x, foot = camera.project(tree.x_m, 0, ahead)
    crown_y = foot - (tree.height_m - tree.crown_m) * scale
    bark = canvas.surface(TREE, (84, 66, 50), ahead)
    half = 0.14 * scale
    canvas.polygon(
        bark, ((x - half, foot), (x - half * 0.7, crown_y), (x + half * 0.7, crown_y), (x + half, foot))
    )
    radius = tree.crown_m * scale
    canvas.ellipse(
        canvas.surface(TREE, shaded(tree.colour, 0.6), ahead), (x, crown_y), radius * 0.8, radius * 0.7
    )
    for across, up, size, brightness in tree.blobs[:: 1 if ahead < 45 else 2]:
        leaves = canvas.surface(TREE, shaded(tree.colour, 1 + (brightness - 1) * (0.5 + 0.9 * sun)), ahead)
        centre = (x + across * radius, crown_y - up * radius)
        canvas.ellipse(leaves, centre, size * radius, size * radius * 0.85)


def draw_lamp(canvas: Canvas, camera: Camera, lamp: Lamp, ahead: float) -> None:
    """A street lamp whose arm reaches over the road."""
    scale = camera.pixels_per_metre(ahead)
    metal = canvas.surface(POLE, METAL, ahead)
    half = max(0.075 * scale, 0.6)
    x, foot = camera.project(lamp.x_m, 0, ahead)
    _, top = camera.project(lamp.x_m, lamp.height_m, ahead)
    canvas.polygon(metal, ((x - half, foot), (x - half * 0.7, top), (x + half * 0.7, top), (x + half, foot)))
    end = x - lamp.side * 1.5 * scale
    canvas.polygon(
        metal, ((x, top), (end, top - 0.25 * scale), (end, top - 0.12 * scale), (x, top + 2 * half))
    )
    light = canvas.surface(POLE, (206, 204, 190), ahead, glow=LAMP_LIGHT)
    low, long = top - 0.1 * scale, 0.55 * scale
    canvas.polygon(
        light,
        (
            (end, low - 0.14 * scale),
            (end - lamp.side * long, low - 0.14 * scale),
            (end - lamp.side * long, low + 0.06 * scale),
            (end, low + 0.06 * scale),
        ),
    )


def draw_sign(canvas: Canvas, camera: Camera, sign: Sign, ahead: float, time_s: float) -> None:
    """A traffic sign (`SIGN_FACES`) or, of any other kind, a traffic light, on its pole."""
    scale = camera.pixels_per_metre(ahead)
    x, foot = camera.project(sign.x_m, 0, ahead)
    _, y = camera.project(sign.x_m, sign.height_m, ahead)
    half = max(0.05 * scale, 0.5)
    pole = canvas.surface(POLE, (128, 132, 134), ahead)
    canvas.polygon(pole, ((x - half, foot), (x - half, y), (x + half, y), (x + half, foot)))
    radius = sign.size_m * scale / 2
    faces = SIGN_FACES[sign.kind] if sign.kind < len(SIGN_FACES) else _traffic_light(time_s + sign.z_m)
    for colour, shape, glow in faces:
        plate = canvas.surface(SIGN, colour, ahead, glow)
        canvas.polygon(plate, [(x + across * radius, y + down * radius) for across, down in shape])


def _traffic_light(clock_s: float) -> tuple[Face, ...]:
    """6 s green, 1 s amber, 5 s red."""
    phase = clock_s % 12
    lit = 2 if phase < 6 else 1 if phase < 7 else 0
    lenses = tuple(
        (
            colour if position == lit else shaded(colour, 0.25),
            tuple((across * 0.34, down * 0.34 + (position - 1) * 0.76) for across, down in DISC),
            colour if position == lit else DARK,
        )
        for position, colour in enumerate(((255, 50, 40), (255, 190, 50), (60, 240, 130)))
    )
    return (((34, 36, 36), ((-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)), DARK), *lenses)


def draw_walker(
    canvas: Canvas, camera: Camera, walker: Walker, x_m: float, ahead: float, time_s: float
) -> None:
    """A person in mid-stride."""
    scale = camera.pixels_per_metre(ahead)
    x, foot = camera.project(x_m, 0, ahead)
    tall = walker.height_m * scale
    swing = math.sin(walker.phase + time_s * 6.5) * 0.16 if walker.speed_mps else 0.04
    trousers = canvas.surface(PEDESTRIAN, walker.trousers, ahead)
    shoes = canvas.surface(PEDESTRIAN, (40, 36, 36), ahead)
    shirt = canvas.surface(PEDESTRIAN, walker.shirt, ahead)
    sleeve = canvas.surface(PEDESTRIAN, shaded(walker.shirt, 0.8), ahead)
    skin = canvas.surface(PEDESTRIAN, walker.skin, ahead)
    hair = canvas.surface(PEDESTRIAN, shaded(walker.skin, 0.35), ahead)
    hip, shoulder, w = foot - 0.5 * tall, foot - 0.83 * tall, 0.055 * tall
    for leg in (swing, -swing):
        at = x + leg * tall
        canvas.polygon(trousers, ((x - w, hip), (x + w, hip), (at + w * 0.8, foot), (at - w * 0.8, foot)))
        canvas.polygon(
            shoes,
            ((at - w, foot), (at - w, foot - 0.04 * tall), (at + w, foot - 0.04 * tall), (at + w, foot)),
        )
    body = 0.105 * tall
    canvas.polygon(
        shirt,
        ((x - body, shoulder), (x + body, shoulder), (x + body * 0.85, hip + w), (x - body * 0.85, hip + w)),
    )
    for arm in (-1, 1):
        hand = x + arm * body * 1.25 + arm * swing * 0.4 * tall
        canvas.polygon(
            sleeve,
            (
                (x + arm * body * 0.7, shoulder),
                (x + arm * body * 1.3, shoulder),
                (hand + w * 0.5, hip),
                (hand - w * 0.5, hip),
            ),
        )
    head = (x, foot - 0.92 * tall)
    canvas.ellipse(hair, (head[0], head[1] - 0.015 * tall), 0.062 * tall, 0.078 * tall)
    canvas.ellipse(skin, (head[0], head[1] + 0.01 * tall), 0.05 * tall, 0.066 * tall)
