from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ocl_edge.errors import UsageError
from ocl_edge_app.demo.world.canvas import Canvas
from ocl_edge_app.demo.world.classes import (
    BUILDING,
    CAR,
    CLASSES,
    LANE_MARK,
    PALETTE,
    PAVEMENT,
    POLE,
    ROAD,
    SKY,
)
from ocl_edge_app.demo.world.drive import FIRST_DRIVE_SEED, STRETCHES, DriveFrame, drive, weather_at
from ocl_edge_app.demo.world.layout import Lamp
from ocl_edge_app.demo.world.scene import HEIGHT, WIDTH, Scene
from ocl_edge_app.demo.world.view import SKY_DEPTH_M, View
from ocl_edge_app.demo.world.weather import DAY, FOG, NIGHT, expose


@pytest.fixture(scope="module")
def frames() -> list[DriveFrame]:
    return list(drive(25, seed=7))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(11)


def without_objects(scene: Scene, **instead: object) -> Scene:
    """The same street without anything on it but ``instead``."""
    bare = Scene(11)
    empty = {"cars": (), "trees": (), "lamps": (), "signs": (), "walkers": ()} | instead
    bare.street = dataclasses.replace(scene.street, **empty)  # type: ignore[arg-type]
    return bare


def ground_position(scene: Scene, time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """x and distance of the ground behind every labelled point, from the pinhole equations alone."""
    camera = scene.camera(time_s)
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.25  # labels belong to the first of 2x2 points
    with np.errstate(divide="ignore"):
        away = camera.focal_px * camera.height_m / (row - camera.horizon_px)
    away = np.where(away > 0, away, np.inf)
    return camera.x_m + (column - camera.centre_px) * away / camera.focal_px, away


def test_the_same_seed_gives_the_same_bits_whatever_the_global_state(frames: list[DriveFrame]) -> None:
    np.random.seed(99)
    again = list(drive(25, seed=7))
    for one, other in zip(frames, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_another_seed_gives_another_street(frames: list[DriveFrame]) -> None:
    other = next(drive(25, seed=8))
    assert (other.labels != frames[0].labels).mean() > 0.1


def test_a_drive_has_its_stretches_in_order_and_every_class(frames: list[DriveFrame]) -> None:
    assert [f.stretch for f in frames] == [name for name in STRETCHES for _ in range(5)]
    assert [f.index for f in frames] == list(range(25))
    assert all(f.image.shape == (HEIGHT, WIDTH, 3) and f.image.dtype == np.uint8 for f in frames)
    assert all(f.labels.shape == (HEIGHT, WIDTH) and f.labels.dtype == np.uint8 for f in frames)
    seen = np.unique(np.concatenate([f.labels.ravel() for f in frames]))
    assert seen.tolist() == list(range(len(CLASSES))) == list(range(len(PALETTE)))


def test_a_drive_refuses_negative_arguments() -> None:
    with pytest.raises(UsageError, match="0 or more"):
        next(drive(-1, seed=0))
    with pytest.raises(UsageError, match="0 or more"):
        next(drive(5, seed=-3))


def test_what_a_pixel_shows_and_what_it_is_labelled_agree() -> None:
    """Random shapes: the canvas against the same shapes painted in palette colours."""
    dice = np.random.default_rng(3)
    canvas, painted = Canvas(80, 60), Image.new("RGB", (80, 60), PALETTE[0])
    canvas.surface(0, (0, 0, 0), 50.0)
    brush = ImageDraw.Draw(painted)
    for number in range(1, 40):
        label = int(dice.integers(len(CLASSES)))
        points = [tuple(p) for p in dice.uniform(-10, 90, (4, 2)).tolist()]
        surface = canvas.surface(label, (10, 20, 30), float(number))
        canvas.polygon(surface, points)  # type: ignore[arg-type]
        brush.polygon(points, fill=PALETTE[label])
    labels = canvas.labels()[canvas.numbers()]
    np.testing.assert_array_equal(np.array(PALETTE, np.uint8)[labels], np.asarray(painted))


def test_road_and_pavement_lie_where_the_pinhole_equations_put_them(scene: Scene) -> None:
    bare = without_objects(scene)
    view = bare.view(1.3)
    x, away = ground_position(bare, 1.3)
    near, edge, slack = away < 25, bare.street.road_m, 0.12
    on_road = near & (np.abs(x) < edge - slack)
    beside = near & (np.abs(x) > edge + slack) & (np.abs(x) < bare.street.pavement_m - slack)
    assert on_road.sum() > 10_000
    assert beside.sum() > 1_000
    assert set(np.unique(view.labels[on_road])) == {ROAD, LANE_MARK}
    assert set(np.unique(view.labels[beside])) == {PAVEMENT}
    np.testing.assert_allclose(view.depth_m[on_road], away[on_road], rtol=0.05)


def test_facades_stand_at_their_distance_from_the_road(scene: Scene) -> None:
    bare = without_objects(scene)
    view, camera = bare.view(2.0), bare.camera(2.0)
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.25
    x = camera.x_m + (column - camera.centre_px) * view.depth_m / camera.focal_px
    up = camera.height_m - (row - camera.horizon_px) * view.depth_m / camera.focal_px
    walls = (view.labels == BUILDING) & (view.depth_m < 40) & (up < 5)  # below every roof
    fronts = np.array([b.front_m for b in bare.street.buildings])
    beside = np.abs(np.abs(x[walls])[:, None] - fronts).min(1) < 0.3
    behind = np.abs(x[walls]) > fronts.min()  # end walls reach back from the facade
    assert beside.mean() > 0.8
    assert (beside | behind).all()


def test_the_sky_is_above_the_horizon_and_nowhere_near(scene: Scene) -> None:
    view = scene.view(0.0)
    assert not (view.labels[view.horizon :] == SKY).any()
    np.testing.assert_array_equal(view.labels == SKY, view.depth_m == SKY_DEPTH_M)


def test_the_farthest_ground_is_far() -> None:
    """Its row may be rounded to just above the horizon, where the equation has no distance."""
    bare = Scene(0)
    view = bare.view(0.0)
    ground = np.isin(view.labels, (ROAD, LANE_MARK, PAVEMENT))
    assert ground[view.horizon - 1].any()
    assert view.depth_m[: view.horizon + 1][ground[: view.horizon + 1]].min() > 100


def test_a_lamp_stands_where_the_pinhole_equations_put_it(scene: Scene) -> None:
    for time_s, ahead in ((0.0, 20.0), (0.9, 20.0 - 0.9 * 8.0)):
        camera = scene.camera(time_s)
        lamp = Lamp(side=1, x_m=6.0, z_m=(scene.camera(0.0).z_m + 20.0) % 256, height_m=6.0)
        labels = without_objects(scene, lamps=(lamp,)).view(time_s).labels
        rows, columns = np.nonzero(labels == POLE)
        foot = camera.horizon_px + camera.focal_px * camera.height_m / ahead
        upright = camera.centre_px + camera.focal_px * (6.0 - camera.x_m) / ahead
        assert rows.max() == pytest.approx(foot, abs=1.5)
        assert columns[rows > foot - 10].mean() == pytest.approx(upright, abs=1.0)


def test_cars_cover_what_is_behind_them_and_nothing_else(scene: Scene) -> None:
    everything = without_objects(scene, cars=scene.street.cars, trees=scene.street.trees)
    no_cars = without_objects(scene, trees=scene.street.trees)
    view, behind = everything.view(0.5), no_cars.view(0.5)
    cars = view.labels == CAR
    assert cars.sum() > 1_000
    np.testing.assert_array_equal(view.labels[~cars], behind.labels[~cars])
    np.testing.assert_array_equal(view.depth_m[~cars], behind.depth_m[~cars])
    assert not (behind.labels == CAR).any()


def test_a_nearer_car_hides_a_farther_one(scene: Scene) -> None:
    car = dataclasses.replace(scene.street.cars[0], x_m=1.75, speed_mps=0.0, length_m=4.0)
    start = scene.camera(0.0).z_m
    near, far = (dataclasses.replace(car, z_m=start + ahead) for ahead in (12.0, 30.0))
    both = without_objects(scene, cars=(near, far)).view(0.0)
    alone = without_objects(scene, cars=(near,)).view(0.0)
    hidden = (alone.labels == CAR) & (both.labels == CAR)
    assert both.depth_m[hidden].max() < 17


def flat_view(depth_m: np.ndarray) -> View:
    """Grey 128 everywhere, at those depths, no sky, no ground."""
    height, width = depth_m.shape
    nothing = np.zeros((height, width), np.float32)
    return View(
        colour=np.full((height, width, 3), 128, np.uint8),
        labels=np.full((height, width), BUILDING, np.uint8),
        depth_m=depth_m.astype(np.float32), sky=nothing, ground=nothing, sunlit=nothing + 1,
        glow=np.zeros((height, width, 3), np.uint8), lamplight=nothing, clouds=nothing[: height // 2],
        puddles=nothing[height // 2 :], horizon=height // 2,
    )  # fmt: skip


def test_fog_follows_the_exact_depth() -> None:
    depth = np.tile(np.linspace(3, 120, 41), (21, 1))
    fog = dataclasses.replace(FOG, noise=0.0, lamps=0.0)
    image = expose(flat_view(depth), fog, np.random.default_rng(0))
    for column in (20, 25, 30):  # on the middle row, where the vignette is 1 - 0.1 x^2
        through = np.exp(-fog.fog_per_m * depth[10, column])
        light = (128 / 255) ** 2 * np.array(fog.daylight) * through + np.array(fog.fog) * (1 - through)
        expected = 255 * np.sqrt(light * (1 - 0.1 * (column / 20 - 1) ** 2))
        np.testing.assert_allclose(image[10, column], expected, atol=1.0)


def test_noise_has_the_stated_strength() -> None:
    quiet, loud = (dataclasses.replace(DAY, noise=n) for n in (0.0, 0.04))
    view = flat_view(np.full((96, 128), 5.0))
    clean = expose(view, quiet, np.random.default_rng(0)).astype(float)
    noisy = expose(view, loud, np.random.default_rng(0)).astype(float)
    expected = 255 * 0.04 * (1.25 - 0.5 * clean.mean() / 255)
    assert (noisy - clean).std() == pytest.approx(expected, rel=0.03)


def test_stretches_look_as_they_are_called() -> None:
    scene = Scene(FIRST_DRIVE_SEED + 1)
    images = {
        name: expose(scene.view(1.0, w.sun), w, np.random.default_rng(0)).astype(float)
        for name, w in STRETCHES.items()
    }
    light = {name: np.square(image).mean() for name, image in images.items()}
    assert light["night"] < 0.75 * light["dusk"]
    assert light["dusk"] < 0.7 * light["day"]
    view = scene.view(1.0)
    far = (view.depth_m > 40) & (view.labels != SKY)
    assert images["fog"][far].std() < 0.4 * images["day"][far].std()
    dusk_sky = images["dusk"][60:80, 150:170]
    assert dusk_sky[..., 0].mean() > 1.1 * dusk_sky[..., 2].mean()  # red before blue


def test_weather_turns_without_a_jump() -> None:
    moments = [weather_at(i / 1000)[1] for i in range(1000)]
    steps = [abs(a.fog_per_m - b.fog_per_m) for a, b in pairwise(moments)]
    assert max(steps) < 0.1 * FOG.fog_per_m
    assert moments[0] == DAY
    assert moments[-1].exposure == pytest.approx(NIGHT.exposure)
