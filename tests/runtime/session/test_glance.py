"""At home norms are measured once a second, and at once where a picture looks new."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.session.glance import Glance
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sources import NoiseSource
from tests.doubles.clock import SimulatedClock

Pixels = NDArray[np.uint8]
FPS = 20
(PICTURE,) = (frame.image for frame in NoiseSource(120, 160, 1, seed=5))


def grainy(image: Pixels, deviation: float, seed: int = 0) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, deviation, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def blurred(image: Pixels) -> Pixels:
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2)))


def veiled(image: Pixels) -> Pixels:
    return (image * 0.7 + 70).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "change", [lambda i: grainy(i, 25), blurred, veiled, lambda i: i // 2, lambda i: 255 - i]
)
def test_weather_looks_new(change: Callable[[Pixels], Pixels]) -> None:
    glance = Glance()
    assert glance.looks_new(PICTURE)
    glance.keep()
    assert glance.looks_new(change(PICTURE))
    assert not glance.looks_new(PICTURE)


@pytest.mark.parametrize("change", [blurred, veiled, lambda i: i // 2])
def test_weather_looks_new_on_the_frames_of_large_cameras(change: Callable[[Pixels], Pixels]) -> None:
    large = np.tile(PICTURE, (18, 18, 1))  # 2160 rows, of which fewer are looked at
    glance = Glance()
    glance.looks_new(large)
    glance.keep()
    assert glance.looks_new(change(large))
    assert not glance.looks_new(np.roll(large, 90, 1))


def test_a_street_that_goes_by_does_not() -> None:
    glance = Glance()
    glance.looks_new(PICTURE)
    glance.keep()
    assert not glance.looks_new(np.roll(PICTURE, 5, 1))
    assert not glance.looks_new(grainy(PICTURE, 1.5))


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 9, 3), (40, 50, 1), (40, 50, 4)])
def test_pictures_of_any_shape_are_looked_at(shape: tuple[int, ...]) -> None:
    glance = Glance()
    glance.looks_new(PICTURE)
    glance.keep()
    glance.looks_new(np.zeros(shape, np.uint8))
    glance.keep()
    assert not glance.looks_new(np.zeros(shape, np.uint8))


def play(session: Session, first: int, last: int, change: Callable[[Pixels], Pixels] = np.copy) -> list[bool]:
    """Which of these frames were measured."""
    results = [session.step(grainy(change(PICTURE), 1, index), index / FPS) for index in range(first, last)]
    return [result.decided.measured for result in results]


def following(bundle: Bundle, norm_every: int = 1) -> Session:
    options = SessionOptions(backend="onnxruntime", threads=1)
    return open_session(bundle, options, RealtimeOptions(norm_every), SimulatedClock())


@pytest.mark.parametrize("norm_every", [1, 5])
def test_at_home_norms_are_measured_once_a_second(
    small_bundle: Bundle, home_is: dict[str, float], norm_every: int
) -> None:
    with following(small_bundle, norm_every) as session:
        measured = play(session, 0, 3 * FPS)
    assert [index for index, was in enumerate(measured) if was] == [0, FPS, 2 * FPS]


def test_away_every_frame_is_measured(small_bundle: Bundle, home_is: dict[str, float]) -> None:
    home_is["distance"] = 3.0
    with following(small_bundle) as session:
        assert all(play(session, 0, FPS))


def test_a_picture_that_looks_new_is_measured_at_once(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    with following(small_bundle) as session:
        play(session, 0, 5)
        home_is["distance"] = 3.0
        assert all(play(session, 5, 15, veiled))
        assert session.step(veiled(PICTURE), 15 / FPS).opening > 0


def test_what_does_not_look_new_is_found_within_a_second(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    with following(small_bundle) as session:
        play(session, 0, 5)
        home_is["distance"] = 3.0
        measured = play(session, 5, 2 * FPS)
    assert measured.index(True) == FPS - 5
    assert all(measured[FPS - 5 :])


def test_a_resumed_session_rests_like_the_one_that_was_saved(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    with following(small_bundle) as whole, following(small_bundle) as resumed:
        play(whole, 0, 7)
        tensors, facts = whole.export_state()
        resumed.import_state(tensors, {**facts, "saved_at": 0.0})  # its clock stands at 0, too
        assert play(resumed, 7, 2 * FPS) == play(whole, 7, 2 * FPS)
