"""A street whose houses, trees, cars and people are drawn at random, all from one seed."""

from __future__ import annotations

import numpy as np

from ocl_edge_app.demo.world.canvas import Colour
from ocl_edge_app.demo.world.layout import STREET_M, Building, Car, Lamp, Sign, Street, Tree, Walker

WALL_COLOURS: tuple[Colour, ...] = (
    (196, 178, 150), (178, 112, 88), (206, 196, 180), (158, 146, 134), (190, 150, 110), (146, 92, 76),
    (172, 176, 178), (210, 184, 134), (150, 160, 150), (186, 132, 120),
)  # fmt: skip
ROOF_COLOURS: tuple[Colour, ...] = ((132, 66, 52), (92, 82, 80), (110, 76, 62), (74, 80, 90))
AWNING_COLOURS: tuple[Colour, ...] = (
    (160, 44, 40), (38, 84, 60), (40, 60, 110), (200, 160, 60), (90, 50, 80),
)  # fmt: skip
CAR_COLOURS: tuple[Colour, ...] = (
    (176, 30, 34), (200, 204, 208), (38, 42, 50), (36, 70, 140), (232, 232, 228), (120, 124, 128),
    (28, 90, 84), (196, 150, 50), (88, 34, 40),
)  # fmt: skip
CLOTH_COLOURS: tuple[Colour, ...] = (
    (170, 40, 50), (40, 70, 150), (230, 200, 70), (50, 120, 80), (220, 220, 215), (60, 50, 60),
    (210, 120, 50),
)  # fmt: skip
SKIN_COLOURS: tuple[Colour, ...] = ((236, 196, 166), (198, 142, 106), (130, 86, 62), (92, 60, 46))
LEAF_COLOURS: tuple[Colour, ...] = ((72, 112, 44), (92, 124, 48), (56, 98, 52), (112, 126, 50), (64, 104, 66))


def random_street(rng: np.random.Generator) -> Street:
    """A street; the same generator gives the same one."""
    road = float(rng.uniform(5.0, 5.8))
    pavement = float(rng.uniform(2.6, 3.8))
    crossings = tuple(float(z) for z in np.sort(rng.uniform(0, 1, 3) * 50 + np.array([10, 95, 180])))
    warm = int(rng.integers(-4, 10))
    light = int(rng.integers(140, 178))
    return Street(
        road_m=road,
        pavement_m=road + pavement,
        buildings=tuple(b for side in (-1, 1) for b in _row_of_buildings(rng, side, road + pavement)),
        trees=_trees(rng, road, crossings),
        lamps=_lamps(rng, road),
        signs=_signs(rng, road, crossings),
        cars=(*_parked_cars(rng, road, crossings), *_moving_cars(rng)),
        walkers=_walkers(rng, road, pavement, crossings),
        crossings_m=crossings,
        road_grey=int(rng.integers(84, 112)),
        pavement_colour=(light + warm, light, light - warm),
        sun_side=int(rng.choice((-1, 1))),
        sun_slope=float(rng.uniform(0.9, 2.6)),
    )


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: int = 12) -> Colour:
    """One of the colours, a little off."""
    base = colours[int(rng.integers(len(colours)))]
    red, green, blue = (int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in base)
    return red, green, blue


def _row_of_buildings(rng: np.random.Generator, side: int, front: float) -> list[Building]:
    row, z = [], float(rng.uniform(0, 4))
    while STREET_M - z > 9:
        end = min(z + float(rng.uniform(9, 22)), STREET_M)
        floors = int(rng.integers(2, 6))
        floor_m = float(rng.uniform(2.9, 3.5))
        row.append(
            Building(
                side=side,
                start_m=z,
                end_m=end,
                front_m=front + float(rng.choice((0.0, 0.0, 0.8, 2.2))),
                floors=floors,
                floor_m=floor_m,
                height_m=floors * floor_m + 0.6,
                colour=_pick(rng, WALL_COLOURS),
                roof=_pick(rng, ROOF_COLOURS) if rng.random() < 0.6 else None,
                window_pitch_m=float(rng.uniform(2.2, 3.6)),
                window_share=float(rng.uniform(0.4, 0.65)),
                has_shops=bool(rng.random() < 0.5),
                awnings=tuple(_pick(rng, AWNING_COLOURS) for _ in range(3)),
            )
        )
        z = end + (float(rng.uniform(3, 9)) if rng.random() < 0.3 else 0.0)
    return row


