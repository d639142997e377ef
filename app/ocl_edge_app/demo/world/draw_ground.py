"""Draws what lies on the ground and what closes the street off: road, marks, shadows, houses."""

from __future__ import annotations

from collections.abc import Iterator

from ocl_edge_app.demo.world.camera import NEAR_M, Camera, Point
from ocl_edge_app.demo.world.canvas import GROUND_M, Canvas, Colour
from ocl_edge_app.demo.world.classes import BUILDING, LANE_MARK, PAVEMENT, ROAD
from ocl_edge_app.demo.world.layout import STREET_M, Building, Street

SEEN_M = 130.0
GROUND_FROM_M = 2.0
"""Nearer ground lies below the image."""
PAINT: Colour = (214, 212, 204)
SKYLINE = (
    (-60, 14), (-46, 22), (-33, 11), (-24, 17), (-13, 9), (-5, 12), (4, 8),
    (12, 15), (22, 10), (33, 20), (48, 13), (62, 18),
)  # fmt: skip


def ahead_of(camera: Camera, z_m: float, length_m: float = 0.0) -> float:
    """Distance to something at ``z_m`` of the repeating street, the first whose end is not behind us."""
    return (z_m + length_m - camera.z_m) % STREET_M - length_m


def shaded(colour: Colour, brightness: float) -> Colour:
    red, green, blue = (max(0, min(255, round(c * brightness))) for c in colour)
    return red, green, blue


def draw_ground(canvas: Canvas, camera: Camera, street: Street) -> None:
    """Pavement everywhere, the road on it, kerbs, and the marks on the road."""
    pavement = canvas.surface(PAVEMENT, street.pavement_colour, GROUND_M)
    kerb = canvas.surface(PAVEMENT, shaded(street.pavement_colour, 1.22), GROUND_M)
    grey = street.road_grey
    road = canvas.surface(ROAD, (grey, grey, grey + 4), GROUND_M)
    gutter = canvas.surface(ROAD, (grey - 22, grey - 22, grey - 20), GROUND_M)
    mark = canvas.surface(LANE_MARK, PAINT, GROUND_M)

    def strip(surface: int, left: float, right: float, near: float, far: float) -> None:
        near = max(near, GROUND_FROM_M)
        canvas.polygon(
            surface,
            (camera.project(left, 0, near), camera.project(left, 0, far),
             camera.project(right, 0, far), camera.project(right, 0, near)),
        )  # fmt: skip

    edge = street.road_m
    strip(pavement, -400, 400, GROUND_FROM_M, 4000)
    strip(kerb, -edge - 0.3, edge + 0.3, GROUND_FROM_M, SEEN_M)
    strip(gutter, -edge, edge, GROUND_FROM_M, SEEN_M)
    strip(road, -edge + 0.35, edge - 0.35, GROUND_FROM_M, SEEN_M)
    for near, far in _dashes(camera, period=6.0, length=3.2):
        strip(mark, -0.09, 0.09, near, far)
    for side in (-1, 1):  # the edge of the parking lane
        for near, far in _dashes(camera, period=2.0, length=1.0):
            x = side * (edge - 2.1)
            strip(mark, x - 0.07, x + 0.07, near, far)
    for crossing in street.crossings_m:
        ahead = ahead_of(camera, crossing, 4)
        if ahead < 70:
            for stripe in range(-4, 5):
                x = stripe * edge / 4.8
                strip(mark, x - 0.28, x + 0.28, ahead - 1.6, ahead + 1.6)
            strip(mark, 0.2, edge - 2.2, ahead - 3.4, ahead - 3.0)


def _dashes(camera: Camera, period: float, length: float) -> Iterator[tuple[float, float]]:
    start = -(camera.z_m % period)
    while start < 60:
        if start + length > GROUND_FROM_M:
            yield start, start + length
        start += period


def draw_skyline(canvas: Canvas, camera: Camera) -> None:
    """Far houses where the street ends; they keep their distance."""
    for index, (x, height) in enumerate(SKYLINE):
        grey = 128 + index * 29 % 40
        far = canvas.surface(BUILDING, (grey, grey + 4, grey + 12), SEEN_M + 40)
        left, top = camera.project(camera.x_m + x * 1.3 - 8, height * 1.1, SEEN_M + 40)
        right, bottom = camera.project(camera.x_m + x * 1.3 + 8, 0, SEEN_M + 40)
        canvas.polygon(far, ((left, top), (right, top), (right, bottom), (left, bottom)))


def draw_buildings(canvas: Canvas, camera: Camera, street: Street, sun: float) -> None:
    """Every building in sight, the far ones first."""
    placed = ((ahead_of(camera, b.start_m, b.end_m - b.start_m), b) for b in street.buildings)
    for ahead, building in sorted((p for p in placed if p[0] < SEEN_M), key=lambda p: -p[0]):
        _draw_building(canvas, camera, building, ahead, 1 - 0.32 * sun * (building.side == street.sun_side))


def _draw_building(
    canvas: Canvas, camera: Camera, building: Building, ahead: float, brightness: float
) -> None:
    near, far = max(ahead, NEAR_M), ahead + building.end_m - building.start_m
    side, top = building.side, building.height_m
    front = side * building.front_m

    def quad(surface: int, corners: tuple[tuple[float, float, float], ...]) -> None:
        points: list[Point] = [camera.project(*corner) for corner in corners]
        canvas.polygon(surface, points)

    if building.roof is not None:
        back, ridge = front + side * 4, top + 3.0
        tiles = canvas.surface(BUILDING, shaded(building.roof, brightness), (near + far) / 2)
        quad(tiles, ((front, top, near), (front, top, far), (back, ridge, far), (back, ridge, near)))
    if ahead > NEAR_M:
        deep = front + side * 12
        end = canvas.surface(BUILDING, shaded(building.colour, 0.74 * brightness), near)
        quad(end, ((front, 0, near), (front, top, near), (deep, top, near), (deep, 0, near)))
        if building.roof is not None:
            middle = front + side * 4
            quad(end, ((front, top, near), (middle, top + 3, near), (deep, top, near)))
        chimney = canvas.surface(BUILDING, shaded((136, 84, 70), brightness), near + 2)
        x, z = front + side * 3.2, near + 2
        outer = x + side * 0.9
        quad(chimney, ((x, top, z), (x, top + 3.8, z), (outer, top + 3.8, z), (outer, top, z)))
    light = shaded((255, 255, 255), brightness)
    wall = canvas.surface(BUILDING, light, near, wall_m=front - camera.x_m)
    quad(wall, ((front, 0, near), (front, top, near), (front, top, far), (front, 0, far)))
