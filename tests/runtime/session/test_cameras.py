"""Several cameras over one backend: each sees and learns as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.method.verdict import Reason
from ocl_edge_runtime.backends import Choice, open_backend
from ocl_edge_runtime.session.cameras import Cameras, open_cameras
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image

LEARNS = RealtimeOptions(norm_every=3, adapt_every=1, statistics_limit=1e9)
SIZES = {"front": (40, 50), "left": (48, 64), "rear": (96, 31)}
ROUNDS = 8


def image(name: str, index: int) -> np.ndarray:
    """The cameras see different things, at different sizes."""
    return random_image(100 * list(SIZES).index(name) + index, *SIZES[name])


def options(head: str = "torch", **more: object) -> SessionOptions:
    return SessionOptions(lr=0.05, seed=4, threads=1, opening=1.0, head=head, backend="onnxruntime", **more)


@pytest.fixture
def cameras(small_bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[Cameras]:
    with open_cameras(small_bundle, list(SIZES), options(), LEARNS, SimulatedClock()) as opened:
        yield opened


@pytest.mark.parametrize("head", ["torch", "engine"])
def test_each_camera_is_bit_for_bit_as_if_it_were_alone(small_bundle: Bundle, head: str) -> None:
    with open_cameras(small_bundle, list(SIZES), options(head), LEARNS, SimulatedClock()) as cameras:
        together = [cameras.step({name: image(name, i) for name in SIZES}, float(i)) for i in range(ROUNDS)]
        for name in SIZES:
            with open_session(small_bundle, options(head), LEARNS, SimulatedClock()) as alone:
                for index, results in enumerate(together):
                    expected = alone.step(image(name, index), float(index))
                    assert np.array_equal(results[name].mask, expected.mask), (name, index)
                    assert results[name].verdict == expected.verdict
                assert cameras[name].weights.weights_sha256() == alone.weights.weights_sha256()
        learned = {session.weights.weights_sha256() for session in cameras.values()}
        assert len(learned) == len(SIZES), "the cameras see different things and learn different heads"


def test_frozen_and_paper_share_the_backend_too(small_bundle: Bundle) -> None:
    for method in ("frozen", "ocl-head"):
        chosen = SessionOptions(method, lr=0.05, opening=1.0, threads=1)
        with (
            open_cameras(small_bundle, ["a", "b"], chosen) as cameras,
            open_session(small_bundle, chosen) as alone,
        ):
            for index in range(3):
                seen = {"a": image("front", index), "b": image("rear", index)}
                results = cameras.step(seen)
                assert np.array_equal(results["b"].mask, alone.step(seen["b"]).mask)


def test_the_backend_is_opened_once(small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(*arguments: object, **named: object) -> Choice:
        opened.append(str(arguments[1]))
        return open_backend(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("ocl_edge_runtime.session.opening_outputs.open_backend", counted)
    monkeypatch.setattr("ocl_edge_runtime.session.opening.open_backend", counted)
    with open_cameras(small_bundle, list(SIZES), options(), LEARNS) as cameras:
        cameras.warm_up()
        cameras.step({name: image(name, 0) for name in SIZES})
    assert opened == ["onnxruntime"]


def test_masks_come_before_any_update(cameras: Cameras) -> None:
    seen: list[str] = []
    before = {name: session.weights.weights_sha256() for name, session in cameras.items()}

    def emit(name: str, mask: np.ndarray) -> None:
        seen.append(name)
        assert all(cameras[each].weights.weights_sha256() == before[each] for each in SIZES)

    results = cameras.step({name: image(name, 0) for name in SIZES}, 0.0, emit)
    assert seen == list(SIZES)
    assert all(result.verdict.applied for result in results.values())


def test_the_cameras_take_turns_in_learning_first(cameras: Cameras) -> None:
    assert {cameras.in_turn(list(SIZES))[0] for _ in range(3)} == set(SIZES)
    assert sorted(cameras.in_turn(["front"])) == ["front"]
    assert cameras.in_turn([]) == []


def test_an_update_waits_where_another_camera_does(cameras: Cameras) -> None:
    session = cameras["front"]
    session.predict(image("front", 0), 0.0)
    assert session.adapt(others_wait=True).reason is Reason.OTHERS_WAIT
    assert session.weights.distance_from_trained() == 0


def test_one_shared_head_learns_from_all(small_bundle: Bundle) -> None:
    with open_cameras(small_bundle, list(SIZES), options(), LEARNS, SimulatedClock(), "head") as cameras:
        for index, name in enumerate([*SIZES, *SIZES]):
            before = cameras["front"].weights.weights_sha256()
            assert cameras[name].step(image(name, index), float(index)).verdict.applied
            assert len({each.weights.weights_sha256() for each in cameras.values()}) == 1
            assert cameras["front"].weights.weights_sha256() != before
        statistics = [session.norms.export_state()[0]["mixed"] for session in cameras.values()]
        assert not np.array_equal(statistics[0], statistics[1]), "norms stay each camera's own"


def test_a_shared_head_goes_home_where_all_cameras_are(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    chosen = SessionOptions(lr=0.02, threads=1, frame_s=1.0)
    rules = RealtimeOptions(adapt_every=1, statistics_limit=1e9)
    with open_cameras(small_bundle, ["a", "b"], chosen, rules, SimulatedClock(), "head") as cameras:

        def step(a: float, b: float, index: int) -> None:
            for name, distance in (("a", a), ("b", b)):
                home_is["distance"] = distance
                cameras[name].step(random_image(index + (name == "b"), 48, 64), float(index))

        for index in range(0, 10, 2):
            step(9.0, 9.0, index)
        assert cameras["a"].weights.distance_from_trained() > 0
        for index in range(10, 60, 2):
            step(0.0, 9.0, index)
        assert cameras["a"].norms.openness.value == 0
        assert cameras["b"].weights.distance_from_trained() > 0, "b is away and keeps what it learned"
        for index in range(60, 120, 2):
            step(0.0, 0.0, index)
        assert cameras["b"].weights.distance_from_trained() == 0


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_cameras_need_names_of_their_own(names: list[str], small_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="a name of its own"):
        open_cameras(small_bundle, names)


def test_a_head_is_shared_where_updates_are_inline(small_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="inline updates"):
        open_cameras(small_bundle, ["a", "b"], realtime=RealtimeOptions(update="background"), share="head")