def _trees(rng: np.random.Generator, road: float, crossings: tuple[float, ...]) -> tuple[Tree, ...]:
    trees = []
    for side in (-1, 1):
        spacing = float(rng.uniform(9, 18))
        for z in np.arange(rng.uniform(0, spacing), STREET_M - 2, spacing):
            if rng.random() < 0.25 or min(abs(z - c) for c in crossings) < 5:
                continue
            height = float(rng.uniform(5.0, 8.0))
            angle = rng.uniform(0, 2 * np.pi, 15)
            away = np.sqrt(rng.uniform(0, 1, 15)) * 0.75
            order = np.argsort(np.sin(angle) * away)  # low, dark clumps first, bright ones on top
            blobs = tuple(
                (
                    float(np.cos(angle[i]) * away[i]),
                    float(np.sin(angle[i]) * away[i] * 0.85),
                    float(rng.uniform(0.3, 0.5)),
                    float(0.95 + 0.3 * np.sin(angle[i]) * away[i] + rng.uniform(-0.12, 0.12)),
                )
                for i in order
            )
            trees.append(
                Tree(
                    side * (road + 0.9),
                    float(z),
                    height,
                    float(rng.uniform(1.5, 2.4)),
                    _pick(rng, LEAF_COLOURS),
                    blobs,
                )
            )
    return tuple(trees)


def _lamps(rng: np.random.Generator, road: float) -> tuple[Lamp, ...]:
    spacing, height = STREET_M / 10, float(rng.uniform(5.5, 7.0))
    first = float(rng.uniform(0, spacing))
    return tuple(
        Lamp(1 if i % 2 else -1, (1 if i % 2 else -1) * (road + 0.45), first + i * spacing, height)
        for i in range(10)
    )


def _signs(rng: np.random.Generator, road: float, crossings: tuple[float, ...]) -> tuple[Sign, ...]:
    apart = STREET_M / 10
    signs = [
        Sign(
            x_m=side * (road + 0.6),
            z_m=place * apart + float(rng.uniform(0, apart - 8)),
            kind=int(rng.integers(0, 5)),
            size_m=float(rng.uniform(0.75, 1.1)),
            height_m=float(rng.uniform(2.3, 3.0)),
        )
        for side in (-1, 1)
        for place in range(10)
        if rng.random() < 0.9
    ]
    lights = [Sign(side * (road + 0.5), z + side * 2.2, 5, 0.9, 3.2) for z in crossings for side in (-1, 1)]
    return (*signs, *lights)


def _some_car(rng: np.random.Generator, x: float, z: float, speed: float, faces_us: bool) -> Car:
    is_van = bool(rng.random() < 0.2)
    return Car(
        x, z, speed, _pick(rng, CAR_COLOURS),
        float(rng.uniform(4.8, 5.6) if is_van else rng.uniform(3.8, 4.6)),
        float(rng.uniform(1.7, 1.9)), float(rng.uniform(2.0, 2.3) if is_van else rng.uniform(1.4, 1.6)),
        faces_us, is_van,
    )  # fmt: skip


def _parked_cars(rng: np.random.Generator, road: float, crossings: tuple[float, ...]) -> list[Car]:
    return [
        _some_car(rng, side * (road - 1.1), z + float(rng.uniform(-0.4, 0.4)), 0.0, side < 0)
        for side in (-1, 1)
        for z in np.arange(3.0, STREET_M - 6, 6.4).tolist()
        if rng.random() < 0.45 and min(abs(z + 2 - c) for c in crossings) > 6
    ]


def _moving_cars(rng: np.random.Generator) -> list[Car]:
    oncoming = [
        _some_car(rng, -1.75, float(z), -7.5, True)
        for z in np.arange(rng.uniform(0, 30), STREET_M - 12, 34) + rng.uniform(-6, 6)
        if rng.random() < 0.7
    ]
    ahead = [_some_car(rng, 1.75, float(rng.uniform(13, 30)), 8.0, False)]  # drives in front of us
    if rng.random() < 0.6:
        ahead.append(_some_car(rng, 1.75, float(rng.uniform(42, 70)), 8.0, False))
    return oncoming + ahead


def _walkers(
    rng: np.random.Generator, road: float, pavement: float, crossings: tuple[float, ...]
) -> tuple[Walker, ...]:
    def walker(x: float, z: float, speed: float, crosses: bool) -> Walker:
        return Walker(
            x, z, speed, float(rng.uniform(1.55, 1.9)), _pick(rng, CLOTH_COLOURS),
            _pick(rng, ((44, 48, 66), (70, 62, 56), (34, 34, 38), (110, 104, 96))), _pick(rng, SKIN_COLOURS),
            float(rng.uniform(0, 6.28)), crosses,
        )  # fmt: skip

    strolling = [
        walker(
            float(rng.choice((-1, 1)) * rng.uniform(road + 0.7, road + pavement - 0.5)), z,
            float(rng.choice((-1.3, 1.3, 1.0, 0.0))), False,
        )
        for z in rng.uniform(0, STREET_M, 44).tolist()
    ]  # fmt: skip
    across = [
        walker(float(rng.choice((-1, 1))) * (road + 1), z + float(rng.uniform(-1.2, 1.2)), 1.6, True)
        for z in crossings
        for _ in range(2)
    ]
    return (*strolling, *across)
