"""Draws what stands and moves on the ground: trees, lamps, signs, people."""

from __future__ import annotations

import math

from ocl_edge.demo.camera import Camera
from ocl_edge.demo.canvas import DARK, Canvas, Colour
from ocl_edge.demo.classes import PEDESTRIAN, POLE, SIGN, TREE
from ocl_edge.demo.draw_ground import shaded
from ocl_edge.demo.layout import Lamp, Sign, Tree, Walker

METAL: Colour = (96, 102, 104)
LAMP_LIGHT: Colour = (255, 214, 150)
WHITE: Colour = (236, 236, 232)
RED: Colour = (196, 26, 34)
BLUE: Colour = (28, 78, 168)


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
    """A traffic sign of one of five kinds, or a traffic light (kind 5), on its pole."""
    scale = camera.pixels_per_metre(ahead)
    x, foot = camera.project(sign.x_m, 0, ahead)
    _, y = camera.project(sign.x_m, sign.height_m, ahead)
    half = max(0.05 * scale, 0.5)
    pole = canvas.surface(POLE, (128, 132, 134), ahead)
    canvas.polygon(pole, ((x - half, foot), (x - half, y), (x + half, y), (x + half, foot)))
    r = sign.size_m * scale / 2

    def plate(
        colour: Colour, points: tuple[tuple[float, float], ...], size: float, glow: Colour = DARK
    ) -> None:
        surface = canvas.surface(SIGN, colour, ahead, glow)
        canvas.polygon(surface, [(x + px * r * size, y + py * r * size) for px, py in points])

    disc = tuple((math.cos(a * math.pi / 6), math.sin(a * math.pi / 6)) for a in range(12))
    square = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
    if sign.kind == 0:  # a speed limit
        plate(RED, disc, 1.0)
        plate(WHITE, disc, 0.74)
        plate((30, 30, 30), ((-0.4, -0.3), (0.4, -0.3), (0.4, 0.3), (-0.4, 0.3)), 0.8)
    elif sign.kind == 1:  # a warning
        plate(RED, ((0, -1.1), (1.1, 0.9), (-1.1, 0.9)), 1.0)
        plate(WHITE, ((0, -0.9), (1.1, 1.0), (-1.1, 1.0)), 0.68)
    elif sign.kind == 2:  # parking
        plate(WHITE, square, 0.9)
        plate(BLUE, square, 0.8)
        plate(WHITE, ((-0.3, -0.6), (0.3, -0.6), (0.3, 0.0), (-0.05, 0.0), (-0.05, 0.6), (-0.3, 0.6)), 0.8)
    elif sign.kind == 3:  # stop
        octagon = tuple(
            (math.cos(a * math.pi / 4 + 0.39), math.sin(a * math.pi / 4 + 0.39)) for a in range(8)
        )
        plate(WHITE, octagon, 1.05)
        plate(RED, octagon, 0.95)
        plate(WHITE, ((-0.6, -0.18), (0.6, -0.18), (0.6, 0.18), (-0.6, 0.18)), 1.0)
    elif sign.kind == 4:  # priority road
        plate(WHITE, ((0, -1.15), (1.15, 0), (0, 1.15), (-1.15, 0)), 1.0)
        plate((238, 186, 28), ((0, -1.15), (1.15, 0), (0, 1.15), (-1.15, 0)), 0.74)
    else:  # a traffic light: 6 s green, 1 s amber, 5 s red
        plate((34, 36, 36), ((-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)), 1.0)
        phase = (time_s + sign.z_m) % 12
        lit = 2 if phase < 6 else 1 if phase < 7 else 0
        for position, colour in enumerate(((255, 50, 40), (255, 190, 50), (60, 240, 130))):
            shown = colour if position == lit else shaded(colour, 0.25)
            lens = tuple((px * 0.34, py * 0.34 + (position - 1) * 0.76) for px, py in disc)
            plate(shown, lens, 1.0, colour if position == lit else DARK)


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
