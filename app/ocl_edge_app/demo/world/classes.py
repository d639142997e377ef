"""What the drawn street consists of."""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    "sky", "road", "lane mark", "pavement", "building", "tree", "pole", "sign", "car", "pedestrian",
)  # fmt: skip
SKY, ROAD, LANE_MARK, PAVEMENT, BUILDING, TREE, POLE, SIGN, CAR, PEDESTRIAN = range(10)

PALETTE: tuple[tuple[int, int, int], ...] = (
    (110, 170, 220), (110, 80, 125), (245, 240, 210), (215, 120, 190), (95, 95, 105),
    (95, 150, 50), (190, 170, 140), (240, 200, 20), (30, 60, 190), (225, 45, 60),
)  # fmt: skip
"""A colour for every class, RGB."""
